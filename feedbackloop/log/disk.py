"""The few things that segment files ask of a disk, so that a test can crash it at any of them."""

from collections.abc import Sequence
from typing import Protocol


class Disk(Protocol):
    """Files in one folder, by name. Every method raises ``OSError`` as the system does."""

    def names(self) -> Sequence[str]:
        """List the files, in no particular order."""
        ...

    def create(self, name: str) -> int:
        """Create a file that must not exist, open for writing; return its handle."""
        ...

    def reserve(self, handle: int, size: int) -> None:
        """Make an empty file ``size`` bytes long, zeros that certainly have room on the disk."""
        ...

    def open(self, name: str) -> int:
        """Open an existing file for writing; return its handle."""
        ...

    def write(self, handle: int, data: bytes, at: int) -> int:
        """Write ``data`` at an offset; return how many bytes were taken, which may be fewer."""
        ...

    def truncate(self, handle: int, size: int) -> None:
        """Cut a file to ``size`` bytes."""
        ...

    def sync(self, handle: int) -> None:
        """Return once everything written to the file would survive a loss of power."""
        ...

    def sync_folder(self) -> None:
        """Return once creations, renames and removals would survive a loss of power."""
        ...

    def close(self, handle: int) -> None:
        """Give a handle back."""
        ...

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""
        ...

    def read(self, name: str, start: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``start`` on."""
        ...

    def replace(self, source: str, target: str) -> None:
        """Rename a file over another, atomically."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; no error if it is gone."""
        ...
