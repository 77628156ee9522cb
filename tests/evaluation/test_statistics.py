"""Intervals have to hold what they promise: every verdict rests on them."""

from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.evaluation.statistics import (
    Draws,
    Scored,
    auc,
    auc_difference,
    items_needed,
    log_ratio,
    mean_difference,
    paired_proportions,
    rate_difference,
    smallest_detectable,
    student_quantile,
)

FEW = Draws(count=400)


def names(n: int) -> list[str]:
    return [f"u{place}" for place in range(n)]


def test_two_equal_policies_on_few_items_prove_nothing() -> None:
    """Where nothing differed, a bootstrap's interval is empty; ours is z^2 / (n + z^2)."""
    z2 = 1.6448536**2

    found = paired_proportions([True] * 10, [True] * 10, names(10), alpha=0.05)

    assert found.value == 0
    assert found.high == pytest.approx(z2 / (10 + z2), rel=1e-6)
    assert found.low == pytest.approx(-z2 / (10 + z2), rel=1e-6)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_swapping_the_policies_mirrors_the_interval(outcomes: list[tuple[bool, bool]]) -> None:
    """Neither side may be favoured by which name it has."""
    ours, theirs = zip(*outcomes, strict=True)

    one = paired_proportions(ours, theirs, names(len(ours)), alpha=0.05)
    other = paired_proportions(theirs, ours, names(len(ours)), alpha=0.05)

    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-9)
    assert one.low - 1e-9 <= one.value <= one.high + 1e-9


def test_ten_copies_of_one_person_count_as_one() -> None:
    """Somebody who asks the same thing ten times gives us no ten opinions."""
    ours = [True, False] * 10 + [False] * 10
    theirs = [False, True] * 10 + [True] * 10

    alone = paired_proportions(ours, theirs, names(30), alpha=0.05)
    tenfold = paired_proportions(
        ours * 10, theirs * 10, [name for _ in range(10) for name in names(30)], alpha=0.05
    )

    assert tenfold.high - tenfold.low == pytest.approx(alone.high - alone.low, rel=0.03)


def test_the_mean_of_nought_and_one_has_the_textbook_error() -> None:
    """50 of each: standard error 0.5 / sqrt(99), and Student's t for 99 degrees of freedom."""
    found = mean_difference([0.0, 1.0] * 50, names(100), Draws(count=4_000))

    assert found.value == 0.5
    assert found.error == pytest.approx(0.5 / sqrt(99), rel=0.04)
    assert found.high == pytest.approx(0.5 + 1.660 * 0.5 / sqrt(99), abs=0.012)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=30), st.integers(0, 9))
def test_the_same_draws_give_the_same_limits(values: list[float], seed: int) -> None:
    """A verdict can be computed again from what it stored."""
    draws = Draws(count=50, seed=seed)

    assert mean_difference(values, names(len(values)), draws) == mean_difference(
        values, names(len(values)), draws
    )


def test_a_few_units_give_no_interval_at_all() -> None:
    """Two people agree by chance too often."""
    assert mean_difference([1.0, 1.0], names(2), FEW).error == float("inf")


def test_long_completions_weigh_by_their_tokens() -> None:
    """Perplexity is per token: (2 + 90) / (1 + 99), not the mean of 2 and 10/11."""
    found = rate_difference([2.0, 90.0, 0.0], [1.0, 99.0, 0.0], names(3), FEW)

    assert found.value == 0.92


def test_twice_as_long_is_log_two() -> None:
    """Doubling and halving lie equally far from no change."""
    assert log_ratio([4.0] * 5, [2.0] * 5, names(5), FEW).value == pytest.approx(log(2))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([1.0, 2.0, 3.0, 4.0], 3 / 4), ([0.0] * 4, 1 / 2), ([1.0, 2.0, 2.0, 4.0], 7 / 8)],
)
def test_the_auc_counts_pairs_in_order(scores: list[float], expected: float) -> None:
    """Undesirable 1 and 3, desirable 2 and 4: of 4 pairs only (3, 2) is upside down."""
    rows = Scored(labels=[False, True, False, True], weights=[1.0] * 4, clusters=names(4))

    assert auc(scores, rows) == expected


labelled = st.lists(
    st.tuples(st.integers(-3, 3), st.booleans(), st.integers(1, 3)), min_size=2, max_size=25
)


@given(labelled)
def test_the_fast_auc_is_the_slow_one(rows: list[tuple[int, bool, int]]) -> None:
    """Ranks are a shortcut for comparing every desirable with every undesirable completion."""
    liked = [(score, weight) for score, label, weight in rows if label]
    not_liked = [(score, weight) for score, label, weight in rows if not label]
    won = sum(w * v * ((a > b) + (a == b) / 2) for a, w in liked for b, v in not_liked)
    pairs = sum(w * v for _, w in liked for _, v in not_liked)
    columns = Scored(
        labels=[label for _, label, _ in rows],
        weights=[float(weight) for _, _, weight in rows],
        clusters=names(len(rows)),
    )

    found = auc([float(score) for score, _, _ in rows], columns)

    assert found == pytest.approx(won / pairs) if pairs else np.isnan(found)


def test_a_policy_does_not_differ_from_itself() -> None:
    """An A/A comparison that finds a winner means that the gate is broken."""
    rows = Scored(labels=[True, False] * 20, weights=[1.0] * 40, clusters=names(40))
    scores = [float(place % 7) for place in range(40)]

    found = auc_difference(scores, scores, rows, FEW)

    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_one_label_alone_cannot_be_ranked() -> None:
    """A week without any dislike gives no evidence, and no crash either."""
    rows = Scored(labels=[True] * 30, weights=[1.0] * 30, clusters=names(30))

    assert auc_difference([1.0] * 30, [0.0] * 30, rows, FEW).error == float("inf")


@pytest.mark.parametrize(
    ("margin", "discordance", "expected"),
    [(0.03, 0.1, 687), (0.05, 0.1, 248), (0.05, 0.3, 742), (0.1, 0.2, 124)],
)
def test_sizes_are_those_of_the_textbook(margin: float, discordance: float, expected: int) -> None:
    """(1.645 + 0.842)^2 = 6.18, times the discordance, over the margin squared."""
    found = items_needed(margin=margin, discordance=discordance, alpha=0.05, power=0.8)

    assert found == expected


def test_the_needed_size_can_just_see_the_margin() -> None:
    """The two functions are one formula, read both ways."""
    error = sqrt(0.2 / items_needed(margin=0.05, discordance=0.2, alpha=0.05, power=0.8))

    found = smallest_detectable(error, alpha=0.05, power=0.8)

    assert found == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(5, 2.015), (10, 1.812), (19, 1.729), (99, 1.660)]
)
def test_students_quantiles_are_the_tables(freedom: int, expected: float) -> None:
    """Small samples need wider limits; the tables have said how wide since 1908."""
    assert student_quantile(0.95, freedom) == pytest.approx(expected, rel=0.005)


def test_a_true_loss_at_the_margin_rarely_passes() -> None:
    """That is what alpha promises: at most 5% of such candidates, 7% allowing for chance."""
    generator = np.random.default_rng(1)
    cells = generator.choice(3, p=[0.05, 0.15, 0.8], size=(300, 200))
    clusters = names(200)

    passed = sum(
        paired_proportions(list(row != 1), list(row != 0), clusters, alpha=0.05).low > -0.1
        for row in cells
    )

    assert passed / 300 <= 0.07


def test_chance_alone_rarely_proves_that_people_are_served_better() -> None:
    """200 candidates that know nothing, each judged by 40 people: at most 5% may look better.

    A person's completions share the candidate's whim, so rows are no independent witnesses.
    """
    generator = np.random.default_rng(2)
    passed = 0

    for _ in range(200):
        clusters = [f"u{place // 4}" for place in range(160)]
        whims = np.repeat(generator.normal(size=40), 4) + generator.normal(size=160)
        # People differ in how often they are pleased, too.
        liked = generator.random(160) < np.repeat(generator.choice([0.2, 0.8], size=40), 4)
        rows = Scored(labels=list(liked), weights=[1.0] * 160, clusters=clusters)
        found = auc_difference(list(whims), [0.0] * 160, rows, FEW)
        passed += found.low > 0

    # Standard error of 5% in 200 is 1.5 points.
    assert passed / 200 <= 0.05 + 2 * 0.015
