"""What one completion's signals say about it."""

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.events import AnySignal, CompletionId, RetryKind, Thumb, UserId
from feedbackloop.labels.resolve import PRIORS, Source, resolve, standing
from tests.builders import (
    NOON,
    a_correction,
    a_rating,
    a_retry,
    a_thumb,
    a_withdrawal,
    an_outcome,
)

C1 = CompletionId("c1")

moments = st.integers(0, 5).map(lambda second: NOON + timedelta(seconds=second))
people = st.sampled_from([UserId("ann"), UserId("bob"), None])
signals = st.one_of(
    st.builds(
        lambda thumb, at, user: a_thumb("c1", thumb, at=at, user=user),
        st.sampled_from(Thumb),
        moments,
        people,
    ),
    st.builds(lambda at, user: a_withdrawal("c1", at=at, user=user), moments, people),
    st.builds(lambda kind: a_retry("c1", "c2", kind), st.sampled_from(RetryKind)),
    st.builds(lambda outcome: an_outcome("c1", outcome), st.sampled_from(["copied", "abandoned"])),
    st.builds(lambda at: a_correction("c1", at=at), moments),
    st.builds(lambda at: a_withdrawal("c1", "correction", at=at), moments),
)


def test_a_thumb_outranks_a_retry() -> None:
    """Someone who retried and still gave a thumb up has told us what they think."""
    label = resolve(C1, [a_retry("c1"), a_thumb("c1", Thumb.UP)])

    assert label is not None
    assert (label.desirable, label.sources) == (True, (Source.THUMB,))
    assert label.confidence == pytest.approx(0.95)


def test_the_latest_thumb_of_a_person_wins() -> None:
    """People change their minds, and the interface lets them."""
    before = a_thumb("c1", Thumb.UP, at=NOON)
    after = a_thumb("c1", Thumb.DOWN, at=NOON + timedelta(seconds=1))

    label = resolve(C1, [after, before])

    assert label is not None
    assert not label.desirable


def test_a_withdrawn_thumb_leaves_what_was_implied() -> None:
    """A vote taken back says nothing, but asking again still happened."""
    later = NOON + timedelta(minutes=5)

    label = resolve(C1, [a_retry("c1"), a_thumb("c1", Thumb.UP), a_withdrawal("c1", at=later)])

    assert label is not None
    assert label.sources == (Source.REGENERATE,)


def test_a_rating_that_was_taken_back_gives_the_thumb_before_it_its_word_back() -> None:
    """As if it had not been given, whatever was said in between."""
    given: list[AnySignal] = [
        a_thumb("c1", Thumb.UP, at=NOON),
        a_rating("c1", 1, at=NOON + timedelta(seconds=1)),
    ]
    taken = a_withdrawal("c1", "rating", at=NOON + timedelta(seconds=2))

    before, after = resolve(C1, given), resolve(C1, [*given, taken])

    assert before is not None
    assert not before.desirable
    assert after is not None
    assert (after.desirable, after.sources) == (True, (Source.THUMB,))


def test_a_withdrawal_takes_back_what_came_before_it_and_no_more() -> None:
    """Whoever votes again after taking a vote back has voted; and only for themselves."""
    taken = a_withdrawal("c1", at=NOON)
    again = a_thumb("c1", Thumb.DOWN, at=NOON + timedelta(seconds=1))
    other = a_thumb("c1", Thumb.UP, at=NOON, user=UserId("bob"))

    assert standing([taken, again, other]) == [again, other]


def test_an_outcome_can_be_taken_back() -> None:
    """An app that reported a copy by mistake can say so."""
    taken = a_withdrawal("c1", "outcome", at=NOON + timedelta(hours=1))

    assert resolve(C1, [an_outcome("c1", "copied"), taken]) is None


def test_people_who_contradict_each_other_cancel_out() -> None:
    """Two strangers of equal standing leave us with no knowledge, not with the louder one."""
    votes = [
        a_thumb("c1", Thumb.UP, user=UserId("ann")),
        a_thumb("c1", Thumb.DOWN, user=UserId("bob")),
    ]

    assert resolve(C1, votes) is None


def test_a_majority_of_people_wins_with_the_odds_of_what_is_left() -> None:
    """Two against one is as sure as one alone: 0.95."""
    votes = [
        a_thumb("c1", Thumb.UP, user=UserId("ann")),
        a_thumb("c1", Thumb.UP, user=UserId("cid")),
        a_thumb("c1", Thumb.DOWN, user=UserId("bob")),
    ]

    label = resolve(C1, votes)

    assert label is not None
    assert label.desirable
    assert label.confidence == pytest.approx(0.95)


def test_guesses_that_disagree_leave_the_stronger_one_weaker() -> None:
    """Odds 0.85/0.15 against 0.75/0.25 are 17/9 for the retry: 0.6538."""
    label = resolve(C1, [a_retry("c1"), an_outcome("c1", "copied")])

    assert label is not None
    assert not label.desirable
    assert label.confidence == pytest.approx(17 / 26)


def test_a_kind_of_signal_that_is_switched_off_says_nothing() -> None:
    """Calibration found that it is no better than a coin."""
    trusted: dict[Source, float] = {
        source: c for source, c in PRIORS.items() if source is not Source.REGENERATE
    }

    assert resolve(C1, [a_retry("c1")], confidences=trusted) is None


@given(st.lists(signals), st.randoms(use_true_random=False))
def test_the_order_of_signals_never_matters(said: list[AnySignal], random: Random) -> None:
    """The log may deliver them in any order, and twice."""
    shuffled = said * 2
    random.shuffle(shuffled)

    assert resolve(C1, shuffled) == resolve(C1, said)


@given(st.lists(signals))
def test_a_label_is_never_less_sure_than_a_coin(said: list[AnySignal]) -> None:
    """Row weights are 2c - 1, and a negative weight would train the opposite."""
    label = resolve(C1, said)

    assert label is None or 0.5 < label.confidence <= 1
