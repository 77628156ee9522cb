"""Every number of a producer is seen, declared, pending or missing, and never two of these."""

from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.events import AnyEvent, CaptureGap, EventId
from feedbackloop.log.completeness import Audit, Completeness, Numbers
from tests.builders import NOON, TENANT, a_completion, a_thumb

LATER = NOON + timedelta(days=1)
numbers = st.lists(st.integers(0, 40), max_size=40)


def a_gap(first: int, last: int, reason: str = "disk_full") -> CaptureGap:
    return CaptureGap(
        event_id=EventId(f"{first}-{last}-{reason}"),
        tenant=TENANT,
        at=NOON,
        producer="one",
        first=first,
        last=last,
        count=last - first + 1,
        reason=reason,
        until=NOON,
    )


@given(numbers)
def test_numbers_are_a_set(added: list[int]) -> None:
    """They arrive in any order, and again after every crash of a forwarder."""
    found = Numbers()
    for number in added:
        found.add(number, number, NOON)

    holes = {n for first, last, _ in found.holes() for n in range(first, last + 1)}

    assert found.count() == len(set(added))
    assert holes == set(range(max(added, default=-1) + 1)) - set(added)


@given(numbers, numbers)
def test_the_difference_of_two_sets_is_counted(one: list[int], other: list[int]) -> None:
    """A number that was declared lost and came after all is not lost."""
    left, right = Numbers(), Numbers()
    for number in one:
        left.add(number, number, NOON)
    for number in other:
        right.add(number, number, NOON)

    assert left.without(right) == len(set(one) - set(other))


@given(numbers, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5))), st.randoms())
def test_what_was_recorded_adds_up(
    seen: list[int], gaps: list[tuple[int, int]], random: Random
) -> None:
    """Expected is seen, declared and missing, whatever arrives in whichever order."""
    events: list[AnyEvent] = [a_thumb(f"c{seq}", producer="one", seqs=(seq,)) for seq in seen]
    events += [a_gap(first, first + more) for first, more in gaps]
    random.shuffle(events)
    audit = Audit()
    for event in events:
        audit.add(event)

    report = audit.report(now=LATER)

    lost = {n for first, more in gaps for n in range(first, first + more + 1)} - set(seen)
    highest = max([*seen, *(first + more for first, more in gaps)], default=-1)
    assert report.expected == highest + 1
    assert report.seen == len(set(seen))
    assert sum(report.declared.values()) == len(lost)
    assert sum(report.missing.values()) == highest + 1 - len(lost | set(seen))


def test_both_records_of_a_completion_are_seen() -> None:
    """It was opened and it was closed."""
    audit = Audit()

    audit.add(a_completion("c1", producer="one", seqs=(0, 1)))

    assert audit.report(now=LATER) == Completeness(producers=1, expected=2, seen=2)


def test_a_number_passed_over_lately_may_still_come() -> None:
    """A long reply is recorded after votes that were given during it."""
    audit = Audit()
    audit.add(a_thumb("c1", producer="one", seqs=(1,)))

    soon, late = (audit.report(now=now) for now in (NOON + timedelta(minutes=5), LATER))

    assert (soon.pending, soon.missing, soon.ratio) == (1, {}, 1.0)
    assert (late.pending, late.missing, late.ratio) == (0, {"one": 1}, 0.5)


def test_the_end_of_a_reply_does_not_make_its_beginning_late() -> None:
    """What came between the two numbers is measured by the end of the reply."""
    audit = Audit()
    end = LATER - timedelta(minutes=5)
    audit.add(a_completion("c1", producer="one", seqs=(0, 2), ended_at=end))

    report = audit.report(now=LATER)

    assert (report.pending, report.missing) == (1, {})


def test_events_that_nobody_numbered_are_not_audited() -> None:
    """The scheduler's own, and those of an importer."""
    audit = Audit()

    audit.add(a_completion("c1"))

    assert audit.report(now=LATER) == Completeness(ratio=1.0)


def test_what_is_missing_is_named() -> None:
    """Whoever looks for it wants to know where to begin."""
    audit = Audit()
    audit.add(a_thumb("c1", producer="one", seqs=(3,)))
    audit.add(a_gap(1, 1))

    (producer,) = audit.producers(now=LATER).values()

    assert producer.first_missing == ((0, 0), (2, 2))
