"""Intervals for paired comparisons, and the smallest regression that they could have shown.

Every interval is a pair of one-sided limits, each wrong with probability ``alpha``: to ask
whether a loss is smaller than a margin is to look at one of them (non-inferiority by interval).
Units that share a person or a prompt are one cluster, and clusters are what is resampled.
"""

from collections.abc import Callable, Sequence
from math import ceil, inf, log, sqrt
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NORMAL = NormalDist()
_CHUNK = 2**21
"""Numbers in one block of a bootstrap: 16 MiB."""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """Two one-sided limits, in the unit of what they bound."""

    low: float
    high: float


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A number, how sure it is, and on how many independent units it rests.

    Attributes:
        value: The estimate.
        low: Lower one-sided limit.
        high: Upper one-sided limit.
        error: Standard error; infinite where nothing can be said.
        clusters: How many independent units.
    """

    value: float
    low: float
    high: float
    error: float
    clusters: int


class Draws(msgspec.Struct, frozen=True, kw_only=True):
    """How a bootstrap is made: the same draws give the same limits.

    Attributes:
        alpha: Error probability of each limit.
        count: Resamples; 2,000 leave 100 beyond a 5% limit.
        seed: Of the generator.
    """

    alpha: float = 0.05
    count: int = 2_000
    seed: int = 0


def paired_proportions(
    candidate: Sequence[bool], incumbent: Sequence[bool], clusters: Sequence[str], *, alpha: float
) -> Estimate:
    """Bound the difference of two proportions that were measured on the same units.

    Tango's score interval: the limits are the differences ``d`` at which
    ``|gained - lost - n d| = z sqrt(n (2 q + d (1 - d)))``, where ``q`` is the likeliest
    probability of a lost pair given ``d``. Unlike a bootstrap it stays wide when no pair was
    discordant. Units of one cluster count for less: all counts are divided by the design
    effect, the variance of the mean difference between clusters over the one between units,
    if that is above 1 (Rao and Scott).

    Args:
        candidate: Whether the candidate succeeded, by unit.
        incumbent: The same for the incumbent, in the same order.
        clusters: What each unit belongs to.
        alpha: Error probability of each limit.

    Returns:
        The difference, candidate less incumbent. Its error uses Agresti and Min's
        ``(gained + lost + 1) / (n + 2)`` for the discordance, so that it is never 0.

    References:
        Tango, "Equivalence test and confidence interval for the difference in proportions for
        the paired-sample design", 1998, eq. 9; Rao and Scott, "A simple method for the analysis
        of clustered binary data", 1992; Agresti and Min, "Simple improved confidence intervals
        for comparing matched proportions", 2005.
    """
    differences = np.asarray(candidate, dtype=np.float64) - np.asarray(incumbent, dtype=np.float64)
    if differences.size == 0:
        return Estimate(value=0.0, low=-1.0, high=1.0, error=inf, clusters=0)
    scale = _design_effect(differences, clusters)
    n = differences.size / scale
    gained = float((differences > 0).sum()) / scale
    lost = float((differences < 0).sum()) / scale
    limits = _tango(gained, lost, n, z=_quantile(1 - alpha))
    value = (gained - lost) / n
    discordance = (gained + lost + 1) / (n + 2)
    return Estimate(
        value=value,
        low=limits.low,
        high=limits.high,
        error=sqrt(max(discordance - value * value, 1 / (n + 2)) / n),
        clusters=len(set(clusters)),
    )


def bootstrap(
    sums: Floats, clusters: Sequence[str], statistic: Callable[[Floats], Floats], draws: Draws
) -> Estimate:
    """Bound a function of column sums by resampling whole clusters.

    Percentile limits, taken further out by what small samples need: the tail probability is
    ``Phi(-sqrt(n / (n - 1)) t)`` with ``t`` Student's quantile for ``n - 1`` degrees of freedom.

    Args:
        sums: What each unit adds to the sums. Shape ``(units, columns)``.
        clusters: What each unit belongs to.
        statistic: From sums of shape ``(..., columns)`` to values of shape ``(...)``.
        draws: How to resample.

    References:
        Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979; Hesterberg, "What
        Teachers Should Know about the Bootstrap", arXiv:1411.5279, section 3.2 and eq. 3; Miller,
        "Adding Error Bars to Evals", arXiv:2411.00640, section 2.2 on clusters.
    """
    index, n = _numbered(clusters)
    if n == 0:
        return Estimate(value=0.0, low=-inf, high=inf, error=inf, clusters=0)
    grouped = np.zeros((n, sums.shape[1]))
    np.add.at(grouped, index, sums)
    value = float(statistic(grouped.sum(axis=0)))
    rows = max(1, _CHUNK // n)
    values = [statistic(counts @ grouped) for counts in _resamples(n, rows, draws)]
    return _percentiles(value, np.concatenate(values), n, draws)


def mean_difference(differences: Sequence[float], clusters: Sequence[str], d: Draws) -> Estimate:
    """Bound the mean of paired differences, by clusters."""
    values = np.asarray(differences, dtype=np.float64)
    sums = np.stack([values, np.ones_like(values)], axis=1)
    return bootstrap(sums, clusters, _ratio, d)


def rate_difference(
    amounts: Sequence[float], weights: Sequence[float], clusters: Sequence[str], d: Draws
) -> Estimate:
    """Bound ``sum(amounts) / sum(weights)``: a mean per token rather than per completion."""
    sums = np.stack([np.asarray(amounts, np.float64), np.asarray(weights, np.float64)], axis=1)
    return bootstrap(sums, clusters, _ratio, d)


def log_ratio(
    candidate: Sequence[float], incumbent: Sequence[float], clusters: Sequence[str], d: Draws
) -> Estimate:
    """Bound ``log(sum(candidate) / sum(incumbent))``: a relative change, symmetric around 0."""
    sums = np.stack([np.asarray(candidate, np.float64), np.asarray(incumbent, np.float64)], axis=1)
    return bootstrap(sums, clusters, _log_ratio, d)


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """Labelled completions to rank, as columns of one length.

    Attributes:
        labels: True for desirable.
        weights: How much each counts, at least 0; only ratios within a label matter.
        clusters: Who was served.
    """

    labels: Sequence[bool]
    weights: Sequence[float]
    clusters: Sequence[str]


def auc(scores: Sequence[float], rows: Scored) -> float:
    """Return the probability that a desirable completion outranks an undesirable one.

    Ties count half, so that a score which is always the same has 0.5. NaN without both labels.

    References:
        Hanley and McNeil, "The meaning and use of the area under a receiver operating
        characteristic (ROC) curve", 1982.
    """
    counts = np.ones((1, len(rows.labels)))
    return float(_auc(np.asarray(scores, np.float64), rows, counts)[0])


def auc_difference(
    candidate: Sequence[float], incumbent: Sequence[float], rows: Scored, d: Draws
) -> Estimate:
    """Bound the difference of two AUCs on the same completions, by resampling people.

    Resamples that hold one label only say nothing and are left out.
    """
    ours, theirs = np.asarray(candidate, np.float64), np.asarray(incumbent, np.float64)
    index, n = _numbered(rows.clusters)
    if n == 0 or len(set(rows.labels)) < 2:  # noqa: PLR2004  # two labels make a comparison
        return Estimate(value=0.0, low=-1.0, high=1.0, error=inf, clusters=n)
    size = max(1, _CHUNK // len(rows.labels))
    values = []
    for counts in _resamples(n, size, d):
        by_row = counts[:, index].astype(np.float64)
        values.append(_auc(ours, rows, by_row) - _auc(theirs, rows, by_row))
    drawn = np.concatenate(values)
    value = auc(candidate, rows) - auc(incumbent, rows)
    return _percentiles(value, drawn, n, d)


def smallest_detectable(error: float, *, alpha: float, power: float) -> float:
    """Return the smallest true regression that a test with this error finds with ``power``.

    ``(z_(1 - alpha) + z_power) * error``: if nothing smaller than the margin can be found, then
    to have found nothing proves nothing.

    References:
        Miller, arXiv:2411.00640, section 5; Chow et al., "Sample Size Calculations in Clinical
        Research", 2008, section 3.1.
    """
    return (_quantile(1 - alpha) + _quantile(power)) * error


def items_needed(*, margin: float, discordance: float, alpha: float, power: float) -> int:
    """Return how many paired items show that a loss is below ``margin``, if there is none.

    ``(z_(1 - alpha) + z_power)^2 * discordance / margin^2``, rounded up.

    Args:
        margin: Largest loss that is accepted, in (0, 1).
        discordance: Share of items on which the two policies differ, in [0, 1].
        alpha: Error probability of the limit.
        power: Probability of the proof.
    """
    return ceil((_quantile(1 - alpha) + _quantile(power)) ** 2 * discordance / margin**2)


def student_quantile(p: float, freedom: int) -> float:
    """Return Student's quantile by expansion around the normal one.

    References:
        Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.5; within 1% from 5
        degrees of freedom on for p up to 0.975.
    """
    z = _quantile(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))


def _quantile(p: float) -> float:
    return _NORMAL.inv_cdf(p)


def _ratio(sums: Floats) -> Floats:
    """Divide the first column by the second; NaN where a resample drew nothing to divide by."""
    above, below = sums[..., 0], sums[..., 1]
    result: Floats = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _log_ratio(sums: Floats) -> Floats:
    return np.asarray(np.log(_ratio(sums)))


def _numbered(clusters: Sequence[str]) -> tuple[NDArray[np.intp], int]:
    """Number clusters by first appearance: names are pseudonyms and sort differently anywhere."""
    numbers: dict[str, int] = {}
    index = [numbers.setdefault(cluster, len(numbers)) for cluster in clusters]
    return np.asarray(index, dtype=np.intp), len(numbers)


def _resamples(n: int, rows: int, draws: Draws) -> list[NDArray[np.int64]]:
    """Count how often each of ``n`` clusters is drawn; ``rows`` resamples to a block."""
    generator = np.random.default_rng(draws.seed)
    sizes = [min(rows, draws.count - start) for start in range(0, draws.count, rows)]
    return [generator.multinomial(n, np.full(n, 1 / n), size=size) for size in sizes]


def _percentiles(value: float, drawn: Floats, n: int, draws: Draws) -> Estimate:
    drawn = drawn[~np.isnan(drawn)]
    if n < 3 or drawn.size < draws.count / 2:  # noqa: PLR2004  # no spread to speak of
        return Estimate(value=value, low=-inf, high=inf, error=inf, clusters=n)
    stretch = sqrt(n / (n - 1))
    tail = _NORMAL.cdf(-stretch * student_quantile(1 - draws.alpha, n - 1))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(
        value=value,
        low=float(low),
        high=float(high),
        error=float(drawn.std()) * stretch,
        clusters=n,
    )


def _auc(scores: Floats, rows: Scored, counts: Floats) -> Floats:
    """Rank once, then weigh: shape ``(resamples, rows)`` of counts to ``(resamples,)``."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    labels = np.asarray(rows.labels, dtype=bool)[order]
    weights = counts[:, order] * np.asarray(rows.weights, np.float64)[order]
    desirable, undesirable = weights * labels, weights * ~labels
    # Undesirable weight below each row's ties, and up to and with them; half of each counts.
    total = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(undesirable, axis=1)], axis=1)
    below = total[:, np.searchsorted(ranked, ranked, side="left")]
    upto = total[:, np.searchsorted(ranked, ranked, side="right")]
    won = (desirable * (below + upto)).sum(axis=1) / 2
    pairs = desirable.sum(axis=1) * undesirable.sum(axis=1)
    result: Floats = np.full(len(counts), np.nan)
    np.divide(won, pairs, out=result, where=pairs > 0)
    return result


def _design_effect(differences: Floats, clusters: Sequence[str]) -> float:
    index, n = _numbered(clusters)
    units = differences.size
    if n == units or n < 2:  # noqa: PLR2004  # one cluster has no spread between clusters
        return float(units) if n == 1 else 1.0
    residual = differences - differences.mean()
    between = np.bincount(index, weights=residual)
    within = float((residual**2).sum())
    # Nothing differed: there is no spread to learn from, so let a cluster count as one unit.
    if within == 0:
        return units / n
    return max(1.0, float((between**2).sum()) / within * n / (n - 1))


def _tango(gained: float, lost: float, n: float, *, z: float) -> Interval:
    def score(d: float) -> float:
        a = 2 * n
        b = -gained - lost + (2 * n - gained + lost) * d
        c = -lost * d * (1 - d)
        q = (sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        spread = n * (2 * q + d * (1 - d))
        return (gained - lost - n * d) / sqrt(spread) if spread > 0 else inf

    value = (gained - lost) / n
    return Interval(
        low=_crossing(lambda d: score(d) - z, -1.0, value),
        high=_crossing(lambda d: score(d) + z, value, 1.0),
    )


def _crossing(function: Callable[[float], float], low: float, high: float) -> float:
    """Find by bisection where a falling function crosses 0."""
    for _ in range(60):
        middle = (low + high) / 2
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def relative(margin: float) -> float:
    """Return a relative margin as a difference of logarithms: growth by 10% is log(1.1)."""
    return log(1 + margin)
