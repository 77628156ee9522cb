"""Pairs that one person made by asking again, correcting or choosing."""

from datetime import timedelta

import pytest

from feedbackloop.dataset.dpo import dpo_rows
from feedbackloop.dataset.rows import DpoRow
from feedbackloop.events import AnyEvent, Reply, Thumb
from feedbackloop.labels.gather import Gathering
from feedbackloop.labels.resolve import resolve
from tests.builders import (
    NOON,
    a_choice,
    a_completion,
    a_correction,
    a_retry,
    a_thumb,
    a_withdrawal,
    an_outcome,
)


def rows(*events: AnyEvent) -> list[DpoRow]:
    gathering = Gathering()
    for event in events:
        gathering.add(event)
    gathered = list(gathering.completions())
    labels = {one.completion_id: resolve(one.completion_id, one.signals) for one in gathered}
    return dpo_rows(gathered, {name: label for name, label in labels.items() if label})


def words(row: DpoRow) -> tuple[str, str]:
    return row.chosen[0]["content"], row.rejected[0]["content"]


def test_a_retry_whose_second_answer_was_taken_is_a_pair() -> None:
    """The prompt is the same, so what differs is what the person minded."""
    found = rows(
        a_completion("c1", text="5"),
        a_retry("c1", "c2"),
        a_completion("c2", text="4"),
        an_outcome("c2", "copied"),
    )

    assert [words(row) for row in found] == [("4", "5")]


def test_the_odds_of_both_labels_make_the_pairs_confidence() -> None:
    """Retry 0.85 and thumb 0.95 give odds 17/3 * 19: 323 to 3."""
    (pair,) = rows(
        a_completion("c1", text="5"),
        a_retry("c1", "c2"),
        a_completion("c2", text="4"),
        a_thumb("c2"),
    )

    assert pair.confidence == pytest.approx(323 / 326)


def test_asking_three_times_pairs_both_failures_with_the_success() -> None:
    """The one who asked twice again minded both answers."""
    found = rows(
        a_completion("c1", text="5"),
        a_completion("c2", text="6"),
        a_completion("c3", text="4"),
        a_retry("c1", "c2"),
        a_retry("c2", "c3"),
        a_thumb("c3"),
    )

    assert [words(row) for row in found] == [("4", "5"), ("4", "6")]


def test_a_rephrased_prompt_makes_no_pair() -> None:
    """Another prompt has other good answers: the two stay unpaired rows."""
    assert not rows(
        a_completion("c1", text="5"),
        a_retry("c1", "c2"),
        a_completion("c2", prompt="two plus two?", text="4"),
        a_thumb("c2"),
    )


def test_a_retry_that_was_forgiven_by_a_thumb_makes_no_pair() -> None:
    """The thumb outranks the retry: the first answer was not rejected."""
    assert not rows(
        a_completion("c1", text="5"),
        a_thumb("c1", Thumb.UP),
        a_retry("c1", "c2"),
        a_completion("c2", text="4"),
        a_thumb("c2"),
    )


def test_the_same_words_twice_make_no_pair() -> None:
    """There is nothing to prefer."""
    assert not rows(
        a_completion("c1", text="4"),
        a_retry("c1", "c2"),
        a_completion("c2", text="4"),
        a_thumb("c2"),
    )


def test_a_correction_is_chosen_over_what_it_corrects() -> None:
    """The person wrote the answer that was wanted; the last version counts."""
    later = NOON + timedelta(hours=1)

    (pair,) = rows(
        a_completion("c1", text="5"),
        a_correction("c1", "for"),
        a_correction("c1", "four", at=later),
    )

    assert (words(pair), pair.origin) == (("four", "5"), "correction")


def test_a_correction_that_was_taken_back_is_no_pair() -> None:
    """As if it had not been given: what the person wrote before it counts again."""
    first, second, third = (NOON + timedelta(hours=hour) for hour in (1, 2, 3))
    completion = a_completion("c1", text="5")
    early, late = a_correction("c1", "four", at=first), a_correction("c1", "six", at=third)
    taken = a_withdrawal("c1", "correction", at=second)

    assert [words(row) for row in rows(completion, early)] == [("four", "5")]
    assert not rows(completion, early, taken)
    assert [words(row) for row in rows(completion, early, taken, late)] == [("six", "5")]


def test_the_choice_that_was_picked_is_chosen_over_another() -> None:
    """Two answers side by side, and a click on one: the plainest pair there is."""
    completion = a_completion("c1", replies=(Reply(text="4"), Reply(text="5")))
    pick, taken = a_choice("c1", 1), a_withdrawal("c1", "choice", at=NOON + timedelta(hours=1))

    assert [words(row) for row in rows(completion, pick)] == [("5", "4")]
    assert not rows(completion, pick, taken)
    assert not rows(completion, a_choice("c1", 2))


def test_a_completion_that_was_cut_is_no_example() -> None:
    """It was not disliked for what it says."""
    cut = a_completion("c1", replies=(Reply(text="5", finish_reason="length"),))

    assert not rows(cut, a_retry("c1", "c2"), a_completion("c2", text="4"), a_thumb("c2"))
