"""A finding passes only if its whole interval lies on the right side of the margin."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.evaluation.finding import Finding, Rules, hold
from feedbackloop.evaluation.statistics import Estimate, paired_proportions
from feedbackloop.evaluation.verdict import Check, Outcome

RULES = Rules(draws=400)


estimates = st.builds(
    lambda value, spread, clusters: Estimate(
        value=value,
        low=value - spread,
        high=value + spread,
        error=spread / 1.645,
        clusters=clusters,
    ),
    st.floats(-1, 1),
    st.floats(0, 1),
    st.integers(0, 100),
)


def check_of(gain: Estimate, margin: float) -> Check:
    finding = Finding(
        name="x",
        n=gain.clusters,
        units="users",
        candidate=0.5,
        incumbent=0.5,
        gain=gain,
        margin=margin,
        alpha=0.05,
    )
    return hold(finding, RULES)


@given(estimates, st.floats(0, 1))
def test_a_pass_is_always_a_proof(gain: Estimate, margin: float) -> None:
    """The whole interval on the right side, units enough, and eyes sharp enough."""
    check = check_of(gain, margin)

    if check.outcome is Outcome.PASS:
        assert gain.low > -margin
        assert gain.clusters >= RULES.min_clusters
        assert margin == 0 or (check.smallest_detectable or 0) <= margin
    if check.outcome is Outcome.FAIL:
        assert gain.high < -margin


@given(estimates, st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_wider_margin_never_turns_a_pass_into_anything_else(
    gain: Estimate, one: float, other: float
) -> None:
    """Who forgives more must not refuse more."""
    narrow, wide = sorted((one, other))

    if check_of(gain, narrow).outcome is Outcome.PASS:
        assert check_of(gain, wide).outcome is Outcome.PASS


def test_a_loss_as_large_as_the_margin_passes_as_rarely_as_alpha_says() -> None:
    """400 candidates that truly lose five points of 95: at most 5% may slip through."""
    generator = np.random.default_rng(3)
    clusters = [str(place) for place in range(300)]
    passed = 0

    for cells in generator.choice(3, p=[0.03, 0.08, 0.89], size=(400, 300)):
        gain = paired_proportions(list(cells != 1), list(cells != 0), clusters, alpha=0.05)
        passed += check_of(gain, 0.05).outcome is Outcome.PASS

    # Standard error of 5% in 400 is 1.1 points.
    assert passed / 400 <= 0.05 + 2 * 0.011
