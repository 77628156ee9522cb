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
    MAX_PAYLOAD_BYTES,
    Damage,
    Kind,
    RawFrame,
    scan,
)
from feedbackloop.log.port import Frame, SpoolGap

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


def read(disk: Disk, *, after: int) -> Iterator[Frame | SpoolGap]:
    """Yield what stands past position ``after``, as far as it is whole, then stop.

    Damage within a segment, or at the end of one that is no longer written, comes as a gap that
    names the missing sequence numbers. A frame that is just being written is not yielded.

    Raises:
        LogUnavailable: If what followed ``after`` was removed already.
    """
    names = segments(disk)
    if not names:
        return
    head = _header(disk, names[0])
    if head is not None and head.previous > after >= 0:
        raise LogUnavailable(f"what followed position {after} was removed up to {head.base}")
    first = max((i for i, name in enumerate(names) if segment.base(name) <= after), default=0)
    for i in range(first, len(names)):
        following = names[i + 1] if i + 1 < len(names) else None
        yield from _segment(disk, names[i], after=after, following=following)


def _segment(
    disk: Disk, name: str, *, after: int, following: str | None
) -> Iterator[Frame | SpoolGap]:
    header = _opening(disk, name, following)
    if header is None:
        return
    expected = header.first_seq
    start = max(segment.HEADER_BYTES, after - header.base)
    damaged, within = False, _is_within(disk, name, start)
    for found in _frames(disk, name, start, sealed=following is not None):
        if isinstance(found, Damage):
            # The rest of a frame that we began to read in its middle is none.
            damaged = not within
            continue
        within = False
        position = header.base + found.start
        if damaged and found.seq > expected:
            # In front of the frame, and past the one before it: places grow strictly.
            yield _gap(header.producer, position - 1, expected, found.seq - 1, found.at_ns)
        damaged = False
        expected = max(expected, _last_seq(found) + 1)
        if position > after:
            yield _entry(header.producer, position, found)
    if following is not None and name not in disk.names():
        # Retention overtook us: nobody knows whether the end that we saw was its end.
        raise LogUnavailable(f"segment {name} was removed while it was read")
    if damaged and following is not None:
        yield from _lost_tail(disk, name, header, expected, following)


def _is_within(disk: Disk, name: str, start: int) -> bool:
    """Say whether no frame begins at a place, so that it lies within one."""
    return start > segment.HEADER_BYTES and disk.read(name, start, len(MAGIC)) != MAGIC


def _opening(disk: Disk, name: str, following: str | None) -> segment.SegmentHeader | None:
    """Read a segment's header; None while nobody can know what it will say."""
    header = _header(disk, name)
    if header is not None or following is None:
        return header
    # Its head is damaged, but its frames have checksums of their own.
    return segment.SegmentHeader(
        base=segment.base(name), previous=-1, first_seq=0, producer="unknown"
    )


def _last_seq(frame: RawFrame) -> int:
    return frame.seq if frame.kind is Kind.RECORD else _note(frame).last


def _lost_tail(
    disk: Disk, name: str, header: segment.SegmentHeader, expected: int, following: str
) -> Iterator[SpoolGap]:
    """Name what a sealed segment's damaged end held, if the next one says how far it went."""
    after = _header(disk, following)
    if after is not None and after.producer == header.producer and after.first_seq > expected:
        position = header.base + disk.size(name) - 1
        yield _gap(header.producer, position, expected, after.first_seq - 1, 0)


def _frames(disk: Disk, name: str, start: int, *, sealed: bool) -> Iterator[RawFrame | Damage]:
    """Scan a segment in bounded memory."""
    while True:
        data = disk.read(name, start, _CHUNK_BYTES)
        grown = _CHUNK_BYTES
        whole = len(data) < grown
        last: Damage | None = None
        consumed = 0
        for found in scan(data):
            if isinstance(found, Damage) and found.end == len(data):
                last = found
                break
            consumed = found.end
            yield _shift(found, start)
        if whole:
            if last is not None and sealed:
                yield _shift(last, start)
            return
        if consumed == 0:
            data = disk.read(name, start, HEADER_BYTES + MAX_PAYLOAD_BYTES + _CHUNK_BYTES)
            found = next(iter(scan(data)))
            yield _shift(found, start)
            consumed = found.end
        start += consumed


def _shift(found: RawFrame | Damage, by: int) -> RawFrame | Damage:
    if isinstance(found, Damage):
        return Damage(start=found.start + by, end=found.end + by)
    return msgspec.structs.replace(found, start=found.start + by, end=found.end + by)


def _header(disk: Disk, name: str) -> segment.SegmentHeader | None:
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
        reason="damaged",
        first_at=moment(at_ns),
        last_at=moment(at_ns),
    )


def beginning(disk: Disk) -> int:
    """Return the position of the last record that was removed, -1 if none was."""
    names = segments(disk)
    if not names:
        return -1
    head = _header(disk, names[0])
    # Without its head nobody knows where the record before it stood: somewhere before it.
    return segment.base(names[0]) - 1 if head is None else head.previous


def end(disk: Disk) -> int:
    """Return the position of the last whole record, -1 if there is none."""
    for name in reversed(segments(disk)):
        last = -1
        for found in _frames(disk, name, segment.HEADER_BYTES, sealed=False):
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
        for found in _frames(disk, name, start, sealed=False):
            if isinstance(found, RawFrame):
                return base + found.start
    return -1
