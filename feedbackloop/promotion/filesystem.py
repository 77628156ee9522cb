"""Adapters as folders: content-addressed, read-only, and never changed once they are there."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from feedbackloop.errors import AdapterRejected

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

Digest = Callable[[bytes, bytes], str]
"""SHA-256 of an adapter as hex, from the bytes of its config and of its weights.

May raise ``AdapterRejected`` for bytes that break a rule of ``training/artefact.py``.
"""


class FolderAdapters:
    """Adapter folders under one root, each named by its digest."""

    def __init__(self, root: Path, *, digest: Digest) -> None:
        """Keep adapters under ``root``, which is made when the first one comes."""
        self._root = root
        self._digest = digest

    def put(self, folder: Path) -> str:
        files = _read(folder, name=folder.name)
        name = self._digest(files[CONFIG], files[WEIGHTS])
        target = self._root / name
        if target.exists():
            self.path(name)
            return name
        self._root.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=self._root))
        try:
            for file, content in files.items():
                _write(unfinished / file, content)
            _seal(unfinished)
            unfinished.rename(target)
        except OSError:
            _remove(unfinished)
            # Somebody may have stored the same bytes meanwhile; theirs are as good as ours.
            if not target.exists():
                raise
        _sync(self._root)
        return name

    def path(self, digest: str) -> Path:
        folder = self._root / digest
        if not digest or Path(digest).name != digest:
            raise AdapterRejected(digest, "is no digest")
        files = _read(folder, name=digest)
        found = self._digest(files[CONFIG], files[WEIGHTS])
        if found != digest:
            raise AdapterRejected(digest, f"was changed: its files now make {found}")
        return folder.absolute()

    def digests(self) -> Sequence[str]:
        if not self._root.exists():
            return []
        return sorted(path.name for path in self._root.iterdir() if not path.name.startswith("."))

    def collect(self, digest: str) -> None:
        folder = self._root / digest
        if digest not in self.digests():
            return
        # Renamed first: nobody ever sees half an adapter under its digest.
        doomed = Path(tempfile.mkdtemp(prefix=".doomed-", dir=self._root))
        folder.chmod(stat.S_IRWXU)
        folder.rename(doomed / digest)
        _remove(doomed)


def _read(folder: Path, *, name: str) -> dict[str, bytes]:
    """Read the two files of an adapter, and refuse a folder that holds anything else.

    Links are refused: what they point to could change after the digest was taken.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise AdapterRejected(name, "there is no such folder")
    found = sorted(path.name for path in folder.iterdir())
    if found != [CONFIG, WEIGHTS]:
        raise AdapterRejected(name, f"must hold {CONFIG} and {WEIGHTS}, and holds {found}")
    return {file: _read_file(folder / file, name=name) for file in found}


def _read_file(path: Path, *, name: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise AdapterRejected(name, f"{path.name} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise AdapterRejected(name, f"{path.name} is no plain file")
        return file.read()


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _seal(folder: Path) -> None:
    """Make a folder and its files read-only, and durable."""
    for path in folder.iterdir():
        path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    _sync(folder)
    folder.chmod(0o555)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove a tree that may hold read-only folders."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(stat.S_IRWXU)
    shutil.rmtree(folder)
