"""The spool: a bounded queue of raw records on the process' own disk, before the log.

Whatever does not fit is shed, completions before votes, and what was shed is written down as a
gap as soon as there is room for it.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import msgspec

from feedbackloop.errors import LogUnavailable
from feedbackloop.log import reader, segment
from feedbackloop.log.disk import Disk
from feedbackloop.log.frames import HEADER_BYTES, MAX_PAYLOAD_BYTES, Kind
from feedbackloop.log.port import Frame, SpoolGap
from feedbackloop.log.reader import GapNote
from feedbackloop.log.thread import Group, Pending, WriterThread
from feedbackloop.log.writer import Writer

_CHECKPOINT = "released"
_RESERVE = 0.1  # of memory and disk, kept for what was promised to a client


class SpoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a spool may hold.

    Attributes:
        memory_bytes: Records that wait for the writer thread.
        disk_bytes: Segments that were not yet released.
        segment_bytes: Size at which a segment is sealed: what is released leaves in these.
    """

    memory_bytes: int = 64 * 2**20
    disk_bytes: int = 2 * 2**30
    segment_bytes: int = 16 * 2**20


class SpoolQueue:
    """The spool over a disk. See ``log/port.py`` for what it promises."""

    def __init__(
        self,
        disk: Disk,
        *,
        producer: str,
        limits: SpoolLimits,
        now_ns: Callable[[], int],
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self.producer = producer
        self._disk = disk
        self._limits = limits
        self._now_ns = now_ns
        self._closed: Callable[[], None] | None = closed
        self._mutex = threading.Lock()
        self._arrived = threading.Condition()
        self._seq = 0
        self._queued_bytes = 0
        self._shed: list[GapNote] = []
        self._through = _read_checkpoint(disk)
        self._tail = reader.end(disk)
        writer = Writer(disk, producer=producer, segment_bytes=limits.segment_bytes)
        self._disk_bytes = sum(size for _, size in reader.sequence(disk))
        self._thread = WriterThread(writer, name=f"spool-{producer[:8]}", failed=self._refused)

    def offer(
        self,
        payload: bytes,
        *,
        durable: bool,
        written: Callable[[Exception | None], None] | None = None,
    ) -> None:
        def told(errors: Sequence[Exception | None]) -> None:
            if written is not None:
                written(errors[0])

        self._offer([payload], durable=durable, written=told)

    def offer_all(
        self,
        payloads: Sequence[bytes],
        *,
        written: Callable[[Sequence[Exception | None]], None],
    ) -> None:
        self._offer(payloads, durable=False, written=written)

    def read(self, *, after: int) -> Iterator[Frame | SpoolGap]:
        # What was released may be gone, and nobody asks for it.
        return reader.read(self._disk, after=max(after, self._through))

    def wait(self, *, after: int, timeout_seconds: float) -> bool:
        with self._arrived:
            return self._arrived.wait_for(lambda: self._tail > after, timeout_seconds)

    def release(self, *, through: int) -> None:
        if through <= self._through:
            return
        _write_checkpoint(self._disk, through)
        self._through = through
        names = reader.segments(self._disk)
        for name, following in pairwise(names):
            if segment.base(following) > through and not _ends_by(self._disk, following, through):
                break
            self._disk.remove(name)
        with self._mutex:
            self._disk_bytes = sum(size for _, size in reader.sequence(self._disk))
            self._write_gaps()

    def released(self) -> int:
        return self._through

    def close(self) -> None:
        if self._closed is None:
            return
        with self._mutex:
            self._write_gaps()
        self._thread.close()
        self._closed()
        self._closed = None

    def behind_bytes(self) -> int:
        return max(0, self._tail - max(0, self._through))

    def backlog_bytes(self) -> int:
        """Return how many bytes of segments were not yet freed."""
        return self._disk_bytes

    def _offer(
        self,
        payloads: Sequence[bytes],
        *,
        durable: bool,
        written: Callable[[Sequence[Exception | None]], None],
    ) -> None:
        now = self._now_ns()
        records: list[Pending] = []
        errors: list[Exception | None] = []
        with self._mutex:
            for payload in payloads:
                seq = self._seq
                self._seq += 1
                reason = self._full(len(payload), durable=durable)
                if reason is not None:
                    self._note(seq, now, reason)
                    errors.append(LogUnavailable(f"the spool is full: {reason}"))
                    continue
                if self._shed:
                    records += self._gaps()
                records.append(self._counted(Pending(seq=seq, at_ns=now, payload=payload)))
                errors.append(None)
            if records:
                self._hand_over(records, durable=durable, errors=errors, written=written)
        if not records:
            written(errors)

    def _full(self, size: int, *, durable: bool) -> str | None:
        share = 1.0 if durable else 1.0 - _RESERVE
        if size > MAX_PAYLOAD_BYTES:
            return "too_large"
        if self._queued_bytes + size > self._limits.memory_bytes * share:
            return "memory_full"
        if self._disk_bytes + size > self._limits.disk_bytes * share:
            return "disk_full"
        return None

    def _counted(self, record: Pending) -> Pending:
        size = len(record.payload) + HEADER_BYTES
        self._queued_bytes += size
        self._disk_bytes += size
        return record

    def _hand_over(
        self,
        records: Sequence[Pending],
        *,
        durable: bool,
        errors: list[Exception | None],
        written: Callable[[Sequence[Exception | None]], None],
    ) -> None:
        size = sum(len(one.payload) for one in records) + HEADER_BYTES * len(records)

        def told(positions: Sequence[int], error: Exception | None) -> None:
            self._arrive(positions[-1] if positions else -1, size)
            # What was shed has its word already.
            written(errors if error is None else [one or error for one in errors])

        self._thread.hand_over(Group(records=records, durable=durable, told=told))

    def _arrive(self, position: int, size: int) -> None:
        with self._mutex:
            self._queued_bytes -= size
        with self._arrived:
            self._tail = max(self._tail, position)
            self._arrived.notify_all()

    def _refused(self, batch: Sequence[Pending]) -> None:
        """Write down that the disk took nothing of these."""
        with self._mutex:
            for one in batch:
                self._disk_bytes -= len(one.payload) + HEADER_BYTES
                if one.kind is Kind.RECORD:
                    self._note(one.seq, one.at_ns, "disk_refused")
                else:
                    self._shed.append(msgspec.json.decode(one.payload, type=GapNote))

    def _note(self, seq: int, at_ns: int, reason: str) -> None:
        last = self._shed[-1] if self._shed else None
        if last is not None and last.last + 1 == seq and last.reason == reason:
            self._shed[-1] = msgspec.structs.replace(last, last=seq, last_at_ns=at_ns)
        else:
            note = GapNote(first=seq, last=seq, reason=reason, first_at_ns=at_ns, last_at_ns=at_ns)
            self._shed.append(note)

    def _gaps(self) -> list[Pending]:
        """Write down what is known to be missing."""
        notes, self._shed = self._shed, []
        return [
            self._counted(
                Pending(
                    kind=Kind.GAP,
                    seq=note.first,
                    at_ns=note.first_at_ns,
                    payload=msgspec.json.encode(note),
                )
            )
            for note in notes
        ]

    def _write_gaps(self) -> None:
        """Queue what is known to be missing, by itself."""
        if self._shed:
            self._hand_over(self._gaps(), durable=False, errors=[], written=lambda _: None)


def _ends_by(disk: Disk, following: str, through: int) -> bool:
    """Say whether the segment before ``following`` holds nothing past ``through``."""
    head = segment.decode(disk.read(following, 0, segment.HEADER_BYTES))
    return head is not None and head.previous <= through


def behind_bytes(disk: Disk) -> int:
    """Say how far the reader of a spool is behind its writer; takes no lock, and never waits."""
    return max(0, reader.end(disk) - max(0, _read_checkpoint(disk)))


def _read_checkpoint(disk: Disk) -> int:
    if _CHECKPOINT not in disk.names():
        return -1
    raw = disk.read(_CHECKPOINT, 0, 32)
    # Damaged, it is worth nothing: what is forwarded twice is counted once.
    return int(raw) if raw.strip().lstrip(b"-").isdigit() else -1


def _write_checkpoint(disk: Disk, through: int) -> None:
    unfinished = _CHECKPOINT + ".tmp"
    disk.remove(unfinished)
    handle = disk.create(unfinished)
    try:
        disk.write(handle, str(through).encode(), 0)
        disk.sync(handle)
    finally:
        disk.close(handle)
    disk.replace(unfinished, _CHECKPOINT)
    disk.sync_folder()
