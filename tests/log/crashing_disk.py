"""A disk that can lose power at any step, and then shows any state that a real one might.

Until a file is synced, any prefix of what was written to it since may be on disk, and the last
sector of that prefix may be torn. Until the folder is synced, a file that was created may be
missing, and one that was removed or replaced may be back.
"""

from collections.abc import Sequence
from random import Random

import msgspec


class PowerLost(BaseException):
    """Not an Exception: nothing may catch it and go on."""


class _File(msgspec.Struct):
    data: bytearray
    synced: int = 0
    """How many of the bytes are certainly on disk."""


class CrashingDisk:
    """Files in memory; loses power before its ``steps``-th call that changes anything."""

    def __init__(self, *, steps: int) -> None:
        self._steps = steps
        self._files: dict[str, _File] = {}
        self._on_disk: dict[str, _File] = {}
        """What the folder certainly holds: names as of its last sync."""
        self._handles: dict[int, str] = {}

    def names(self) -> Sequence[str]:
        return list(self._files)

    def create(self, name: str) -> int:
        self._step()
        if name in self._files:
            raise FileExistsError(name)
        self._files[name] = _File(bytearray())
        return self._handle(name)

    def open(self, name: str) -> int:
        return self._handle(name)

    def write(self, handle: int, data: bytes, at: int) -> int:
        self._step()
        self._files[self._handles[handle]].data[at : at + len(data)] = data
        return len(data)

    def truncate(self, handle: int, size: int) -> None:
        self._step()
        file = self._files[self._handles[handle]]
        del file.data[size:]
        file.synced = min(file.synced, size)

    def sync(self, handle: int) -> None:
        self._step()
        file = self._files[self._handles[handle]]
        file.synced = len(file.data)

    def sync_folder(self) -> None:
        self._step()
        self._on_disk = dict(self._files)

    def close(self, handle: int) -> None:
        del self._handles[handle]

    def size(self, name: str) -> int:
        return len(self._files[name].data)

    def read(self, name: str, start: int, length: int) -> bytes:
        file = self._files.get(name)
        return b"" if file is None else bytes(file.data[start : start + length])

    def replace(self, source: str, target: str) -> None:
        self._step()
        self._files[target] = self._files.pop(source)

    def remove(self, name: str) -> None:
        if name in self._files:
            self._step()
            del self._files[name]

    def after_power_loss(self, random: Random, *, steps: int) -> "CrashingDisk":
        """Return a disk in one of the states that this one may be found in."""
        found = CrashingDisk(steps=steps)
        for name in {*self._files, *self._on_disk}:
            now, then = self._files.get(name), self._on_disk.get(name)
            file = random.choice([now, then])
            if file is not None:
                kept = random.randint(file.synced, len(file.data))
                data = bytearray(file.data[:kept])
                if kept > file.synced and random.random() < 0.5:
                    data[-1] ^= 0xFF
                found._files[name] = _File(data, len(data))
        found._on_disk = dict(found._files)
        return found

    def _handle(self, name: str) -> int:
        handle = max(self._handles, default=2) + 1
        self._handles[handle] = name
        return handle

    def _step(self) -> None:
        if self._steps <= 0:
            raise PowerLost
        self._steps -= 1
