"""What a spool could not take is remembered in a few notes, and exactly."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.log.reader import GapNote
from feedbackloop.log.shed import Shed
from feedbackloop.log.thread import Pending

FATES = st.lists(st.sampled_from(["disk_full", "refused", "memory_full"]), max_size=40)


def numbers(notes: list[GapNote]) -> list[int]:
    return [seq for note in notes for seq in range(note.first, note.last + 1)]


def taken(shed: Shed, through: int | None = None) -> list[GapNote]:
    return [msgspec.json.decode(one.payload, type=GapNote) for one in shed.take(through)]


@given(FATES, st.integers(1, 60))
def test_every_number_that_was_shed_is_named_once(fates: list[str], repeats: int) -> None:
    """Votes and completions meet a full disk in turns, for hours: each has a reason of its own."""
    shed = Shed()
    for seq, fate in enumerate(fates * repeats):
        if fate == "refused":
            shed.put_back([Pending(seq=seq, at_ns=seq, payload=b"x")])
            shed.put_back(shed.take(seq + 1))
        else:
            shed.note(seq, seq, fate)

    notes = taken(shed)

    assert numbers(notes) == list(range(len(fates) * repeats))
    assert len(notes) <= 1_001
    assert sum(shed.records.values()) == len(fates) * repeats
    assert not shed


def test_what_stands_between_queued_records_is_kept_apart() -> None:
    """A gap never covers a number that a record may still carry."""
    shed = Shed()
    for seq in range(0, 6_000, 2):
        shed.note(seq, 0, "memory_full")

    assert numbers(taken(shed)) == list(range(0, 6_000, 2))


def test_reasons_are_told_apart_while_there_is_room() -> None:
    """An operator wants to know them."""
    shed = Shed()
    for seq, reason in enumerate(["disk_full", "memory_full", "memory_full"]):
        shed.note(seq, seq, reason)

    assert [(note.first, note.last, note.reason) for note in taken(shed)] == [
        (0, 0, "disk_full"),
        (1, 2, "memory_full"),
    ]
