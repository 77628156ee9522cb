"""Marks in files of a tmpfs, mapped into memory: a store costs no call, and no disk can hold it up.

    {folder}/feedbackloop-{spool}-{producer}      16 bytes: given, written

The spool is named by a hash of its path. A mark is locked by its process for as long as that lives.
Not in the spool's own folder: a store to a page of a frozen file system waits until it thaws.
"""

import contextlib
import fcntl
import mmap
import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from struct import Struct

from feedbackloop.log.marks import Life

_CELLS = Struct("=QQ")
_UNFINISHED = ".new"


class TmpfsMark:
    """The mark of this process."""

    def __init__(self, file: Path, handle: int) -> None:
        self._file = file
        self._handle = handle  # holds the lock
        # As a view of whole numbers, so that each is stored at once: a kill cannot tear it.
        self._cells = memoryview(mmap.mmap(handle, _CELLS.size)).cast("Q")

    def give(self, following: int) -> None:
        self._cells[0] = following

    def wrote(self, following: int) -> None:
        self._cells[1] = following

    def remove(self) -> None:
        # Not unmapped: somebody may still offer, and nobody cares what that notes.
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = -1


class TmpfsMarks:
    """The marks of one spool.

    Args:
        folder: On a tmpfs, such as ``/dev/shm``.
        spool: The spool's folder.
    """

    def __init__(self, folder: Path, *, spool: Path) -> None:
        self._folder = folder
        named = blake2b(str(spool.resolve()).encode(), digest_size=8).hexdigest()
        self._prefix = f"feedbackloop-{named}-"

    def begin(self, producer: str) -> TmpfsMark:
        # Whoever died while it began had numbered nothing; the spool is ours alone by now.
        for unfinished in self._folder.glob(f"{self._prefix}*{_UNFINISHED}"):
            with contextlib.suppress(OSError):
                unfinished.unlink()
        file = self._file(producer)
        unfinished = file.with_name(file.name + _UNFINISHED)
        handle = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Written, not only made longer: a store to a page without room would kill us.
            os.pwrite(handle, _CELLS.pack(0, 0), 0)
            mark = TmpfsMark(file, handle)
            # Under its name only now that it is locked: else it would look dead.
            unfinished.rename(file)
        except OSError:
            unfinished.unlink(missing_ok=True)
            os.close(handle)
            raise
        return mark

    def dead(self) -> Sequence[Life]:
        return list(self._left())

    def remove(self, producer: str) -> None:
        with contextlib.suppress(OSError):
            self._file(producer).unlink(missing_ok=True)

    def _file(self, producer: str) -> Path:
        return self._folder / f"{self._prefix}{producer}"

    def _left(self) -> Iterator[Life]:
        for file in sorted(self._folder.glob(f"{self._prefix}*")):
            cells = None if file.name.endswith(_UNFINISHED) else _read(file)
            if cells is not None:
                producer = file.name.removeprefix(self._prefix)
                yield Life(producer=producer, given=cells[0], written=cells[1])


def _read(file: Path) -> tuple[int, int] | None:
    """Read what a dead process of ours has noted; None if it lives, or is not ours."""
    try:
        handle = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        # Everybody may put files into /dev/shm.
        if os.fstat(handle).st_uid != os.geteuid():
            return None
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        raw = os.pread(handle, _CELLS.size + 1, 0)
    except OSError:
        return None
    finally:
        os.close(handle)
    if len(raw) != _CELLS.size:
        return None
    given, written = _CELLS.unpack(raw)
    return given, written
