"""A small file system of our own, to be filled, frozen, and taken away."""

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_BYTES = 192 * 2**20
_LOOK_SECONDS = 0.02


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
        filler, over = self.folder / "filler", threading.Event()
        with filler.open("wb", buffering=0) as file:
            _fill(file)
            # What is removed meanwhile, such as a forwarded segment, leaves no room either.
            thread = threading.Thread(target=_keep_full, args=(file, over))
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join()
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


def _fill(file: BinaryIO) -> None:
    """Take all the room that there is."""
    size = 2**16
    while size:
        try:
            file.write(bytes(size))
        except OSError:
            size //= 16


def _keep_full(file: BinaryIO, over: threading.Event) -> None:
    while not over.wait(_LOOK_SECONDS):
        _fill(file)


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
