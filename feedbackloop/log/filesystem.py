"""A store as a folder: each object is a file, published whole by a link; and locks as files."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from feedbackloop.errors import StoreUnavailable
from feedbackloop.log.port import EventLog, Offset, Stored


class FolderStore:
    """Objects as files under one folder, on a file system that has hard links.

    An object is written to a hidden file beside its place and synced; ``link`` then gives it its
    name, which fails if somebody has it. Whoever is killed in between leaves a hidden file that
    the next one who tries this key removes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def name(self) -> str:
        return str(self._root)

    def create(self, key: str, data: bytes) -> bool:
        target = self._root / key
        unfinished = target.parent / f".{target.name}.{secrets.token_hex(8)}"
        with _answering(self.name):
            _make(target.parent)
            created = False
            if not target.exists():
                _write(unfinished, data)
                created = _link(unfinished, target)
            # Also for whoever lost: the winner may have died before it came to this.
            _sync(target.parent)
            _tidy(target)
        return created

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        with _answering(self.name):
            try:
                with (self._root / key).open("rb") as file:
                    file.seek(start)
                    return file.read() if length is None else file.read(length)
            except FileNotFoundError:
                return None

    def list(self, prefix: str) -> Sequence[Stored]:
        with _answering(self.name):
            return sorted(self._files(self._root / prefix))

    def remove(self, key: str) -> None:
        with _answering(self.name):
            (self._root / key).unlink(missing_ok=True)

    def _files(self, folder: Path) -> Iterator[Stored]:
        # Removed since it was listed: as if it had been listed later.
        with contextlib.suppress(FileNotFoundError):
            for found in os.scandir(folder):
                if found.is_dir():
                    yield from self._files(Path(found.path))
                elif not found.name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):
                        key = Path(found.path).relative_to(self._root).as_posix()
                        yield Stored(key, found.stat().st_size)


class LockSharing:
    """Partitions shared by locks on files: each belongs to the first process on this machine.

    Args:
        folder: Where the locks are.
        event_log: Names the partitions.
    """

    def __init__(self, folder: Path, event_log: EventLog) -> None:
        self._folder = folder
        self._log = event_log
        self._held: dict[str, int] = {}

    async def mine(self) -> Sequence[str]:
        for partition in await self._log.partitions():
            if partition not in self._held:
                self._try(partition)
        return sorted(self._held)

    async def reached(self, last: Offset) -> None:
        del last  # the files say it, and nobody else asks

    async def close(self) -> None:
        held, self._held = self._held, {}
        for handle in held.values():
            os.close(handle)

    def _try(self, partition: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{partition}.lock"
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
        else:
            self._held[partition] = handle


@contextmanager
def _answering(name: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"{name}: {error.strerror or error}") from error


def _make(folder: Path) -> None:
    """Make a folder that is there after a loss of power."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def _link(unfinished: Path, target: Path) -> bool:
    try:
        target.hardlink_to(unfinished)
    except FileExistsError:
        return False
    except FileNotFoundError:
        # We slept, and somebody who created the object meanwhile removed our hidden file.
        if target.exists():
            return False
        raise
    return True


def _tidy(target: Path) -> None:
    """Remove the hidden files of everybody who tried: none of them can win any more."""
    for found in target.parent.glob(f".{target.name}.*"):
        found.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
