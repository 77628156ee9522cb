"""One thread that writes: many hand over, one appends, syncs once for all of them, and tells."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from feedbackloop.errors import LogUnavailable
from feedbackloop.log import frames
from feedbackloop.log.frames import Kind
from feedbackloop.log.writer import Writer

Told = Callable[[int, Exception | None], None]
"""Is told the position of a record, or why it was not written."""


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A record on its way to the disk.

    Attributes:
        durable: Whether ``told`` waits for the sync rather than for the page cache.
        told: Called once, on the writer thread.
    """

    kind: Kind = Kind.RECORD
    seq: int
    at_ns: int
    payload: bytes
    durable: bool
    told: Told | None = None


class WriterThread:
    """A queue in front of a ``Writer``, emptied in batches by a thread of its own.

    Args:
        writer: Used by the thread alone.
        name: Of the thread.
        sync_seconds: Longest that records in the page cache wait for the disk.
        failed: Told on the writer thread which records the disk refused.
    """

    _BATCH_BYTES = 2**20

    def __init__(
        self,
        writer: Writer,
        *,
        name: str,
        sync_seconds: float = 0.05,
        failed: Callable[[Sequence[Pending]], None] = lambda _: None,
    ) -> None:
        self._writer = writer
        self._sync_seconds = sync_seconds
        self._failed = failed
        self._queue: deque[Pending] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._dirty = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def hand_over(self, pending: Pending) -> None:
        """Queue a record; from any thread, without waiting."""
        self._queue.append(pending)
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write and sync what is queued, then end the thread."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            woken = self._wake.wait(self._sync_seconds if self._dirty else None)
            self._wake.clear()
            if not woken:
                self._sync([])
            while self._queue:
                self._write(self._batch())
            if self._closing and not self._queue:
                self._sync([])
                self._writer.close()
                return

    def _batch(self) -> list[Pending]:
        batch: list[Pending] = []
        size = 0
        while self._queue and size < self._BATCH_BYTES:
            batch.append(self._queue.popleft())
            size += len(batch[-1].payload)
        return batch

    def _write(self, batch: Sequence[Pending]) -> None:
        encoded = [
            frames.encode(one.payload, kind=one.kind, seq=one.seq, at_ns=one.at_ns) for one in batch
        ]
        try:
            position = self._writer.append(b"".join(encoded), first_seq=batch[0].seq)
        except OSError as error:
            self._refuse(batch, error)
            return
        self._dirty = True
        durable: list[tuple[Pending, int]] = []
        for one, frame in zip(batch, encoded, strict=True):
            if one.durable:
                durable.append((one, position))
            elif one.told is not None:
                one.told(position, None)
            position += len(frame)
        if durable:
            self._sync(durable)

    def _sync(self, waiting: Sequence[tuple[Pending, int]]) -> None:
        error: Exception | None = None
        try:
            self._writer.sync()
        except OSError as problem:
            error = LogUnavailable(f"not on disk: {problem}")
        self._dirty = False
        for one, position in waiting:
            if one.told is not None:
                one.told(position, error)

    def _refuse(self, batch: Sequence[Pending], error: OSError) -> None:
        self._failed(batch)
        for one in batch:
            if one.told is not None:
                one.told(-1, LogUnavailable(f"not written: {error}"))
