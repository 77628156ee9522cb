"""What simulated people do after reading a reply."""

from dataclasses import replace
from itertools import islice
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from demo.reactions import USUAL, react, topics

_VOCAL = replace(USUAL, thumb_if_happy=1, thumb_if_unhappy=1, slip_share=0, retry_if_unhappy=1)


@given(st.floats(0, 1), st.integers())
def test_nobody_asks_the_same_for_ever(satisfied_share: float, seed: int) -> None:
    """A session that never ended would hold up the whole demonstration."""
    reaction = react(satisfied_share, attempt=USUAL.tries, manners=_VOCAL, random=Random(seed))

    assert not reaction.retries


@given(st.booleans(), st.integers())
def test_a_vote_without_slips_says_what_the_person_thinks(happy: bool, seed: int) -> None:  # noqa: FBT001  # a drawn value
    """The loop learns from votes, so they have to mean something."""
    reaction = react(float(happy), attempt=1, manners=_VOCAL, random=Random(seed))

    assert (reaction.happy, reaction.thumb) == (happy, "up" if happy else "down")


@given(st.floats(0, 1), st.integers(1, 3), st.integers())
def test_nobody_makes_use_of_what_they_ask_again(
    satisfied_share: float, attempt: int, seed: int
) -> None:
    """It would be a rejection and an acceptance of one reply."""
    reaction = react(satisfied_share, attempt=attempt, manners=USUAL, random=Random(seed))

    assert not (reaction.copied and reaction.retries)


@given(st.integers(0, 5_000), st.integers(0, 100))
def test_nobody_asks_about_the_same_thing_twice(user: int, seed: int) -> None:
    """It would look like a retry, and the simulator would not know of it."""
    subjects = [question.item.subject for question in islice(topics(user, seed=seed), 20)]

    assert len(set(subjects)) == len(subjects)


def test_nobody_asks_what_is_held_out() -> None:
    """Satisfaction is measured on questions that the loop cannot have learnt from."""
    asked = [question for user in range(200) for question in islice(topics(user, seed=0), 3)]

    assert not any(question.item.held_out for question in asked)
