"""Completions and what was said about them, whatever the log does."""

from datetime import timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.events import AnyEvent, CompletionId, Outcome, Reply
from feedbackloop.labels.gather import Gathering
from tests.builders import NOON, a_completion, a_retry, a_thumb

EVENTS: list[AnyEvent] = [
    a_completion("c1"),
    a_completion("c1", outcome=Outcome.CRASHED, replies=()),
    a_completion("c2", prompt="other"),
    a_thumb("c1"),
    a_thumb("c3"),
    a_retry("c1", "c2"),
]


def gathered(events: list[AnyEvent]) -> Gathering:
    gathering = Gathering()
    for event in events:
        gathering.add(event)
    return gathering


def test_a_vote_may_arrive_before_its_completion() -> None:
    """They may have passed through different sidecars."""
    gathering = gathered([a_thumb("c1"), a_completion("c1")])

    (one,) = gathering.completions()

    assert one.signals == (a_thumb("c1"),)


def test_a_vote_without_a_completion_is_counted_as_an_orphan() -> None:
    """The completion's own record may have been shed: that must not be silent."""
    assert gathered([a_thumb("c9")]).orphans() == 1


def test_the_record_that_saw_more_of_the_reply_wins() -> None:
    """After a crash a forwarder may report a completion as crashed that was in fact whole."""
    whole = a_completion("c1", replies=(Reply(text="4", finish_reason="stop"),))
    crashed = a_completion("c1", replies=(), outcome=Outcome.CRASHED)

    gathering = gathered([whole, crashed])

    assert gathering.of(CompletionId("c1")).completion == whole


def test_a_vote_that_was_sent_twice_was_recorded_twice() -> None:
    """Its client repeated the call: it counts once, and neither record is missing."""
    twice = [a_thumb("c1", producer="p", seqs=(seq,)) for seq in (0, 1)]
    longer = a_completion("c1", producer="p", seqs=(2, 5))
    crashed = a_completion("c1", producer="p", seqs=(2, 3), replies=())
    again = a_completion("c1", producer="p", seqs=(2, 4), replies=())
    gathering = gathered([*twice, again, longer, crashed])

    audit = gathering.until(NOON + timedelta(hours=1)).audit()

    assert audit.report(now=NOON + timedelta(days=1)).seen == 6


def test_the_past_does_not_know_the_future() -> None:
    """A snapshot of this morning must be the same when it is rebuilt tonight."""
    later = NOON + timedelta(hours=2)
    gathering = gathered([a_completion("c1"), a_thumb("c1", at=later)])

    past = gathering.until(NOON + timedelta(hours=1))

    assert past.of(CompletionId("c1")).signals == ()


@given(st.lists(st.sampled_from(EVENTS)), st.randoms(use_true_random=False))
def test_order_and_repeats_do_not_matter(events: list[AnyEvent], random: Random) -> None:
    """Everything is counted once: redelivery, replay and two sidecars included."""
    shuffled = events * 2
    random.shuffle(shuffled)

    assert list(gathered(shuffled).completions()) == list(gathered(events).completions())
