"""The order of rows: each test is a trap that costs a silently bad round."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.training.batches import Order, RowFacts, plan_order

ROWS = st.lists(
    st.builds(
        RowFacts,
        tokens=st.integers(1, 500),
        label=st.booleans(),
        prompt=st.integers(0, 40).map(str),
    ),
    max_size=120,
)
SIZES = st.integers(2, 16)


def distinct(count: int, *, seed: int = 0) -> list[RowFacts]:
    random = Random(seed)
    return [
        RowFacts(
            tokens=int(random.lognormvariate(5, 0.8)) + 1,
            label=random.uniform(0, 1) < 0.3,
            prompt=str(number),
        )
        for number in range(count)
    ]


def planned(rows: list[RowFacts], size: int, *, epochs: int = 1, seed: int = 0) -> Order:
    return plan_order(rows, batch_size=size, epochs=epochs, seed=seed)


@given(ROWS, SIZES, st.integers(0, 9))
def test_rows_of_one_prompt_never_share_a_batch(rows: list[RowFacts], size: int, seed: int) -> None:
    """A completion and its retry, side by side, turn KTO's mismatched pair into a matched one."""
    order = planned(rows, size, seed=seed)

    for batch in order.epochs[0]:
        assert len({rows[row].prompt for row in batch}) == len(batch)


@given(ROWS, SIZES)
def test_every_batch_is_full_and_never_a_single_row(rows: list[RowFacts], size: int) -> None:
    """A row alone in its batch is paired with its own completion, and its KL is its reward."""
    order = planned(rows, size)

    assert {len(batch) for batch in order.epochs[0]} <= {order.batch_size}
    assert 2 <= order.batch_size <= size


@given(ROWS, SIZES)
def test_no_row_is_trained_on_twice_in_an_epoch(rows: list[RowFacts], size: int) -> None:
    """Twice the gradient for whoever happened to fill a gap would be a weight nobody set."""
    seen = Counter(planned(rows, size).rows())

    assert set(seen.values()) <= {1}


@given(st.integers(2, 200), SIZES, st.integers(0, 9))
def test_both_labels_are_spread_evenly(count: int, size: int, seed: int) -> None:
    """Rows sorted by label made every step one-sided, and nothing in TRL shuffles them."""
    rows = distinct(count, seed=seed)

    batches = planned(rows, size).epochs[0]

    desirable = [sum(rows[row].label for row in batch) for batch in batches]
    assert max(desirable) - min(desirable) <= 1


@given(st.integers(2, 200), SIZES)
def test_less_than_a_batch_is_left_out(count: int, size: int) -> None:
    """People's votes are not thrown away for tidiness."""
    order = planned(distinct(count), size)

    assert count - len(order.rows()) < order.batch_size


def test_each_epoch_has_other_batches_and_leaves_other_rows_out() -> None:
    """The same partners in every epoch would repeat the same error of the KL estimate."""
    order = planned(distinct(67), 8, epochs=3)

    assert len({frozenset(map(frozenset, epoch)) for epoch in order.epochs}) == 3
    assert set(order.rows()) == set(range(67))


def test_the_same_seed_gives_the_same_order_and_another_one_does_not() -> None:
    """A run resumed after a crash must see the rows that it would have seen."""
    rows = distinct(64)

    one, again, other = (planned(rows, 8, seed=seed) for seed in (1, 1, 2))

    assert one == again
    assert one != other


def test_batches_of_like_length_hold_much_less_padding() -> None:
    """Padded tokens are computed like real ones: 60 % of them at random, in batches of 8."""
    rows = distinct(2_000)
    alike = planned(rows, 8).epochs[0]
    random = [tuple(range(start, start + 8)) for start in range(0, 2_000, 8)]

    padded = [
        sum(len(batch) * max(rows[row].tokens for row in batch) for batch in batches)
        for batches in (alike, random)
    ]

    assert padded[0] < padded[1] / 1.8


def test_too_few_prompts_make_no_batch() -> None:
    """One prompt has nobody to be mismatched with, however many rows it has."""
    rows = [RowFacts(tokens=1, label=bool(number % 2), prompt="same") for number in range(9)]

    assert planned(rows, 4, epochs=2).rows() == []


def test_a_batch_of_one_is_a_mistake() -> None:
    """TRL refuses it for KTO, for the reason above."""
    with pytest.raises(ValueError, match="two rows"):
        planned([], 1)
