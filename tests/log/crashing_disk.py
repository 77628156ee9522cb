"""A disk that fails and loses power at any step, and then shows any state that a real one might.

Until a file is synced, each page of it may be on disk as it was at the last sync or as any write
since left it, torn between two of them, and the file may have any length that it had meanwhile.
Until the folder is synced, each name may lead to what it led to at any moment since. A sync that
fails loses what it should have written: the pages count as clean (Rebello et al., ATC 2020).
"""

from collections.abc import Sequence
from errno import EIO, ENOSPC
from random import Random

import msgspec

PAGE = 64  # smaller than a frame, so that frames are lost in part
_SECTOR = 16


class PowerLost(BaseException):
    """Not an Exception: nothing may catch it and go on."""


class _File(msgspec.Struct):
    now: bytearray
    """What the page cache holds."""
    pages: dict[int, list[bytes]]
    """What each page may be on disk: one version if that is certain."""
    sizes: set[int]
    dirty: set[int]
    """Pages that the next sync writes."""

    def change(self, first: int, last: int) -> None:
        """Note that bytes were changed: the pages that hold them may be on disk as they are now."""
        for page in range(first // PAGE, last // PAGE + 1):
            content = bytes(self.now[page * PAGE : (page + 1) * PAGE]).ljust(PAGE, b"\0")
            self.pages.setdefault(page, [bytes(PAGE)]).append(content)
            self.dirty.add(page)
        self.sizes.add(len(self.now))

    def settle(self, *, written: bool) -> None:
        """Make the page cache clean, whether or not it reached the disk."""
        if written:
            for page in self.dirty:
                self.pages[page] = self.pages[page][-1:]
            self.sizes = {len(self.now)}
        self.dirty.clear()


class CrashingDisk:
    """Files in memory.

    Args:
        steps: The power goes before the call after so many that change anything.
        room: Bytes that files may have in all.
        failing: Which of those calls fail, by number.
    """

    def __init__(
        self, *, steps: int, room: int = 10**9, failing: frozenset[int] = frozenset()
    ) -> None:
        self._left = steps
        self._done = 0
        self.room = room
        self._failing = failing
        self._files: dict[str, _File] = {}
        self._names: dict[str, list[_File | None]] = {}
        """What each name may lead to on disk: one if that is certain."""
        self._handles: dict[int, _File] = {}

    def names(self) -> Sequence[str]:
        return list(self._files)

    def create(self, name: str) -> int:
        self._step()
        if name in self._files:
            raise FileExistsError(name)
        self._lead(name, _File(bytearray(), {}, {0}, set()))
        return self.open(name)

    def reserve(self, handle: int, size: int) -> None:
        self._step()
        file = self._handles[handle]
        self._take(size - len(file.now))
        file.now.extend(bytes(size - len(file.now)))
        file.sizes.add(size)

    def open(self, name: str) -> int:
        handle = max(self._handles, default=2) + 1
        self._handles[handle] = self._files[name]
        return handle

    def write(self, handle: int, data: bytes, at: int) -> int:
        file = self._handles[handle]
        try:
            self._step()
            self._take(at + len(data) - len(file.now))
        except OSError:
            # A part is taken first, and the call that wants the rest fails.
            half = len(data) // 2
            if half == 0 or at + half > len(file.now):
                raise
            data = data[:half]
        file.now[at : at + len(data)] = data
        file.change(at, at + len(data) - 1)
        return len(data)

    def truncate(self, handle: int, size: int) -> None:
        self._step()
        file = self._handles[handle]
        before = len(file.now)
        del file.now[size:]
        if size < before:
            file.change(size, before - 1)

    def sync(self, handle: int) -> None:
        try:
            self._step()
        except OSError:
            self._handles[handle].settle(written=False)
            raise
        self._handles[handle].settle(written=True)

    def sync_folder(self) -> None:
        self._step()
        self._names = {name: [file] for name, file in self._files.items()}

    def close(self, handle: int) -> None:
        del self._handles[handle]

    def size(self, name: str) -> int:
        return len(self._files[name].now)

    def read(self, name: str, start: int, length: int) -> bytes:
        file = self._files.get(name)
        return b"" if file is None else bytes(file.now[start : start + length])

    def replace(self, source: str, target: str) -> None:
        self._step()
        self._lead(target, self._files[source])
        self._lead(source, None)

    def remove(self, name: str) -> None:
        if name in self._files:
            self._step()
            self._lead(name, None)

    def after_kill(self, *, steps: int, failing: frozenset[int] = frozenset()) -> "CrashingDisk":
        """Return the disk as the next process finds it: the machine has lost nothing."""
        found = CrashingDisk(steps=steps, room=self.room, failing=failing)
        found._files, found._names = self._files, self._names
        return found

    def after_power_loss(
        self, random: Random, *, steps: int, failing: frozenset[int] = frozenset()
    ) -> "CrashingDisk":
        """Return a disk in one of the states that this one may be found in."""
        found = CrashingDisk(steps=steps, room=self.room, failing=failing)
        for name, versions in self._names.items():
            file = random.choice(versions)
            if file is not None:
                data = _survivor(file, random)
                pages = {
                    start // PAGE: [bytes(data[start : start + PAGE]).ljust(PAGE, b"\0")]
                    for start in range(0, len(data), PAGE)
                }
                found._files[name] = _File(data, pages, {len(data)}, set())
        found._names = {name: [file] for name, file in found._files.items()}
        return found

    def heal(self) -> None:
        """Fail no more, and have room for everything."""
        self._failing, self.room = frozenset(), 10**9

    def _lead(self, name: str, file: _File | None) -> None:
        if file is None:
            self._files.pop(name, None)
        else:
            self._files[name] = file
        self._names.setdefault(name, [None]).append(file)

    def _take(self, size: int) -> None:
        if size > 0 and sum(len(file.now) for file in self._files.values()) + size > self.room:
            raise OSError(ENOSPC, "No space left on device")

    def _step(self) -> None:
        if self._left <= 0:
            raise PowerLost
        self._left -= 1
        self._done += 1
        if self._done in self._failing:
            raise OSError(EIO, "Input/output error")


def _survivor(file: _File, random: Random) -> bytearray:
    """Choose what of a file is on disk."""
    size = random.choice(sorted(file.sizes))
    data = bytearray(size)
    for page, versions in file.pages.items():
        content = random.choice(versions)
        if len(versions) > 1 and random.random() < 0.3:
            cut = random.randrange(0, PAGE, _SECTOR)
            content = content[:cut] + random.choice(versions)[cut:]
        data[page * PAGE : (page + 1) * PAGE] = content
    return data[:size]
