"""A folder of this machine as the disk that segments lie on, and the lock of its one writer."""

import contextlib
import fcntl
import os
import time
from collections.abc import Sequence
from errno import ENOENT
from pathlib import Path

from feedbackloop.errors import SettingsError

LOCK = "lock"
_TRY_SECONDS = 0.05


class LocalDisk:
    """One folder of this machine, with a lock for its writer.

    Whoever has the lock holds the folder itself: what is then mounted over it, or stands in its
    place, is never read or written.

    Args:
        folder: Where it is.
        held: The folder, opened by somebody who holds it for us; -1 if nobody does.
    """

    def __init__(self, folder: Path, *, held: int = -1) -> None:
        self._folder = folder
        self._held: int | None = held if held >= 0 else None
        self._locked: int | None = None

    def lock(self, *, patience_seconds: float = 0.5) -> None:
        """Become the folder's one writer, and make the folder if need be.

        Args:
            patience_seconds: How long its owner may take to let go of it.

        Raises:
            SettingsError: If another process is it already.
            OSError: If the disk refuses.
        """
        for _ in range(max(1, round(patience_seconds / _TRY_SECONDS))):
            self._folder.mkdir(parents=True, exist_ok=True)
            if self.try_lock():
                return
            # Somebody may only be looking whether its owner is dead.
            time.sleep(_TRY_SECONDS)
        owner = self.read(LOCK, 0, 32).decode("ascii", "replace").strip() or "unknown"
        raise SettingsError(
            f"{self._folder} is written by process {owner}: give this one a name of its own"
        )

    def locked(self) -> int:
        """Return the handle that holds the lock, which duplicates hold as well; -1 if none does."""
        return -1 if self._locked is None else self._locked

    def held(self) -> int:
        """Return the handle of the folder itself; -1 if we do not hold it."""
        return -1 if self._held is None else self._held

    def try_lock(self) -> bool:
        """Become the one writer of a folder that exists, if it has none; raises like ``lock``."""
        with contextlib.ExitStack() as stack:
            try:
                held = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, held)
                handle = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600, dir_fd=held)
                stack.callback(os.close, handle)
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (FileNotFoundError, BlockingIOError):
                return False
            if not self._is_lock(handle):
                return False
            stack.pop_all()
        # For people alone: a full disk that has no room for it keeps nobody from the lock.
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        self._locked, self._held = handle, held
        return True

    def check(self) -> None:
        """Look whether the folder that we locked is still in its place.

        Raises:
            OSError: If it was removed, replaced, or a volume was mounted over it or taken away.
        """
        if not self._is_lock(self.locked()):
            raise FileNotFoundError(ENOENT, "the folder is gone from its place", str(self._folder))

    def _is_lock(self, handle: int) -> bool:
        """Say whether a handle is of the lock of what is in this place now."""
        try:
            return os.path.samestat(os.fstat(handle), (self._folder / LOCK).stat())
        except FileNotFoundError:
            return False

    def move(self, folder: Path) -> None:
        """Rename the folder with all that is in it; who has its lock keeps it."""
        self._folder.rename(folder)
        self._folder = folder

    def touched(self) -> float:
        """Return when a file but the lock was changed last, in seconds since 1970."""
        files = [file for file in self._folder.iterdir() if file.name != LOCK]
        return max((file.stat().st_mtime for file in files), default=0.0)

    def vanish(self) -> None:
        """Remove the folder, if nothing but its lock is left in it."""
        with contextlib.suppress(OSError):
            if list(self.names()) == [LOCK]:
                self.remove(LOCK)
                self._folder.rmdir()

    def unlock(self) -> None:
        """Let another process write. Safe to call twice."""
        if self._locked is not None:
            os.close(self._locked)
            if self._held is not None:
                os.close(self._held)
        self._locked = self._held = None

    def names(self) -> Sequence[str]:
        try:
            # Anew each time: who lists shares a place in the list with all duplicates.
            handle = self._open(".", os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return []
        try:
            return os.listdir(handle)  # noqa: PTH208  # a handle, not a path
        finally:
            os.close(handle)

    def create(self, name: str) -> int:
        return self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def reserve(self, handle: int, size: int) -> None:
        os.posix_fallocate(handle, 0, size)

    def open(self, name: str) -> int:
        return self._open(name, os.O_WRONLY)

    def write(self, handle: int, data: bytes, at: int) -> int:
        return os.pwrite(handle, data, at)

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def sync(self, handle: int) -> None:
        os.fdatasync(handle)

    def sync_folder(self) -> None:
        handle = self._open(".", os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def size(self, name: str) -> int:
        return os.stat(self._at(name), dir_fd=self._held).st_size

    def read(self, name: str, start: int, length: int) -> bytes:
        # Removed since it was listed: whoever needed it would have been told by its successor.
        with (
            contextlib.suppress(FileNotFoundError),
            os.fdopen(self._open(name, os.O_RDONLY), "rb") as file,
        ):
            file.seek(start)
            return file.read(length)
        return b""

    def replace(self, source: str, target: str) -> None:
        held = self._held
        os.replace(self._at(source), self._at(target), src_dir_fd=held, dst_dir_fd=held)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self._held)

    def _open(self, name: str, flags: int) -> int:
        return os.open(self._at(name), flags, 0o600, dir_fd=self._held)

    def _at(self, name: str) -> Path:
        """Name a file for the system, which looks for it in the folder that we hold, if we do."""
        return Path(name) if self._held is not None else self._folder / name
