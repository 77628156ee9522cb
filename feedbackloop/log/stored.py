"""An object of a store as a file that can be read from anywhere."""

import io

from feedbackloop.log.port import Store

_TAIL_BYTES = 64 * 2**10


class StoredFile(io.RawIOBase):
    """An object as a file. Its end, where Parquet says what is where, is fetched once.

    Args:
        store: Where it is.
        key: Of the object.
        size: Of the object, in bytes.
    """

    def __init__(self, store: Store, key: str, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._at = 0
        self._tail_start = max(0, size - _TAIL_BYTES)
        self._tail: bytes | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        data = self._range(self._at, end) if end > self._at else b""
        self._at += len(data)
        return data

    def _range(self, start: int, end: int) -> bytes:
        if start < self._tail_start:
            return self._fetch(start, end)
        if self._tail is None:
            self._tail = self._fetch(self._tail_start, self._size)
        return self._tail[start - self._tail_start : end - self._tail_start]

    def _fetch(self, start: int, end: int) -> bytes:
        data = self._store.read(self._key, start=start, length=end - start)
        if data is None:
            raise FileNotFoundError(self._key)
        return data
