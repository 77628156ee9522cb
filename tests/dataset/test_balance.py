"""Neither label drowns the other."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.dataset.balance import down_sample, loss_weights
from feedbackloop.dataset.kto import kto_rows, row_weight
from feedbackloop.dataset.selection import Labelled
from feedbackloop.events import CompletionId
from feedbackloop.labels.resolve import Label, Source
from tests.builders import a_completion


def labelled(name: str, *, desirable: bool, confidence: float = 0.9) -> Labelled:
    label = Label(
        completion_id=CompletionId(name),
        desirable=desirable,
        confidence=confidence,
        sources=(Source.THUMB,),
    )
    return Labelled(completion=a_completion(name), label=label)


many = st.lists(st.tuples(st.booleans(), st.floats(0.51, 0.99))).map(
    lambda rows: [
        labelled(f"c{i}", desirable=desirable, confidence=confidence)
        for i, (desirable, confidence) in enumerate(rows)
    ]
)


def test_the_least_sure_of_the_commoner_label_leave_first() -> None:
    """What we know least about is missed least."""
    rows = [
        labelled("good", desirable=True),
        labelled("sure", desirable=False, confidence=0.9),
        labelled("guess", desirable=False, confidence=0.6),
    ]

    kept, dropped = down_sample(rows, max_ratio=1.0, random=Random(0))

    assert [one.completion.completion_id for one in kept] == ["good", "sure"]
    assert dropped == 1


@given(many, st.floats(1, 5), st.integers())
def test_after_down_sampling_the_ratio_holds(rows: list[Labelled], ratio: float, seed: int) -> None:
    """Above about 1:3.6 weights did not help any more (docs/training.md)."""
    kept, dropped = down_sample(rows, max_ratio=ratio, random=Random(seed))

    good = sum(one.label.desirable for one in kept)
    rarer, commoner = sorted((good, len(kept) - good))
    assert len(kept) + dropped == len(rows)
    assert rarer == 0 or commoner <= rarer * ratio


@given(many, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_change_who_leaves(rows: list[Labelled], random: Random) -> None:
    """A snapshot is the same whoever computes it."""
    shuffled = list(rows)
    random.shuffle(shuffled)

    one, _ = down_sample(rows, max_ratio=1.5, random=Random(7))
    other, _ = down_sample(shuffled, max_ratio=1.5, random=Random(7))

    assert {row.completion.completion_id for row in one} == {
        row.completion.completion_id for row in other
    }


def test_a_one_sided_set_cannot_be_balanced() -> None:
    """The planner has to refuse it; a weight of infinity would train nonsense."""
    with pytest.raises(ValueError, match="need both labels"):
        loss_weights(desirable=3, undesirable=0)


def test_a_label_that_is_right_seven_times_in_ten_counts_four_tenths() -> None:
    """Of ten such rows three push the other way and undo three of the seven."""
    assert row_weight(0.7) == pytest.approx(0.4)


@given(many)
def test_both_labels_have_the_same_mass(rows: list[Labelled]) -> None:
    """That is the lower end of what the KTO paper asks for."""
    made = kto_rows(rows)

    mass = {side: sum(row.weight for row in made if row.label is side) for side in (True, False)}
    assert min(mass.values()) == 0 or mass[True] == pytest.approx(mass[False])
