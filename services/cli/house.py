"""The loop on this machine: up, down, status."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from feedbackloop.errors import FeedbackLoopError, SettingsError, StateUnavailable
from services import addresses, supervisor, wiring_spool
from services.cli.api import Api
from services.cli.output import REFUSED, WRONG_USAGE, Json, emit, err, explained, facts, out, table
from services.settings import Settings, load

_POLL_SECONDS = 0.3
_START_SECONDS = 600.0
_TRIES = 3
_LAST_LINES = 15


def up(
    model: Annotated[str, typer.Option(help="Folder or hub id of the base.")] = "",
    alias: Annotated[str, typer.Option(help="The model name that clients use.")] = "assistant",
    foreground: Annotated[bool, typer.Option(help="Stay, for containers.")] = False,
    as_json: Json = False,
) -> None:
    """Start vLLM, sidecar, scheduler and archiver on this machine, and leave them running."""
    with explained():
        _set(model, alias)
        settings = load()
        _check(settings, alias)
        if foreground:
            raise typer.Exit(supervisor.main())
        process = _detach(settings)
        try:
            _wait_until_ready(settings, process)
        except (FeedbackLoopError, KeyboardInterrupt):
            process.terminate()
            process.wait()
            raise
    addresses = {
        "openai": f"http://{settings.sidecar.bind}/v1",
        "model": alias,
        "admin": f"http://{settings.sidecar.admin_bind}",
        "scheduler": f"http://{settings.scheduler.bind}",
        "keys_required": settings.keys.required,
    }
    emit(addresses, as_json=as_json, show=lambda: _welcome(settings, alias))


def _welcome(settings: Settings, alias: str) -> None:
    bind = settings.sidecar.bind
    key = " -H 'authorization: Bearer KEY'" if settings.keys.required else ""
    out.print(f"The loop is up. Point any OpenAI client at http://{bind}/v1, model {alias}:")
    out.print(
        f"  curl http://{bind}/v1/chat/completions -H 'content-type: application/json'{key} -d "
        f'\'{{"model": "{alias}", "messages": [{{"role": "user", "content": "Hello"}}]}}\'',
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if settings.keys.required:
        out.print("`feedbackloop keys create` makes an API key.")
    else:
        out.print("API keys are not asked for: only this machine can reach it.")


def down(as_json: Json = False) -> None:
    """End what ``up`` left running; what people were answered is kept."""
    with explained():
        settings = load()
        state = supervisor.read_state(settings.home)
        if state is None:
            raise FeedbackLoopError(f"no loop is up in {settings.home}")
        os.kill(state.pid, signal.SIGTERM)
        deadline = time.monotonic() + 120
        while supervisor.read_state(settings.home) is not None:
            if time.monotonic() > deadline:
                raise FeedbackLoopError(f"the supervisor {state.pid} has not ended in 2 minutes")
            time.sleep(_POLL_SECONDS)
    emit({"down": state.pid}, as_json=as_json, show=lambda: out.print("The loop is down."))


def status(as_json: Json = False) -> None:
    """Show the processes, what is served, the last runs, and how much there is to learn from."""
    with explained():
        settings = load()
        state = supervisor.read_state(settings.home)
        found: dict[str, Any] = {
            "supervisor": None if state is None else state.pid,
            "processes": [] if state is None else state.children,
            "sidecar": _ask(f"http://{settings.sidecar.admin_bind}/readyz"),
            "releases": None,
            "runs": None,
            "due": None,
            "spool_behind_bytes": wiring_spool.spool_behind_bytes(settings, settings.sidecar.name),
        }
        try:
            api = Api(settings)
            found["releases"] = api.get("/api/releases")
            found["runs"] = api.get("/api/runs", limit=5)
            found["due"] = {
                d["alias"]: api.get(f"/api/plan/{d['alias']}") for d in found["releases"]
            }
        except StateUnavailable as error:
            err.print(str(error), style="yellow", markup=False, soft_wrap=True)
    emit(found, as_json=as_json, show=lambda: _show(found))
    if state is None:
        raise typer.Exit(REFUSED)


def _set(model: str, alias: str) -> None:
    """Turn options, and what nobody said, into settings, which the supervisor's children read."""
    given = load()
    if model:
        path = Path(model)
        os.environ["FEEDBACKLOOP_VLLM__MODEL"] = str(path.resolve()) if path.exists() else model
    if not given.aliases:
        os.environ[f"FEEDBACKLOOP_ALIASES__{alias.upper()}__BASE"] = given.vllm.served_name
    binds = [given.sidecar.bind, given.sidecar.admin_bind, given.scheduler.bind]
    if given.archiver.enabled:
        binds.append(given.archiver.bind)
    alone = all(addresses.is_loopback(addresses.split(bind)[0]) for bind in binds)
    if alone and "required" not in given.keys.model_fields_set:
        # Nobody else can call, and nobody asked for keys.
        os.environ["FEEDBACKLOOP_KEYS__REQUIRED"] = "false"


def _check(settings: Settings, alias: str) -> None:
    """Find before the start what would keep the children from starting.

    Raises:
        SettingsError: If a setting is in the way.
        FeedbackLoopError: If a loop runs in this home folder already.
    """
    if supervisor.read_state(settings.home) is not None:
        raise FeedbackLoopError(f"the loop in {settings.home} is up already")
    supervisor.specs(settings)
    if alias not in settings.aliases:
        known = ", ".join(sorted(settings.aliases))
        raise SettingsError(f"--alias {alias}: the settings name {known}")
    binds = [("sidecar", "bind"), ("sidecar", "admin_bind"), ("scheduler", "bind")]
    if settings.archiver.enabled:
        binds.append(("archiver", "bind"))
    for section, field in binds:
        setting = f"FEEDBACKLOOP_{section}__{field}".upper()
        addresses.listen(setting, getattr(getattr(settings, section), field)).close()


def _detach(settings: Settings) -> subprocess.Popen[bytes]:
    folder = settings.home.resolve() / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "services.supervisor"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "FEEDBACKLOOP_HOME": str(settings.home.resolve())},
        )


def _wait_until_ready(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    """Wait for sidecar and scheduler, telling what is still missing."""
    urls = {
        "vLLM and sidecar": f"http://{settings.sidecar.admin_bind}/readyz",
        "scheduler": f"http://{settings.scheduler.bind}/readyz",
    }
    if settings.archiver.enabled:
        urls["archiver"] = f"http://{settings.archiver.bind}/readyz"
    deadline = time.monotonic() + _START_SECONDS
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("starting")
        while missing := [name for name, url in urls.items() if not _is_ready(url)]:
            progress.update(task, description=f"waiting for {', '.join(missing)}")
            broken = _broken(settings.home)
            if broken is None and process.poll() is not None:
                broken = "supervisor"
            if broken is not None:
                raise FeedbackLoopError(f"{broken} does not start: {_last_words(settings, broken)}")
            if time.monotonic() > deadline:
                raise FeedbackLoopError(
                    f"{', '.join(missing)} not ready after {_START_SECONDS:.0f} s: see"
                    f" {settings.home / 'run'}/*.log"
                )
            time.sleep(_POLL_SECONDS)


def _broken(home: Path) -> str | None:
    """Name a child that another try would not help."""
    state = supervisor.read_state(home)
    for child in state.children if state is not None else ():
        if child.last_exit == WRONG_USAGE or child.restarts >= _TRIES:
            return child.name
    return None


def _last_words(settings: Settings, name: str) -> str:
    file = settings.home / "run" / f"{name}.log"
    lines = file.read_text(errors="replace").splitlines()[-_LAST_LINES:] if file.exists() else []
    return "\n".join([f"the end of {file}:", *lines])


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _ask(url: str) -> Any:  # noqa: ANN401  # any JSON
    try:
        return httpx.get(url, timeout=2, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return None


def _served(document: dict[str, Any]) -> str:
    canary = document["canary"]
    share = f", {canary['name']} at {document['canary_share']:.0%}" if canary else ""
    frozen = ", frozen" if document["frozen"] else ""
    return f"{document['stable']['name']} at epoch {document['epoch']}{share}{frozen}"


def _show(found: dict[str, Any]) -> None:
    now = time.time()
    rows = [
        (c.name, c.pid or "waiting", f"{now - c.since:.0f} s", c.restarts, c.last_exit)
        for c in found["processes"]
    ]
    table(("process", "pid", "since", "restarts", "last exit"), rows)
    if found["sidecar"] is not None:
        facts({"sidecar": found["sidecar"]})
    facts({"recorded, not yet in the log": f"{found['spool_behind_bytes']} bytes"})
    for document in found["releases"] or []:
        due = found["due"][document["alias"]]
        facts(
            {
                document["alias"]: _served(document),
                "labels": ", ".join(f"{count} {kind}" for kind, count in due["counts"].items()),
                "next run": due["reason"],
            }
        )
    runs = [(r["run"], r["state"], r["reason"]) for r in found["runs"] or []]
    if runs:
        table(("run", "state", "reason"), runs)
