"""Evidence by betting: e-values for a bounded mean, exact at any sample size.

A bettor starts with wealth 1 and stakes a fraction of it on each block against a bound. If the
bound holds, the wealth is a fair game or worse, and the chance that it ever reaches
``1 / alpha`` is at most ``alpha`` (Ville's inequality): one may look after every block.

References:
    Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
    arXiv:2010.09686.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
"""Shares of the wealth that are bet; their average needs no tuning."""

_GRID_STEP = 0.005
"""Resolution of the interval."""


def e_value(
    blocks: Iterable[float], *, null: float, against: Literal["at_most", "at_least"]
) -> float:
    """Measure the evidence against a bound of the mean difference.

    The wealth of six bettors is averaged after each block; each stakes a fixed fraction ``g``
    and multiplies by ``1 + g (D - null) / (1 + |null|)``, or by its mirror image.

    Args:
        blocks: Differences in [-1, 1], in order.
        null: The bound, in [-1, 1].
        against: ``at_most`` tests "the mean is ``null`` or less", ``at_least`` the opposite.

    Returns:
        The highest average wealth so far, at least 1. If the bound holds, the chance that it
        ever reaches ``1 / alpha`` is at most ``alpha``.
    """
    sign = 1.0 if against == "at_most" else -1.0
    stakes = [sign * fraction / (1 + abs(null)) for fraction in FRACTIONS]
    return peak([1 + stake * (block - null) for stake in stakes] for block in blocks)


def interval(blocks: Sequence[float], *, alpha: float) -> tuple[float, float]:
    """Bound the mean difference at any time, by inverting both tests over a grid.

    Each bound is wrong with probability at most ``alpha``, however often one looks. Wealth
    changes steadily with the bound, so that bisection finds the edge of the grid.
    """
    steps = round(1 / _GRID_STEP)

    def rejected(index: int, against: Literal["at_most", "at_least"]) -> bool:
        return e_value(blocks, null=index / steps, against=against) >= 1 / alpha

    low = _last(lambda index: rejected(index, "at_most"), -steps, steps)
    high = _last(lambda index: rejected(-index, "at_least"), -steps, steps)
    return (low / steps, -high / steps)


def peak(factors: Iterable[Sequence[float]]) -> float:
    """Multiply up the wealth of each bettor, and return the highest average, at least 1."""
    peak = 1.0
    wealth: list[float] | None = None
    for row in factors:
        # Capped: after thousands of clear blocks a float would overflow, and 1e100 is enough.
        wealth = [
            min(have * factor, 1e100)
            for have, factor in zip(wealth or [1.0] * len(row), row, strict=True)
        ]
        peak = max(peak, sum(wealth) / len(wealth))
    return peak


def _last(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Return the last index in [low, high] up to which ``holds``, or ``low`` if nowhere."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
