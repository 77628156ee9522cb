"""Running counts agree with counting everything anew."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.dataset.dpo import dpo_rows
from feedbackloop.dataset.selection import unusable
from feedbackloop.events import AnyEvent, CompletionServed, Reply, Thumb
from feedbackloop.labels.resolve import resolve
from feedbackloop.labels.tally import Counts, Tally
from tests.builders import ALIAS, NOON, a_completion, a_retry, a_thumb, an_outcome

CUT = (Reply(text="fo", finish_reason="length"),)
LATE = NOON + timedelta(hours=1)
EVENTS: list[AnyEvent] = [
    a_completion("c1"),
    a_completion("c2", ended_at=NOON + timedelta(minutes=1)),
    a_completion("c3", prompt="another"),
    a_completion("c4", text="four"),
    a_completion("c4", text="four!"),
    a_completion("c5", text="four!"),
    a_completion("c2", replies=CUT),
    a_completion("c4", replies=CUT),
    a_retry("c1", "c2"),
    a_retry("c1", "c3"),
    a_retry("c2", "c4"),
    a_retry("c4", "c5"),
    a_retry("c5", "c1"),
    a_thumb("c1", Thumb.DOWN),
    a_thumb("c2", Thumb.UP),
    a_thumb("c2", Thumb.DOWN, at=NOON + timedelta(minutes=2)),
    an_outcome("c3", "copied"),
    an_outcome("c4", "copied"),
    a_thumb("c5", Thumb.UP),
    a_thumb("c5", Thumb.DOWN, at=NOON + timedelta(minutes=3)),
]


def is_usable(completion: CompletionServed) -> bool:
    return unusable(completion) is None


def tally(events: Sequence[AnyEvent]) -> Tally:
    counter = Tally(watermark=timedelta(minutes=10), counted=lambda _: True, usable=is_usable)
    for event in events:
        counter.add(event)
    return counter


def test_a_completion_is_not_counted_before_it_matures() -> None:
    """A thumb may still come that says the opposite of the retry."""
    counter = tally([a_completion("c1"), a_retry("c1", "c2")])

    early = counter.counts(ALIAS, now=NOON + timedelta(minutes=9))
    ripe = counter.counts(ALIAS, now=NOON + timedelta(minutes=10))

    assert (early.undesirable, ripe.undesirable) == (0, 1)


def test_a_retry_whose_second_answer_was_accepted_is_a_pair() -> None:
    """It is the best material there is: one prompt, one person, two answers."""
    events: list[AnyEvent] = [
        a_completion("c1"),
        a_completion("c2", text="four"),
        a_retry("c1", "c2"),
        a_thumb("c2"),
    ]

    assert tally(events).counts(ALIAS, now=LATE) == Counts(desirable=1, undesirable=1, pairs=1)


def test_the_first_answer_pairs_with_the_one_that_was_accepted_in_the_end() -> None:
    """Somebody who asked twice more disliked two answers: the snapshot makes two pairs of it."""
    events: list[AnyEvent] = [
        a_completion("c1"),
        a_completion("c2", text="five"),
        a_completion("c3", text="four"),
        a_retry("c1", "c2"),
        a_retry("c2", "c3"),
        a_thumb("c3"),
    ]

    assert tally(events).counts(ALIAS, now=LATE) == Counts(desirable=1, undesirable=2, pairs=2)


def test_a_vote_that_changes_its_mind_moves_the_count() -> None:
    """The scheduler must not start a run on votes that were taken back since."""
    counter = tally([a_completion("c1"), a_thumb("c1", Thumb.UP)])
    counter.counts(ALIAS, now=LATE)

    counter.add(a_thumb("c1", Thumb.DOWN, at=LATE))

    assert counter.counts(ALIAS, now=LATE) == Counts(undesirable=1)


def test_held_out_people_do_not_make_a_run_due() -> None:
    """Their labels are the gate's, and would leave the run short of rows."""
    counter = Tally(watermark=timedelta(0), counted=lambda one: one.user != "ann", usable=is_usable)
    counter.add(a_completion("c1"))
    counter.add(a_thumb("c1"))

    assert counter.counts(ALIAS, now=LATE) == Counts()


def test_an_answer_that_was_cut_short_makes_no_run_due() -> None:
    """The snapshot leaves it out: a run for its sake would have nothing to train on."""
    counter = tally([a_completion("c1", replies=CUT), a_thumb("c1")])

    assert counter.counts(ALIAS, now=LATE) == Counts()


@given(st.lists(st.sampled_from(EVENTS)), st.lists(st.booleans(), max_size=20))
def test_counting_as_they_come_is_counting_at_the_end(
    events: list[AnyEvent], looks: list[bool]
) -> None:
    """However often somebody looks in between, the count is that of the log so far."""
    counter = tally([])
    for event, look in zip(events, [*looks, *[False] * len(events)], strict=False):
        counter.add(event)
        if look:
            counter.counts(ALIAS, now=LATE)

    assert counter.counts(ALIAS, now=LATE) == _anew(counter, LATE)


def _anew(counter: Tally, now: datetime) -> Counts:
    completions = {one.completion_id: one for one in counter.gathering.completions()}
    assert all(one.completion and one.completion.ended_at <= now for one in completions.values())
    labels = {name: resolve(name, one.signals) for name, one in completions.items()}
    values = [
        label.desirable
        for name, label in labels.items()
        if label and (served := completions[name].completion) and is_usable(served)
    ]
    return Counts(
        desirable=sum(values),
        undesirable=len(values) - sum(values),
        pairs=len(dpo_rows(list(completions.values()), {k: v for k, v in labels.items() if v})),
    )
