"""The launcher of steps as processes of this machine, which outlive whoever started them.

An attempt is a folder: who runs in it, what it printed, how far it is, and what came out.
Everything is read back from there, so a scheduler that was restarted knows as much as before.
Linux only: a process is told from a later one with its number by ``/proc``.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.events import RunId
from feedbackloop.training.port import StepStatus
from feedbackloop.training.run import RunState

_RESULT, _PROGRESS, _LOG = "result.json", "progress.json", "log.txt"
_PROCESS = "process.json"
_CLAIM = "claim"
_POLL_SECONDS = 0.05


class _Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a step leaves behind as ``result.json``: facts, or why there are none.

    Attributes:
        facts: What it says to the run, small and in JSON; None if it failed.
        reason: Why it failed, in plain words.
        retryable: Whether another attempt could help.
    """

    facts: dict[str, object] | None = None
    reason: str | None = None
    retryable: bool = False


class _Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process, told from any other that has or had its number.

    Attributes:
        pid: Its number, also of its session and process group.
        started: When it started, in clock ticks since boot.
        boot: Which boot that was.
    """

    pid: int
    started: int
    boot: str


class SubprocessLauncher:
    """Steps as child processes in sessions of their own.

    Args:
        home: Folder under which ``runs/`` lies.
        command: What to start; ``--run R --step S --attempt N`` is added.
        environment: The whole environment of the children.
        grace_seconds: How long a stopped process may take before it is killed.
    """

    def __init__(
        self,
        home: Path,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        grace_seconds: float = 10.0,
    ) -> None:
        self._home = home
        self._command = command
        self._environment = environment
        self._grace_seconds = grace_seconds

    async def start(self, run: RunId, step: RunState, *, attempt: int) -> None:
        folder = _folder(self._home, run, step, attempt)
        arguments = ["--run", run, "--step", step.value, "--attempt", str(attempt)]
        await asyncio.to_thread(self._start, folder, [*self._command, *arguments])

    async def status(self, run: RunId, step: RunState, *, attempt: int) -> StepStatus:
        folder = _folder(self._home, run, step, attempt)
        return await asyncio.to_thread(_status, folder)

    async def stop(self, run: RunId, step: RunState, *, attempt: int) -> None:
        folder = _folder(self._home, run, step, attempt)
        process = await asyncio.to_thread(_read_process, folder)
        if process is None or not _is_alive(process):
            return
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace_seconds):
                await _ended(process)
                return
        _signal(process, signal.SIGKILL)
        await _ended(process)

    def _start(self, folder: Path, command: list[str]) -> None:
        """Claim the attempt by making its folder; whoever finds it there adopts it."""
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        # posix_spawn and not Popen: nothing in this process is to outlive or wait for the child.
        pid = os.posix_spawnp(
            command[0],
            command,
            self._environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(folder / _LOG), flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        process = _Process(pid=pid, started=_started(pid) or 0, boot=_boot())
        _write_whole(folder / _PROCESS, msgspec.json.encode(process))


class FolderAttempt:
    """The folder of an attempt, as the step's own process writes it."""

    def __init__(self, home: Path, run: RunId, step: RunState, *, attempt: int) -> None:
        self.folder = _folder(home, run, step, attempt).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._number = attempt

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        # A lock of the kernel's goes with its process, however that ends.
        with (self.folder.parent.parent / _CLAIM).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def inherit(self, name: str) -> None:
        for number in range(self._number - 1, 0, -1):
            earlier = self.folder.with_name(f"attempt-{number}") / name
            if earlier.exists() and not (self.folder / name).exists():
                earlier.rename(self.folder / name)

    def advance(self, done: int, of: int) -> None:
        share = msgspec.json.encode(done / max(of, 1))
        # Written at every step, and worth nothing after a crash.
        _write_whole(self.folder / _PROGRESS, share, durable=False)

    def finish(self, facts: Mapping[str, object]) -> None:
        self._leave(_Result(facts=dict(facts)))

    def fail(self, reason: str, *, retryable: bool) -> None:
        self._leave(_Result(reason=reason, retryable=retryable))

    def _leave(self, result: _Result) -> None:
        _write_whole(self.folder / _RESULT, msgspec.json.encode(result))


def _folder(home: Path, run: RunId, step: RunState, attempt: int) -> Path:
    return home / "runs" / run / step.value / f"attempt-{attempt}"


def _write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Let a file appear with all of its content, or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    unfinished.replace(path)


def _status(folder: Path) -> StepStatus:
    """Read how an attempt is doing. What it wrote as its result outranks whether it still runs."""
    if not folder.exists():
        return StepStatus(state="missing")
    process = _read_process(folder)
    # Asked before the result is read: it may write the result and end in between.
    alive = process is not None and _is_alive(process)
    result = _read_result(folder)
    if result is not None and result.facts is not None:
        return StepStatus(state="done", result=result.facts, progress=1.0)
    if result is not None:
        return StepStatus(state="failed", reason=result.reason, retryable=result.retryable)
    if alive:
        return StepStatus(state="running", progress=_read_progress(folder))
    reason = f"the process ended without a result, or was killed; its words are in {_LOG}"
    return StepStatus(state="failed", reason=reason, retryable=True)


def _read_result(folder: Path) -> _Result | None:
    try:
        return msgspec.json.decode((folder / _RESULT).read_bytes(), type=_Result)
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        return _Result(reason=f"{_RESULT} cannot be read: {error}", retryable=True)


def _read_progress(folder: Path) -> float | None:
    try:
        return msgspec.json.decode((folder / _PROGRESS).read_bytes(), type=float)
    except (FileNotFoundError, *UNREADABLE):
        return None


def _read_process(folder: Path) -> _Process | None:
    try:
        return msgspec.json.decode((folder / _PROCESS).read_bytes(), type=_Process)
    except (FileNotFoundError, *UNREADABLE):
        return None


def _is_alive(process: _Process) -> bool:
    """Say whether that very process runs; one that ended and was not waited for does not."""
    # Only our own children can be waited for; those of an earlier scheduler are init's.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    return process.boot == _boot() and _started(process.pid) == process.started


def _started(pid: int) -> int | None:
    """Read when a process started, in ticks since boot; None if there is none, or a zombie."""
    try:
        # The name in parentheses may hold anything, spaces and parentheses included.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, started = fields[0], int(fields[19])
    return None if state in {"Z", "X"} else started


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _signal(process: _Process, number: signal.Signals) -> None:
    """Signal the process and its children; none of them is an error."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


async def _ended(process: _Process) -> None:
    """Wait for a process that need not be our child, so that nothing can tell us."""
    while await asyncio.to_thread(_is_alive, process):  # noqa: ASYNC110  # see above
        await asyncio.sleep(_POLL_SECONDS)
