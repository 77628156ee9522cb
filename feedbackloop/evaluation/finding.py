"""Hold what was found against its margin: the one rule by which every check is judged."""

from collections.abc import Sequence
from math import isfinite

import msgspec

from feedbackloop.evaluation.statistics import Draws, Estimate, smallest_detectable
from feedbackloop.evaluation.verdict import Check, GroupScore, Outcome


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How much a candidate may lose, and how sure of it we want to be.

    Attributes:
        alpha: Error probability of each one-sided limit.
        power: At which the smallest detectable loss is computed.
        preference_margin: How far the held-out preference may lie below the incumbent's; at 0
            the candidate must be proven better.
        perplexity_margin: Largest relative growth of the perplexity on desirable completions.
        length_margin: Largest relative change of the mean completion length.
        degenerate_margin: Largest growth of the share of degenerate completions.
        drift_nats: Largest mean loss of log-probability per token of the base's own words.
        min_clusters: Fewer independent units than this prove nothing.
        draws: Resamples of a bootstrap.
        seed: Of the bootstrap.
    """

    alpha: float = 0.05
    power: float = 0.8
    preference_margin: float = 0.0
    perplexity_margin: float = 0.1
    length_margin: float = 0.5
    degenerate_margin: float = 0.05
    drift_nats: float = 2.0
    min_clusters: int = 20
    draws: int = 2_000
    seed: int = 0

    def resampling(self, alpha: float) -> Draws:
        """Return how to resample for limits with error probability ``alpha``."""
        return Draws(alpha=alpha, count=self.draws, seed=self.seed)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found on one question, before it is held against its margin.

    ``gain`` is signed so that more is better, and ``margin`` is in its unit.
    """

    name: str
    n: int
    units: str
    candidate: float
    incumbent: float
    gain: Estimate
    margin: float
    alpha: float
    blocking: bool = True
    groups: tuple[GroupScore, ...] = ()


def mirrored(estimate: Estimate) -> Estimate:
    """Turn a growth of something bad into a gain."""
    return msgspec.structs.replace(
        estimate, value=-estimate.value, low=-estimate.high, high=-estimate.low
    )


def hold(finding: Finding, rules: Rules) -> Check:
    """Judge one finding.

    Pass if the whole one-sided interval lies above ``-margin`` and a loss of the size of the
    margin could have been seen; fail if the whole interval lies below; else insufficient.
    """
    gain, margin = finding.gain, finding.margin
    detectable = smallest_detectable(gain.error, alpha=finding.alpha, power=rules.power)
    # With a margin of 0 a gain must be proven, and no loss is small enough to be overlooked.
    blind = margin > 0 and detectable > margin
    if gain.clusters < rules.min_clusters:
        outcome = Outcome.INSUFFICIENT
    elif gain.high < -margin:
        outcome = Outcome.FAIL
    elif gain.low > -margin and not blind:
        outcome = Outcome.PASS
    else:
        outcome = Outcome.INSUFFICIENT
    return Check(
        name=finding.name,
        outcome=outcome,
        blocking=finding.blocking,
        n=finding.n,
        clusters=gain.clusters,
        units=finding.units,
        candidate=finding.candidate,
        incumbent=finding.incumbent,
        difference=gain.value,
        low=_bounded(gain.low),
        high=_bounded(gain.high),
        margin=margin,
        smallest_detectable=_bounded(detectable),
        sentence=_sentence(finding, outcome, rules, detectable=detectable),
        groups=finding.groups,
    )


def _sentence(finding: Finding, outcome: Outcome, rules: Rules, *, detectable: float) -> str:
    gain = finding.gain
    numbers = (
        f"{finding.name}: candidate {finding.candidate:.3f}, incumbent {finding.incumbent:.3f}, "
        f"gain {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] on {finding.n} "
        f"from {gain.clusters} {finding.units}"
    )
    if outcome is Outcome.PASS:
        claim = "is proven" if finding.margin == 0 else f"is no loss beyond {finding.margin:.3f}"
        return f"{numbers}: {claim}."
    if outcome is Outcome.FAIL:
        return f"{numbers}: a loss beyond the margin of {finding.margin:.3f}."
    if gain.clusters < rules.min_clusters:
        return f"{numbers}: fewer than the {rules.min_clusters} {finding.units} that a proof needs."
    if 0 < finding.margin < detectable:
        return (
            f"{numbers}: the smallest loss that this could have shown is {detectable:.3f}, "
            f"more than the margin of {finding.margin:.3f}."
        )
    if finding.margin == 0:
        return f"{numbers}: not proven to be better than the incumbent."
    return f"{numbers}: a loss beyond the margin of {finding.margin:.3f} is not ruled out."


def _bounded(limit: float) -> float | None:
    """Give an infinite limit as None: JSON has no word for it."""
    return limit if isfinite(limit) else None


def mean(values: Sequence[float]) -> float:
    """Return the mean, 0 of nothing."""
    return sum(values) / len(values) if values else 0.0
