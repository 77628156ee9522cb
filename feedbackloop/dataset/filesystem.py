"""Snapshots as folders: rows as JSON lines that any trainer reads, beside their manifest."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from re import compile as regex

import msgspec

from feedbackloop.dataset.snapshot import (
    PARTS,
    Manifest,
    Snapshot,
    decode,
    decode_manifest,
    digest,
    encode,
)
from feedbackloop.errors import RunError

_DIGEST = regex(r"[0-9a-f]{64}")
_FILES = ("manifest.json", *(f"{part}.jsonl" for part in PARTS))


class FolderSnapshots:
    """Snapshots under one folder, each in a folder that is named by its digest."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, snapshot: Snapshot) -> str:
        files = encode(snapshot)
        name = digest(files)
        target = self._root / name
        if target.exists():
            return name
        self._root.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=self._root))
        for file, content in files.items():
            _write(unfinished / file, content)
        try:
            unfinished.rename(target)
        except OSError:
            # Somebody stored the same bytes meanwhile; theirs are as good as ours.
            shutil.rmtree(unfinished)
            if not target.exists():
                raise
        _sync(self._root)
        return name

    def get(self, digest_: str) -> Snapshot:
        try:
            files = {name: (self._folder(digest_) / name).read_bytes() for name in _FILES}
        except OSError as error:
            raise RunError(f"snapshot {digest_} cannot be read: {error}") from error
        found = digest(files)
        if found != digest_:
            raise RunError(f"snapshot {digest_} was changed: its files now make {found}")
        return decode(files)

    def manifest(self, digest_: str) -> Manifest:
        try:
            return decode_manifest((self._folder(digest_) / "manifest.json").read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            raise RunError(f"snapshot {digest_} cannot be read: {error}") from error

    def _folder(self, digest_: str) -> Path:
        # It comes from clients, too: nothing but a digest leads to a folder.
        if not _DIGEST.fullmatch(digest_):
            raise RunError(f"there is no snapshot {digest_}: expected 64 hexadecimal digits")
        return self._root / digest_

    def digests(self) -> Sequence[str]:
        if not self._root.exists():
            return []
        return sorted(path.name for path in self._root.iterdir() if _DIGEST.fullmatch(path.name))


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
