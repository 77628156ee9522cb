"""Death at random moments: ``kill -9`` of the loop's own processes while people talk to it."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from services import supervisor

_WAIT_SECONDS = (3.0, 9.0)
_MOST_OF_A_STEP = 2
"""A step of a run is tried three times: killed more often than this, the run ends ``failed``."""


class Killer:
    """Kills sidecar, scheduler and trainer in turn, as long as they live, and counts it."""

    def __init__(self, home: Path, *, kills: int, random: Random) -> None:
        """Look for processes under ``home``; kill ``kills`` times at most."""
        self._home = home
        self._left = kills
        self._each = -(-kills // 3)
        self._random = random
        self._stop = threading.Event()
        self.killed: Counter[str] = Counter()

    @contextmanager
    def at_work(self) -> Generator[None]:
        """Kill for as long as the context lasts."""
        thread = threading.Thread(target=self._run, name="killer")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        while self._left > 0 and not self._stop.wait(self._random.uniform(*_WAIT_SECONDS)):
            # None of the three takes the others' part: a trainer lives late, and not for long.
            alive = [one for one in self._alive() if self.killed[one[0]] < self._each]
            if not alive:
                continue
            name, pid = min(alive, key=lambda one: (self.killed[one[0]], self._random.random()))
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed[name] += 1
                self._left -= 1

    def _alive(self) -> Iterator[tuple[str, int]]:
        """Yield what may be killed now, and its process."""
        state = supervisor.read_state(self._home)
        for child in state.children if state is not None else ():
            if child.name in ("sidecar", "scheduler") and child.pid is not None:
                yield child.name, child.pid
        if self.killed["trainer"] < _MOST_OF_A_STEP:
            yield from (("trainer", pid) for pid in self._trainers())

    def _trainers(self) -> Iterator[int]:
        for file in self._home.glob("runs/*/train/attempt-*/process.json"):
            with suppress(OSError, ValueError, KeyError):
                pid = int(json.loads(file.read_text())["pid"])
                if b"services.trainer" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    yield pid


def settle(home: Path, *, seconds: float) -> None:
    """Wait until no child of the supervisor waits to be started again, for a while at most."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = supervisor.read_state(home)
        if state is not None and all(child.pid is not None for child in state.children):
            return
        time.sleep(0.2)
