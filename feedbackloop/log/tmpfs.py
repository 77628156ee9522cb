"""Marks in files of a tmpfs, mapped into memory: a store costs no call, and no disk can hold it up.

    {folder}/feedbackloop-{spool}-{producer}      16 bytes: given, written; then whose it is

The spool is named by a hash of its path. A mark is locked by its process for as long as that lives.
Not in the spool's own folder: a store to a page of a frozen file system waits until it thaws.
``sweep`` removes those that nobody will ever ask for: of the dead whose home was removed.
"""

import contextlib
import fcntl
import mmap
import os
from collections.abc import Iterator, Sequence
from errno import EPERM
from hashlib import blake2b
from pathlib import Path
from struct import Struct

import msgspec

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.log.marks import Life

_CELLS = Struct("=QQ")
_UNFINISHED = ".new"
_OURS = "feedbackloop-"
_LARGEST_BYTES = 2**16


class _Home(msgspec.Struct, frozen=True, array_like=True):
    """Where a mark's process kept everything.

    Attributes:
        path: Of the folder.
        places: Device and number of the folder and of each one above it, the nearest first.
    """

    path: str
    places: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, folder: Path) -> "_Home":
        """Look where a folder is; raises like ``Path.stat``."""
        path = folder.resolve()
        found = [place.stat() for place in (path, *path.parents)]
        return cls(str(path), tuple((one.st_dev, one.st_ino) for one in found))

    def is_gone(self) -> bool:
        """Say whether it was removed, and not only out of sight: its volume may be away for now.

        The nearest folder above it that is there has to be the one that was there, and on the
        home's own device: a volume may take the folder along that it was mounted on.
        """
        path = Path(self.path)
        for level, place in enumerate((path, *path.parents)):
            try:
                found = place.lstat()
            except FileNotFoundError:
                continue
            devices = {device for device, _ in self.places[: level + 1]}
            is_known = (found.st_dev, found.st_ino) == self.places[level]
            return level > 0 and is_known and len(devices) == 1
        return False


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
        home: Once this is removed, nobody will ask for the spool's marks; None to keep them.
    """

    def __init__(self, folder: Path, *, spool: Path, home: Path | None = None) -> None:
        self._folder = folder
        self._home = home
        named = blake2b(str(spool.resolve()).encode(), digest_size=8).hexdigest()
        self._prefix = f"{_OURS}{named}-"

    def begin(self, producer: str) -> TmpfsMark:
        # Whoever died while it began had numbered nothing; the spool is ours alone by now.
        for unfinished in self._folder.glob(f"{self._prefix}*{_UNFINISHED}"):
            with contextlib.suppress(OSError):
                unfinished.unlink()
        file = self._file(producer)
        unfinished = file.with_name(file.name + _UNFINISHED)
        handle = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            _lock(handle)
            # Written, not only made longer: a store to a page without room would kill us.
            os.pwrite(handle, _CELLS.pack(0, 0) + self._owner(), 0)
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

    def sweep(self) -> None:
        """Remove the marks of the dead, of any spool, whose home was removed."""
        for file in self._folder.glob(f"{_OURS}*"):
            with contextlib.suppress(OSError), _opened(file) as handle:
                home = _home(_content(handle))
                if home is not None and home.is_gone():
                    # No sooner: whoever looks for its own dead would take us for one that lives.
                    _lock(handle)
                    file.unlink()

    def _owner(self) -> bytes:
        if self._home is None:
            return b""
        try:
            return msgspec.json.encode(_Home.of(self._home))
        except OSError:
            return b""  # its disk fails: then the mark stays

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
        with _opened(file) as handle:
            _lock(handle)
            raw = _content(handle)
    except OSError:
        return None
    if len(raw) != _CELLS.size and _home(raw) is None:
        return None
    given, written = _CELLS.unpack_from(raw)
    return given, written


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[int]:
    """Open a mark; raises ``OSError`` if that is not ours."""
    handle = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        # Everybody may put files into /dev/shm.
        if os.fstat(handle).st_uid != os.geteuid():
            raise PermissionError(EPERM, "somebody else's", str(file))
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    """Lock a mark as its process does; raises ``OSError`` while that lives."""
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _content(handle: int) -> bytes:
    return os.pread(handle, _LARGEST_BYTES, 0)


def _home(raw: bytes) -> _Home | None:
    """Read whose a mark is; None if it does not say, or is none."""
    try:
        home = msgspec.json.decode(raw[_CELLS.size :], type=_Home)
    except UNREADABLE:
        return None
    return home if len(home.places) == len(Path(home.path).parents) + 1 else None
