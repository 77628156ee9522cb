"""Read segments without a lock, while somebody writes them."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from feedbackloop.errors import LogUnavailable
from feedbackloop.log import segment
from feedbackloop.log.disk import Disk
from feedbackloop.log.frames import (
    HEADER_BYTES,
    MAGIC,
    Damage,
    Kind,
    RawFrame,
    claimed,
    parse,
)
from feedbackloop.log.port import Frame, SpoolGap

DAMAGED = "damaged"
"""Reason of a gap that a reader found; every other gap was written down."""
_CHUNK_BYTES = 2**20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class GapNote(msgspec.Struct, frozen=True, kw_only=True):
    """What a gap frame's payload says."""

    first: int
    last: int
    reason: str
    first_at_ns: int
    last_at_ns: int


def moment(at_ns: int) -> datetime:
    """Turn nanoseconds since 1970 into a time, to the microsecond."""
    seconds, rest = divmod(at_ns, 10**9)
    return _EPOCH + timedelta(0, seconds, rest // 1000)


def segments(disk: Disk) -> list[str]:
    """List a folder's segments by position."""
    return sorted(name for name in disk.names() if segment.is_segment(name))


def read(
    disk: Disk, *, after: int, through: int | None = None, numbered: bool = False
) -> Iterator[Frame | SpoolGap]:
    """Yield what stands past position ``after``, as far as it is whole, then stop.

    Damage within a segment, or at the end of one that is no longer written, comes as a gap that
    names the missing sequence numbers. A frame that is just being written is not yielded.

    Args:
        disk: The folder.
        after: Position to begin behind, -1 for the beginning.
        through: Position of the last record, if it is known: zeros past it need no search.
        numbered: Whether producers leave no number out without a note. A number that is passed
            over is then damage, and one that comes again a repeat, which is not yielded.

    Raises:
        LogUnavailable: If what followed ``after`` was removed already.
    """
    names = segments(disk)
    if not names:
        return
    head = header_of(disk, names[0])
    if head is not None and head.previous > after >= 0:
        raise LogUnavailable(f"what followed position {after} was removed up to {head.base}")
    first = max((i for i, name in enumerate(names) if segment.base(name) <= after), default=0)
    reading = _Reading(disk, after=after, through=through, numbered=numbered)
    for i in range(first, len(names)):
        following = names[i + 1] if i + 1 < len(names) else None
        yield from reading.pass_over(names[i], following=following)


class _Reading:
    """One pass over segments, and which numbers it has met."""

    def __init__(self, disk: Disk, *, after: int, through: int | None, numbered: bool) -> None:
        self._disk = disk
        self._after = after
        self._through = through
        self._numbered = numbered
        self._producer: str | None = None
        self._expected: int | None = None
        """The next number; None if nobody knows where this pass began."""
        self._first = 0
        """The first number that this pass has met."""
        self._damaged = False
        self._missing: list[tuple[int, int]] = []

    def pass_over(self, name: str, *, following: str | None) -> Iterator[Frame | SpoolGap]:
        """Yield what one segment holds past the beginning of the pass."""
        header = self._opening(name, following)
        if header is None:
            return
        start = max(segment.HEADER_BYTES, self._after - header.base)
        self._begin(header, within=start > segment.HEADER_BYTES)
        # The rest of a frame that we begin to read in its middle is no damage.
        within = start > segment.HEADER_BYTES and _magic(self._disk, name, start) != MAGIC
        ending = None if self._through is None else self._through - header.base
        for found in scanned(self._disk, name, start, sealed=following is not None, through=ending):
            if isinstance(found, Damage):
                self._damaged = not within
                continue
            within = False
            if found.seq == self._expected and found.kind is Kind.RECORD:
                # As nearly all are: the next one.
                self._damaged, self._expected = False, found.seq + 1
                if header.base + found.start > self._after:
                    yield _entry(header.producer, header.base + found.start, found)
            else:
                yield from self._found(header, found)
        if following is not None and name not in self._disk.names():
            # Retention overtook us: nobody knows whether the end that we saw was its end.
            raise LogUnavailable(f"segment {name} was removed while it was read")
        if following is not None:
            yield from self._lost_end(header, following)

    def _lost_end(self, header: segment.SegmentHeader, following: str) -> Iterator[SpoolGap]:
        """Name what a segment's end held, if the next one says that it went further."""
        after = header_of(self._disk, following)
        expected = self._expected
        if after is None or after.producer != header.producer or expected is None:
            return
        if after.first_seq > expected and (self._damaged or self._numbered):
            place = segment.base(following) - 1
            yield _gap(header.producer, place, expected, after.first_seq - 1, 0)
            self._missing.append((expected, after.first_seq - 1))
            self._damaged = False
            self._expected = after.first_seq

    def _begin(self, header: segment.SegmentHeader, *, within: bool) -> None:
        if self._producer == header.producer:
            return
        is_first = self._producer is None
        self._producer, self._missing = header.producer, []
        if is_first:
            self._expected = None if within and self._numbered else header.first_seq
            self._first = header.first_seq
        else:
            # Nothing but whole segments at the front is ever removed: it began here.
            self._expected = 0 if self._numbered else header.first_seq
            self._first = self._expected
            self._damaged = False

    def _found(self, header: segment.SegmentHeader, found: RawFrame) -> Iterator[Frame | SpoolGap]:
        position = header.base + found.start
        if self._expected is None:
            self._first = self._expected = found.seq
        expected = self._expected
        if found.seq > expected and (self._damaged or self._numbered):
            # In front of the frame, and past the one before it: places grow strictly.
            yield _gap(header.producer, position - 1, expected, found.seq - 1, found.at_ns)
            self._missing.append((expected, found.seq - 1))
        self._damaged = False
        self._expected = max(expected, last_seq(found) + 1)
        if position > self._after and not self._is_repeat(found, expected):
            yield _entry(header.producer, position, found)

    def _is_repeat(self, found: RawFrame, expected: int) -> bool:
        """Say whether a failed sync made the writer write a frame again that was read already."""
        if not self._numbered or not self._first <= found.seq < expected:
            return False
        return not any(first <= found.seq <= last for first, last in self._missing)

    def _opening(self, name: str, following: str | None) -> segment.SegmentHeader | None:
        """Read a segment's header; None while nobody can know what it will say."""
        header = header_of(self._disk, name)
        if header is not None or following is None:
            return header
        # Its head is damaged, but its frames have checksums of their own. Whose they are, the
        # next head says, unless a new incarnation began there.
        after = header_of(self._disk, following)
        same = after is not None and (after.first_seq > 0 or after.producer == self._producer)
        producer = after.producer if same and after is not None else self._producer or "unknown"
        first_seq = 0 if self._expected is None else self._expected
        return segment.SegmentHeader(
            base=segment.base(name), previous=-1, first_seq=first_seq, producer=producer
        )


def _magic(disk: Disk, name: str, start: int) -> bytes:
    return disk.read(name, start, len(MAGIC))


def last_seq(frame: RawFrame) -> int:
    """Return the number of a record, or the last one that a gap names."""
    return frame.seq if frame.kind is Kind.RECORD else _note(frame).last


def scanned(
    disk: Disk, name: str, start: int, *, sealed: bool, through: int | None = None
) -> Iterator[RawFrame | Damage]:
    """Find a segment's frames from an offset on, and the damage between them, in bounded memory.

    Args:
        disk: The folder.
        name: Of the segment.
        start: Where a frame begins.
        sealed: Whether nobody writes to it any more: what is at its end and no frame is damage.
        through: Offset of the last frame, if that is known: nothing is looked for past it.
    """
    while True:
        data = disk.read(name, start, _CHUNK_BYTES)
        consumed = 0
        while (frame := parse(data, consumed, at=start)) is not None:
            consumed = frame.end - start
            yield frame
        start += consumed
        if consumed:
            continue
        if not data or (through is not None and start > through and not sealed):
            return
        frame = _whole(disk, name, start, data)
        if frame is not None:
            yield frame
            start = frame.end
            continue
        following = _resume(disk, name, start + 1)
        if following is None and not sealed:
            return
        end = disk.size(name) if following is None else following
        yield Damage(start=start, end=end)
        start = end


def _whole(disk: Disk, name: str, at: int, data: bytes) -> RawFrame | None:
    """Read the frame that begins at an offset; ``data`` is what is known to stand there."""
    frame = parse(data, 0, at=at)
    if frame is None:
        head = data if len(data) >= HEADER_BYTES else disk.read(name, at, HEADER_BYTES)
        length = claimed(head)
        frame = parse(disk.read(name, at, length), 0, at=at) if length > len(data) else None
    return frame


def _resume(disk: Disk, name: str, start: int) -> int | None:
    """Find the next whole frame from ``start`` on; None if there is none."""
    while data := disk.read(name, start, _CHUNK_BYTES):
        here = data.find(MAGIC)
        while here >= 0:
            if _whole(disk, name, start + here, data[here:]) is not None:
                return start + here
            here = data.find(MAGIC, here + 1)
        if len(data) < _CHUNK_BYTES:
            return None
        # A marker may lie across the end.
        start += len(data) - len(MAGIC) + 1
    return None


def header_of(disk: Disk, name: str) -> segment.SegmentHeader | None:
    """Read a segment's header; None if it is damaged."""
    return segment.decode(disk.read(name, 0, segment.HEADER_BYTES))


def _entry(producer: str, position: int, frame: RawFrame) -> Frame | SpoolGap:
    if frame.kind is Kind.RECORD:
        return Frame(
            position=position,
            producer=producer,
            seq=frame.seq,
            at=moment(frame.at_ns),
            payload=frame.payload,
        )
    note = _note(frame)
    return SpoolGap(
        position=position,
        producer=producer,
        first=note.first,
        last=note.last,
        reason=note.reason,
        first_at=moment(note.first_at_ns),
        last_at=moment(note.last_at_ns),
    )


def _note(frame: RawFrame) -> GapNote:
    return msgspec.json.decode(frame.payload, type=GapNote)


def _gap(producer: str, position: int, first: int, last: int, at_ns: int) -> SpoolGap:
    return SpoolGap(
        position=position,
        producer=producer,
        first=first,
        last=last,
        reason=DAMAGED,
        first_at=moment(at_ns),
        last_at=moment(at_ns),
    )


def beginning(disk: Disk) -> int:
    """Return the position of the last record that was removed, -1 if none was."""
    names = segments(disk)
    if not names:
        return -1
    head = header_of(disk, names[0])
    # Without its head nobody knows where the record before it stood: somewhere before it.
    return segment.base(names[0]) - 1 if head is None else head.previous


def end(disk: Disk) -> int:
    """Return the position of the last whole record, -1 if there is none."""
    for name in reversed(segments(disk)):
        last = -1
        for found in scanned(disk, name, segment.HEADER_BYTES, sealed=False):
            if isinstance(found, RawFrame):
                last = segment.base(name) + found.start
        if last >= 0:
            return last
    return -1


def sequence(disk: Disk) -> Sequence[tuple[str, int]]:
    """List segments with their sizes, by position."""
    return [(name, disk.size(name)) for name in segments(disk)]


def record_at(disk: Disk, position: int) -> int:
    """Return the position of the first whole record from ``position`` on, -1 if there is none.

    Reading past a position that is no record's would find damage there.
    """
    names = segments(disk)
    first = max((i for i, name in enumerate(names) if segment.base(name) <= position), default=-1)
    for name in names[first:] if first >= 0 else []:
        base = segment.base(name)
        start = max(segment.HEADER_BYTES, position - base)
        for found in scanned(disk, name, start, sealed=False):
            if isinstance(found, RawFrame):
                return base + found.start
    return -1
