"""One thread that writes: many hand over, one appends, syncs once for all of them, and tells."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from feedbackloop.errors import LogUnavailable
from feedbackloop.log import frames
from feedbackloop.log.frames import Kind
from feedbackloop.log.writer import Writer

Told = Callable[[Sequence[int], Exception | None], None]
"""Is told the positions of a group's records, or why none was written."""


class Pending(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record on its way to the disk."""

    kind: Kind = Kind.RECORD
    seq: int
    at_ns: int
    payload: bytes


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Records that are handed over together, and share their fate.

    Attributes:
        durable: Whether ``told`` waits for the sync rather than for the page cache.
        told: Called once, on the writer thread.
    """

    records: Sequence[Pending]
    durable: bool
    told: Told


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
        self._queue: deque[Group] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._dirty = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def hand_over(self, group: Group) -> None:
        """Queue records; from any thread, without waiting."""
        self._queue.append(group)
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

    def _batch(self) -> list[Group]:
        batch: list[Group] = []
        size = 0
        while self._queue and size < self._BATCH_BYTES:
            group = self._queue.popleft()
            batch.append(group)
            size += sum(len(one.payload) for one in group.records)
        return batch

    def _write(self, batch: Sequence[Group]) -> None:
        records = [one for group in batch for one in group.records]
        encoded = [
            frames.encode(one.payload, kind=one.kind, seq=one.seq, at_ns=one.at_ns)
            for one in records
        ]
        try:
            position = self._writer.append(b"".join(encoded), first_seq=records[0].seq)
        except OSError as error:
            self._refuse(batch, records, error)
            return
        self._dirty = True
        positions = []
        for frame in encoded:
            positions.append(position)
            position += len(frame)
        durable: list[tuple[Group, Sequence[int]]] = []
        first = 0
        for group in batch:
            own = positions[first : first + len(group.records)]
            first += len(own)
            if group.durable:
                durable.append((group, own))
            else:
                group.told(own, None)
        if durable:
            self._sync(durable)

    def _sync(self, waiting: Sequence[tuple[Group, Sequence[int]]]) -> None:
        error: Exception | None = None
        try:
            self._writer.sync()
        except OSError as problem:
            error = LogUnavailable(f"not on disk: {problem}")
        self._dirty = False
        for group, positions in waiting:
            group.told(positions, error)

    def _refuse(self, batch: Sequence[Group], records: Sequence[Pending], error: OSError) -> None:
        self._failed(records)
        for group in batch:
            group.told([], LogUnavailable(f"not written: {error}"))
