"""Declare what killed producers had numbered and never written, before anybody writes after them.

The declaration is a gap in a segment of the dead producer, on disk before its mark is taken away:
whoever dies in between finds the gap, and has nothing left to declare.
"""

from collections.abc import Callable

import msgspec

from feedbackloop.log import frames, reader, segment
from feedbackloop.log.disk import Disk
from feedbackloop.log.frames import Kind, RawFrame
from feedbackloop.log.marks import Life, Marks
from feedbackloop.log.reader import GapNote
from feedbackloop.log.writer import Writer

KILLED = "killed"
"""Reason of such a gap."""
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
        first = life.written if held is None else held.following
        if first < life.given:
            now = now_ns()
            note = GapNote(
                first=first,
                last=life.given - 1,
                reason=KILLED,
                first_at_ns=now if held is None or not held.at_ns else held.at_ns,
                last_at_ns=now,
            )
            _write(disk, life.producer, note, after=after)
        marks.remove(life.producer)


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


def _write(disk: Disk, producer: str, note: GapNote, *, after: int) -> None:
    payload = msgspec.json.encode(note)
    frame = frames.encode(payload, kind=Kind.GAP, seq=note.first, at_ns=note.first_at_ns)
    writer = Writer(disk, producer=producer, segment_bytes=_SEGMENT_BYTES)
    writer.open(after=after)
    try:
        writer.append([frame], first_seq=note.first)
        writer.sync()
    finally:
        writer.close()
