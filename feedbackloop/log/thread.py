"""One thread that writes: many hand over, one appends, syncs once for all of them, and tells."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

import msgspec

from feedbackloop.errors import LogUnavailable, SettingsError
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


class Aside(Protocol):
    """What a ``WriterThread`` asks and tells beside its groups."""

    def open(self) -> None:
        """Make ready what is written to, unless it is.

        Raises:
            OSError: If the disk refuses.
            SettingsError: If it is not ours to write to.
        """
        ...

    def check(self) -> None:
        """Look whether what is written can still be found.

        Raises:
            OSError: If it cannot.
        """
        ...

    def notes(self, through: int | None) -> Sequence[Pending]:
        """Hand over what is to be written before record ``through``; None for everything."""
        ...

    def wrote(self, position: int) -> None:
        """Learn that everything up to ``position`` is in the page cache."""
        ...

    def synced(self, position: int) -> None:
        """Learn that everything up to ``position`` is on disk."""
        ...

    def refused(self, records: Sequence[Pending]) -> None:
        """Learn which records the disk refused, those of ``notes`` among them."""
        ...


class Nobody:
    """Has nothing to note, and wants to know nothing."""

    def open(self) -> None:
        pass

    def check(self) -> None:
        pass

    def notes(self, through: int | None) -> Sequence[Pending]:
        del through
        return ()

    def wrote(self, position: int) -> None:
        pass

    def synced(self, position: int) -> None:
        pass

    def refused(self, records: Sequence[Pending]) -> None:
        pass


class WriterThread:
    """A queue in front of a ``Writer``, emptied in batches by a thread of its own.

    Args:
        writer: Used by the thread alone.
        name: Of the thread.
        aside: Asked and told on the thread.
        sync_seconds: Longest that records in the page cache wait for the disk.
        clock: Seconds that only grow.
    """

    _BATCH_BYTES = 2**20
    _TICK_SECONDS = 1.0
    _PAUSE_SECONDS = 0.1  # a disk that has refused is left alone for as long

    def __init__(
        self,
        writer: Writer,
        *,
        name: str,
        aside: Aside,
        sync_seconds: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._aside = aside
        self._sync_seconds = sync_seconds
        self._clock = clock
        # Its one lock is taken without Python's help: the thread that answers is seldom held up.
        self._queue: SimpleQueue[Group | None] = SimpleQueue()
        self._first: Group | None = None
        self._closing = False
        self._sync_at: float | None = None
        self._again_at = 0.0
        self._why: Exception = OSError("not tried")
        self._ready = self._astray = False
        self._tried = threading.Event()
        self.refusal: Exception | None = None
        """Why the disk took nothing when it was tried last."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self, *, patience_seconds: float = 0.0) -> None:
        """Begin to write; wait a while until it is known whether there is something to write to."""
        self._thread.start()
        self._tried.wait(patience_seconds)

    def hand_over(self, group: Group) -> None:
        """Queue records; from any thread, without waiting."""
        self._queue.put(group)

    def close(self) -> None:
        """Write and sync what is queued, then end the thread, if it was ever started."""
        if self._thread.ident is None:
            self._writer.close()
            return
        self._closing = True
        self._queue.put(None)
        self._thread.join()

    def work(self) -> None:
        """Write what is queued, and sync what has waited long enough."""
        while batch := self._batch():
            self._write(batch)
        if self._sync_at is not None and self._clock() >= self._sync_at:
            self.sync()

    def tick(self) -> None:
        """Write what is to be noted, though no record comes; try a disk again that refused."""
        if self._ready:
            self._look()
        if not self._is_ready():
            return
        notes = self._aside.notes(None)
        if notes:
            self._append([], notes)

    def sync(self, waiting: Sequence[tuple[Group, Sequence[int]]] = ()) -> None:
        """Put what was written on disk, and tell those who wait for it."""
        error: Exception | None = None
        self._sync_at = None
        try:
            self._writer.sync()
        except OSError as problem:
            error = LogUnavailable(f"not on disk: {problem}")
            self._sync_at = self._clock() + self._TICK_SECONDS
        else:
            self._aside.synced(self._writer.last)
            if waiting:
                self._look()
            if self._astray:
                error = LogUnavailable(f"not on disk: {self._why}")
        for group, positions in waiting:
            group.told(positions, error)

    def _is_ready(self) -> bool:
        if self._ready:
            return not self._astray
        try:
            self._aside.open()
        except (OSError, SettingsError) as error:
            self._pause(error)
            return False
        self._ready, self.refusal = True, None
        return True

    def _look(self) -> None:
        """Find out whether whoever reads finds what we write: a file without a name takes all."""
        try:
            self._aside.check()
        except OSError as error:
            self._astray = True
            self._pause(error)
            return
        if self._astray:
            self._astray, self.refusal = False, None

    def _pause(self, why: Exception) -> None:
        self.refusal = why
        if why is not self._why:
            self._again_at, self._why = self._clock() + self._PAUSE_SECONDS, why

    def _run(self) -> None:
        self._is_ready()
        self._tried.set()
        ticked_at = self._clock()
        while True:
            with contextlib.suppress(Empty):
                self._first = self._queue.get(timeout=self._patience())
            self.work()
            now = self._clock()
            if now >= ticked_at + self._TICK_SECONDS or self._closing:
                ticked_at = now
                self.tick()
            if self._closing and self._queue.empty():
                self.sync()
                self._writer.close()
                return

    def _patience(self) -> float:
        if self._sync_at is None:
            return self._TICK_SECONDS
        return min(self._TICK_SECONDS, max(0.0, self._sync_at - self._clock()))

    def _batch(self) -> list[Group]:
        """Take what is queued, as much as is worth a sync."""
        batch: list[Group] = []
        size = 0
        group, self._first = self._first, None
        while size < self._BATCH_BYTES:
            if group is not None:
                batch.append(group)
                size += sum([len(one.payload) for one in group.records])
            if self._queue.empty():
                break
            group = self._queue.get_nowait()
        return batch

    def _write(self, batch: Sequence[Group]) -> None:
        notes = self._aside.notes(batch[-1].records[-1].seq)
        positions = self._append(batch, notes)
        if positions is None:
            return
        durable: list[tuple[Group, Sequence[int]]] = []
        for group in batch:
            own = [positions[one.seq] for one in group.records]
            if group.durable:
                durable.append((group, own))
            else:
                group.told(own, None)
        if durable or self._writer.unsynced_bytes() >= self._BATCH_BYTES:
            self.sync(durable)

    def _append(self, batch: Sequence[Group], notes: Sequence[Pending]) -> dict[int, int] | None:
        """Write records and notes in the order of their numbers; return places by number."""
        records = [one for group in batch for one in group.records]
        # What is missing stands before what follows it, so that no crash can come between.
        records = sorted([*notes, *records], key=lambda one: one.seq)
        try:
            found = self._stored(records, waits=bool(batch) and self._clock() < self._again_at)
        except Exception as error:  # noqa: BLE001  # memory may be short, too: others can be written
            self._pause(error)
            self._aside.refused(records)
            for group in batch:
                group.told([], LogUnavailable(f"not written: {error}"))
            return None
        if self._sync_at is None:
            self._sync_at = self._clock() + self._sync_seconds
        self.refusal = None
        self._aside.wrote(found[-1])
        return {one.seq: place for one, place in zip(records, found, strict=True)}

    def _stored(self, records: Sequence[Pending], *, waits: bool) -> Sequence[int]:
        if waits or not self._is_ready():
            raise self._why
        encoded = [
            frames.encode(one.payload, kind=one.kind, seq=one.seq, at_ns=one.at_ns)
            for one in records
        ]
        return self._writer.append(encoded, first_seq=records[0].seq)
