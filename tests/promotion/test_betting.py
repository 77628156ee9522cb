"""Evidence by betting: small cases by hand, properties, and the published error rates."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.promotion.betting import e_value, interval

BLOCKS = st.lists(st.floats(-1, 1), max_size=40)


def test_one_bad_block_is_worth_what_the_bettors_staked() -> None:
    """With D = 1 and null 0 each bettor gains its fraction: the mean of the six is 0.2033."""
    value = e_value([1.0], null=0.0, against="at_most")

    assert value == pytest.approx(1 + (0.02 + 0.05 + 0.1 + 0.2 + 0.35 + 0.5) / 6)


def test_the_peak_counts_and_not_what_came_after() -> None:
    """Who would have stopped at the peak was right to: later blocks take nothing back."""
    up = e_value([1.0], null=0.0, against="at_most")

    assert e_value([1.0, -1.0, -1.0], null=0.0, against="at_most") == up


def test_two_equal_arms_earn_evidence_against_a_margin() -> None:
    """With D = 0 and b = 0.25 the factor is 1 + g * 0.25 / 1.25 = 1 + 0.2 g."""
    value = e_value([0.0], null=0.25, against="at_least")

    assert value == pytest.approx(1 + 0.2 * (0.02 + 0.05 + 0.1 + 0.2 + 0.35 + 0.5) / 6)


def test_without_blocks_there_is_no_evidence_and_every_difference_is_possible() -> None:
    """Nothing seen is nothing known."""
    assert e_value([], null=0.0, against="at_most") == 1.0
    assert interval([], alpha=0.05) == (-1.0, 1.0)


@given(BLOCKS, st.floats(-1, 1), st.floats(-1, 1))
def test_evidence_shrinks_as_the_bound_moves_away(
    blocks: list[float], one: float, other: float
) -> None:
    """The interval is found by bisection, which is right only if this holds."""
    low, high = sorted((one, other))

    assert e_value(blocks, null=high, against="at_most") <= (
        e_value(blocks, null=low, against="at_most") * (1 + 1e-9)
    )
    assert e_value(blocks, null=low, against="at_least") <= (
        e_value(blocks, null=high, against="at_least") * (1 + 1e-9)
    )


@given(BLOCKS, BLOCKS)
def test_an_interval_only_narrows(before: list[float], after: list[float]) -> None:
    """What was once excluded stays excluded: a reader may look at any time."""
    low, high = interval(before, alpha=0.05)
    later_low, later_high = interval(before + after, alpha=0.05)

    assert later_low >= low
    assert later_high <= high


@given(BLOCKS, st.floats(-1, 1))
def test_the_two_directions_mirror_each_other(blocks: list[float], null: float) -> None:
    """Better and worse are told apart by the sign alone."""
    mirrored = [-block for block in blocks]

    assert e_value(blocks, null=null, against="at_most") == pytest.approx(
        e_value(mirrored, null=-null, against="at_least")
    )


def simulated(rng: random.Random, *, rate: float, blocks: int) -> list[float]:
    """Draw differences of one canary unit and nine controls at a rate of 0.2."""
    return [
        (rng.random() < rate) - sum(rng.random() < 0.2 for _ in range(9)) / 9 for _ in range(blocks)
    ]


@pytest.mark.parametrize(
    ("rate", "blocks", "low", "high"),
    [(0.2, 600, 0.0, 0.07), (0.3, 148, 0.36, 0.64), (0.4, 60, 0.36, 0.64)],
)
def test_harm_is_found_as_fast_as_published(
    rate: float, blocks: int, low: float, high: float
) -> None:
    """Without harm 2.4% cry wolf; at +10 and +20 points half have fired by block 148 and 60.

    The bounds are three standard errors of 120 simulated rollouts around those figures.
    """
    rng = random.Random(20_240_501)
    runs = 120

    fired = sum(
        e_value(simulated(rng, rate=rate, blocks=blocks), null=0.0, against="at_most") >= 20
        for _ in range(runs)
    )

    assert low <= fired / runs <= high
