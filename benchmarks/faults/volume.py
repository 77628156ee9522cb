"""A small file system of our own, to be filled, frozen, and taken away."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_BYTES = 192 * 2**20


@dataclass(frozen=True)
class Volume:
    """An ext4 in a file.

    Attributes:
        image: The file.
        folder: Where it is mounted.
    """

    image: Path
    folder: Path

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let nobody find room on it."""
        filler = self.folder / "filler"
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(2**16))
                    file.flush()
            except OSError:
                pass
        try:
            yield
        finally:
            filler.unlink()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let every write to it wait."""
        _run("fsfreeze", "--freeze", self.folder)
        try:
            yield
        finally:
            _run("fsfreeze", "--unfreeze", self.folder)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Let nobody write to it."""
        _run("mount", "-o", "remount,ro", self.folder)
        try:
            yield
        finally:
            _run("mount", "-o", "remount,rw", self.folder)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let it not be mounted yet."""
        self.unmount()
        try:
            yield
        finally:
            self.mount()

    def make(self) -> None:
        """Make the file system."""
        with self.image.open("wb") as file:
            file.truncate(_BYTES)
        _run("mkfs.ext4", "-q", self.image)

    def mount(self) -> None:
        """Let it be there."""
        _run("mount", "-o", "loop", self.image, self.folder)

    def unmount(self) -> None:
        """Let an empty folder be there instead."""
        _run("umount", self.folder)


@contextmanager
def mounted() -> Iterator[Volume]:
    """Mount a new one.

    Raises:
        OSError, subprocess.CalledProcessError: If this machine does not let us.
    """
    with tempfile.TemporaryDirectory(prefix="faults-volume-") as name:
        volume = Volume(Path(name) / "image", Path(name) / "mounted")
        volume.folder.mkdir()
        volume.make()
        volume.mount()
        try:
            yield volume
        finally:
            volume.unmount()


@contextmanager
def covered(folder: Path) -> Iterator[None]:
    """Mount another, empty one over a folder that is in use."""
    _run("mount", "-t", "tmpfs", "feedbackloop", folder)
    try:
        yield
    finally:
        _run("umount", folder)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  # our own commands
