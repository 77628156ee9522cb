"""Refuse a store that would let two archivers write the same file."""

from feedbackloop.errors import SettingsError
from feedbackloop.log.port import Store

_FOLDER = "probe"


def probe(store: Store, token: str) -> None:
    """Create one object twice: the second time has to be refused.

    Args:
        store: To be used for an archive.
        token: Names the object; nobody else uses it.

    Raises:
        SettingsError: If the store overwrites, or forgets.
        StoreUnavailable: If it does not answer.
    """
    key = f"{_FOLDER}/{token}"
    store.create(key, b"first")
    try:
        overwritten = store.create(key, b"second")
        found = store.read(key)
    finally:
        store.remove(key)
    if overwritten or found != b"first":
        raise SettingsError(
            f"{store.name} lets two writers create the same object: of two archivers both would"
            " believe that they wrote a file. Use a store that honours If-None-Match: * on PUT"
            " (Amazon S3, MinIO, versitygw, Google's, Azure's), or a folder"
        )
