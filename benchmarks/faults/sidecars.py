"""A sidecar that is started, killed, started again, and ended; with or without strace around it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import homes
from benchmarks.proxy.stub import MODEL
from benchmarks.proxy.targets import free_port

_END_SECONDS = 60.0
_NONE: Mapping[str, str] = {}


class Sidecar:
    """One sidecar's home, port and, while it runs, process."""

    def __init__(
        self, home: Path, errors: Path, upstream_port: int, settings: Mapping[str, str]
    ) -> None:
        self.home = home
        self.errors = errors
        self.port = free_port()
        self.admin_port = free_port()
        self._variables = {
            **os.environ,
            "FEEDBACKLOOP_HOME": str(home),
            "FEEDBACKLOOP_SIDECAR__UPSTREAM": f"http://127.0.0.1:{upstream_port}",
            "FEEDBACKLOOP_SIDECAR__UPSTREAM_GUARD": "off",
            "FEEDBACKLOOP_SIDECAR__BIND": f"127.0.0.1:{self.port}",
            "FEEDBACKLOOP_SIDECAR__ADMIN_BIND": f"127.0.0.1:{self.admin_port}",
            "FEEDBACKLOOP_KEYS__REQUIRED": "false",
            "FEEDBACKLOOP_ALIASES__ASSISTANT__BASE": MODEL,
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._traced = False

    @property
    def spool(self) -> Path:
        """Where its spool is."""
        return self.home / "spool" / "sidecar-0"

    @property
    def pid(self) -> int:
        """Of the sidecar itself, not of strace around it."""
        assert self._process is not None  # noqa: S101  # started before
        if not self._traced:
            return self._process.pid
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return int(children.read_text().split()[0])

    def start(self, around: Sequence[str] = ()) -> bool:
        """Start; say whether it became ready before it ended. ``around``: a command in front."""
        command = [*around, sys.executable, "-m", "services.sidecar"]
        # With -D, strace is a child of what it traces.
        self._traced = bool(around) and "-D" not in around
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603  # our own commands
                command, env=self._variables, stdout=subprocess.PIPE, stderr=errors
            )
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        line = self._process.stdout.readline()
        if not line:
            self._reap()
        return bool(line) and "ready" in json.loads(line)

    def kill(self) -> None:
        """End it as the kernel does when memory runs out."""
        assert self._process is not None  # noqa: S101  # started before
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def is_dead(self) -> bool:
        """Say whether it has ended by itself."""
        return self._process is None or self._process.poll() is not None

    def lost_its_child(self) -> bool:
        """Say whether what forwards for it has ever died."""
        return b"forwarder_died" in self.errors.read_bytes()

    def end(self) -> int:
        """Let it forward everything and end; return its exit status.

        Raises:
            TimeoutError: If it does not.
        """
        assert self._process is not None  # noqa: S101  # started before
        os.kill(self.pid, signal.SIGTERM)
        return self._reap()

    def clean_up(self) -> None:
        """Leave no process behind."""
        if not self.is_dead():
            self.kill()

    def _reap(self) -> int:
        assert self._process is not None  # noqa: S101  # started before
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        try:
            status = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError("the sidecar does not end") from error
        finally:
            self._process.stdout.close()
        self._process = None
        return status


@contextmanager
def sidecar(
    upstream_port: int, *, home: Path | None = None, settings: Mapping[str, str] = _NONE
) -> Iterator[Sidecar]:
    """Give a sidecar with a fresh home, not started."""
    with homes.temporary("faults-") as folder:
        home = home or folder / "home"
        home.mkdir()
        one = Sidecar(home, folder / "sidecar.log", upstream_port, settings)
        try:
            yield one
        finally:
            one.clean_up()


def strace(*arguments: str) -> list[str] | None:
    """Return a command that traces what follows it; None if this machine does not let us."""
    command = ["strace", "-f", "-qq", "-o", "/dev/null"]
    return [*command, *arguments] if can_trace() else None


def can_trace() -> bool:
    """Say whether there is an strace that may trace."""
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "true"],  # noqa: S607  # wherever it is
        check=False,
        stderr=subprocess.DEVNULL,
    )
    return tried.returncode == 0


def ready_again(one: Sidecar, around: Sequence[str] = ()) -> float:
    """Start it again; return how many seconds that took until it answered."""
    begun = time.monotonic()
    if not one.start(around):
        raise ChildProcessError(f"the sidecar does not start: {one.errors.read_text()}")
    return time.monotonic() - begun
