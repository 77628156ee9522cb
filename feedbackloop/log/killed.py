"""Declare what killed producers had numbered and never written, before anybody writes after them.

The declaration is a gap in a segment of the dead producer, on disk before its mark is taken away:
whoever dies in between finds the gap, and has nothing left to declare.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from feedbackloop.log import frames, reader, segment
from feedbackloop.log.disk import Disk
from feedbackloop.log.frames import Kind, RawFrame
from feedbackloop.log.marks import Life, Marks
from feedbackloop.log.reader import GapNote
from feedbackloop.log.writer import Writer

KILLED = "killed"
"""Reason of such a gap."""
HIDDEN = "hidden"
"""Reason of a gap over what was written to another folder that was in this place: a volume was
mounted over it, or taken away. What of it was forwarded, or will be, outranks the gap."""
_SEGMENT_BYTES = 2**12


class _Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder holds of one producer.

    Attributes:
        following: The number after the last one that stands there.
        at_ns: When that one was handed over, 0 if nobody knows.
    """

    following: int
    at_ns: int


def declare(disk: Disk, marks: Marks, *, after: int, now_ns: Callable[[], int]) -> None:
    """Declare what is known of dead producers alone by their marks, and take those away.

    Args:
        disk: The folder; nobody else writes to it.
        marks: Of its producers.
        after: Position that readers are past.
        now_ns: The clock.

    Raises:
        OSError: If the disk refuses. What is declared is declared; the other marks stay.
    """
    lives = [(_held(disk, life), life) for life in marks.dead()]
    # A producer's segments stand together: whoever has some was the last to write, and goes on.
    for held, life in sorted(lives, key=lambda pair: (pair[0] is None, pair[1].producer)):
        notes = list(_notes(held, life, now_ns()))
        if notes:
            _write(disk, life.producer, notes, after=after)
        marks.remove(life.producer)


def _notes(held: _Held | None, life: Life, now_ns: int) -> Iterator[GapNote]:
    """Say what is missing of a producer."""
    # A folder that was written to holds its writer's last segment until the next one writes.
    hidden, following = (life.written, life.written) if held is None else (0, held.following)
    since = now_ns if held is None or not held.at_ns else held.at_ns
    for first, end, reason in ((0, hidden, HIDDEN), (following, life.given, KILLED)):
        if first < end:
            yield GapNote(
                first=first, last=end - 1, reason=reason, first_at_ns=since, last_at_ns=now_ns
            )


def _held(disk: Disk, life: Life) -> _Held | None:
    """Find the highest number that segments hold of a producer; None if it has no segment."""
    found: _Held | None = None
    lowest = 0
    for name in reversed(reader.segments(disk)):
        head = reader.header_of(disk, name)
        if head is None or head.producer != life.producer:
            continue
        here = _highest(disk, name, head)
        # What stands before can be higher only where a segment repeats what was not synced.
        if found is not None and here.following <= lowest:
            break
        lowest = head.first_seq if found is None else min(lowest, head.first_seq)
        if found is None or here.following > found.following:
            found = here
    return found


def _highest(disk: Disk, name: str, head: segment.SegmentHeader) -> _Held:
    best = _Held(following=head.first_seq, at_ns=0)
    for one in reader.scanned(disk, name, segment.HEADER_BYTES, sealed=False):
        if isinstance(one, RawFrame) and reader.last_seq(one) >= best.following:
            best = _Held(following=reader.last_seq(one) + 1, at_ns=one.at_ns)
    return best


def _write(disk: Disk, producer: str, notes: Sequence[GapNote], *, after: int) -> None:
    encoded = [
        frames.encode(
            msgspec.json.encode(note), kind=Kind.GAP, seq=note.first, at_ns=note.first_at_ns
        )
        for note in notes
    ]
    writer = Writer(disk, producer=producer, segment_bytes=_SEGMENT_BYTES)
    writer.open(after=after)
    try:
        writer.append(encoded, first_seq=notes[0].first)
        writer.sync()
    finally:
        writer.close()
