"""Judge a candidate against the incumbent: pass, fail or insufficient.

Every check is a loss with a margin. It passes only if the whole one-sided interval of the
difference lies on the right side of the margin, and fails only if the whole interval lies on
the wrong one; between them the evidence does not suffice. All blocking checks must pass: a
policy that pleases more does not buy the right to be worse elsewhere.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import exp, isfinite

import msgspec

from feedbackloop.evaluation.measure import Answered, Measurements, ScoredRow, SuiteResult
from feedbackloop.evaluation.statistics import (
    Draws,
    Estimate,
    Scored,
    auc,
    auc_difference,
    log_ratio,
    mean_difference,
    paired_proportions,
    rate_difference,
    relative,
    smallest_detectable,
)
from feedbackloop.evaluation.verdict import Check, GroupScore, Outcome, Verdict

_COIN = 0.5


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


class _Finding(msgspec.Struct, frozen=True, kw_only=True):
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


def judge(
    measured: Measurements,
    rules: Rules,
    *,
    problems: Sequence[str] = (),
    inputs: Mapping[str, str] | None = None,
) -> Verdict:
    """Judge a candidate by what was measured.

    Args:
        measured: Of candidate and incumbent, in one session.
        rules: Margins and error probabilities.
        problems: What is wrong with the candidate's files; any of it is final.
        inputs: Digests of what went in, by name; the suites' are added.
    """
    checks = [
        _artefact(problems),
        *_preference(measured, rules),
        _perplexity(measured.rows, rules),
        *(_suite(suite, rules) for suite in measured.suites),
        *_behaviour(measured, rules),
        _drift(measured, rules),
    ]
    outcome = _conjunction(checks)
    return Verdict(
        outcome=outcome,
        reason=_reason(checks, outcome),
        checks=tuple(checks),
        inputs=dict(inputs or {}) | {f"suite.{one.name}": one.digest for one in measured.suites},
        alpha=rules.alpha,
        power=rules.power,
        probes=measured.probes,
    )


def _conjunction(checks: Sequence[Check]) -> Outcome:
    outcomes = {check.outcome for check in checks if check.blocking}
    for outcome in (Outcome.FAIL, Outcome.INSUFFICIENT):
        if outcome in outcomes:
            return outcome
    return Outcome.PASS


def _reason(checks: Sequence[Check], outcome: Outcome) -> str:
    """Take the sentence of the first blocking check that decided; of a pass, preference's."""
    deciding = [check for check in checks if check.blocking and check.outcome is outcome]
    if outcome is Outcome.PASS:
        deciding = [check for check in deciding if check.name.startswith("preference")]
    return deciding[0].sentence


def _artefact(problems: Sequence[str]) -> Check:
    return Check(
        name="artefact",
        outcome=Outcome.FAIL if problems else Outcome.PASS,
        blocking=True,
        n=len(problems),
        clusters=len(problems),
        units="problems",
        candidate=float(len(problems)),
        incumbent=0.0,
        difference=float(len(problems)),
        low=float(len(problems)),
        high=float(len(problems)),
        margin=0.0,
        smallest_detectable=1.0,
        sentence=f"artefact: {'; '.join(problems) or 'the adapter folder breaks no rule'}.",
    )


def _preference(measured: Measurements, rules: Rules) -> list[Check]:
    """Ask labels and pairs, each at its part of alpha, whether people would be served better.

    Both measure one thing, so one proof suffices, and a proven loss in either is final. Asking
    twice gives two chances to be lucky: alpha is divided among those with units enough.
    """
    asked = (
        {row.unit for row in measured.rows},
        {pair.unit for pair in measured.pairs},
    )
    usable = sum(len(units) >= rules.min_clusters for units in asked)
    alpha = rules.alpha / max(usable, 1)
    checks = [_labels(measured, rules, alpha), _pairs(measured, rules, alpha)]
    decider = min(checks, key=lambda check: (_ORDER[check.outcome], -check.clusters))
    return [
        msgspec.structs.replace(check, blocking=check is decider) for check in checks if check.n
    ] or checks[:1]


_ORDER = {Outcome.FAIL: 0, Outcome.PASS: 1, Outcome.INSUFFICIENT: 2}


def _labels(measured: Measurements, rules: Rules, alpha: float) -> Check:
    rows = measured.rows
    columns = Scored(
        labels=[row.label for row in rows],
        weights=[row.weight for row in rows],
        clusters=[row.unit for row in rows],
    )
    candidate = [row.candidate_logp - row.base_logp for row in rows]
    incumbent = [row.incumbent_logp - row.base_logp for row in rows]
    # With one label there is nothing to rank: both policies are then as good as a coin.
    both = len({row.label for row in rows}) > 1
    return _check(
        _Finding(
            name="preference.labels",
            n=len(rows),
            units="users",
            candidate=auc(candidate, columns) if both else _COIN,
            incumbent=auc(incumbent, columns) if both else _COIN,
            gain=auc_difference(candidate, incumbent, columns, rules.resampling(alpha)),
            margin=rules.preference_margin,
            alpha=alpha,
        ),
        rules,
    )


def _pairs(measured: Measurements, rules: Rules, alpha: float) -> Check:
    pairs = measured.pairs
    candidate = [_order(pair.candidate) for pair in pairs]
    incumbent = [_order(pair.incumbent) for pair in pairs]
    differences = [ours - theirs for ours, theirs in zip(candidate, incumbent, strict=True)]
    return _check(
        _Finding(
            name="preference.pairs",
            n=len(pairs),
            units="users",
            candidate=_mean(candidate),
            incumbent=_mean(incumbent),
            gain=mean_difference(
                differences, [pair.unit for pair in pairs], rules.resampling(alpha)
            ),
            margin=rules.preference_margin,
            alpha=alpha,
        ),
        rules,
    )


def _order(margin: float) -> float:
    """Score one pair: 1 the right way round, 0 the wrong way, and a coin's toss for a tie."""
    return _COIN if margin == 0 else float(margin > 0)


def _perplexity(rows: Sequence[ScoredRow], rules: Rules) -> Check:
    """Compare log-perplexity per token on what people liked: token-weighted, by person."""
    liked = [row for row in rows if row.label]
    tokens = [float(row.tokens) for row in liked]
    gain = rate_difference(
        [row.candidate_logp - row.incumbent_logp for row in liked],
        tokens,
        [row.unit for row in liked],
        rules.resampling(rules.alpha),
    )
    total = sum(tokens) or 1.0
    return _check(
        _Finding(
            name="perplexity",
            n=len(liked),
            units="users",
            candidate=exp(-sum(row.candidate_logp for row in liked) / total),
            incumbent=exp(-sum(row.incumbent_logp for row in liked) / total),
            gain=gain,
            margin=relative(rules.perplexity_margin),
            alpha=rules.alpha,
        ),
        rules,
    )


def _suite(suite: SuiteResult, rules: Rules) -> Check:
    alpha = suite.alpha or rules.alpha
    candidate = [item.candidate.passed for item in suite.items]
    incumbent = [item.incumbent.passed for item in suite.items]
    return _check(
        _Finding(
            name=f"suite.{suite.name}",
            n=len(suite.items),
            units="items",
            candidate=_mean(candidate),
            incumbent=_mean(incumbent),
            gain=paired_proportions(
                candidate, incumbent, [item.unit for item in suite.items], alpha=alpha
            ),
            margin=suite.margin,
            alpha=alpha,
            blocking=suite.blocking,
            groups=_groups(suite.items),
        ),
        rules,
    )


def _groups(items: Sequence[Answered]) -> tuple[GroupScore, ...]:
    by_group: defaultdict[str, list[Answered]] = defaultdict(list)
    for item in items:
        by_group[item.group].append(item)
    return tuple(
        GroupScore(
            group=group,
            n=len(members),
            candidate=_mean([one.candidate.passed for one in members]),
            incumbent=_mean([one.incumbent.passed for one in members]),
        )
        for group, members in sorted(by_group.items())
    )


def _behaviour(measured: Measurements, rules: Rules) -> list[Check]:
    """Compare lengths and degenerate completions on held-out prompts, or else on suites' items."""
    answers = measured.answers or tuple(item for one in measured.suites for item in one.items)
    units = "users" if measured.answers else "items"
    return [_length(answers, units, rules), _degenerate(answers, units, rules)]


def _length(answers: Sequence[Answered], units: str, rules: Rules) -> Check:
    # At least one token each, so that a policy which says nothing still has a logarithm.
    candidate = [float(max(one.candidate.tokens, 1)) for one in answers]
    incumbent = [float(max(one.incumbent.tokens, 1)) for one in answers]
    change = log_ratio(
        candidate, incumbent, [one.unit for one in answers], rules.resampling(rules.alpha)
    )
    return _check(
        _Finding(
            name="length",
            n=len(answers),
            units=units,
            candidate=_mean(candidate),
            incumbent=_mean(incumbent),
            # Longer and shorter are both a loss: judge the side that is nearer to its margin.
            gain=_mirrored(change) if change.value > 0 else change,
            margin=relative(rules.length_margin),
            alpha=rules.alpha,
        ),
        rules,
    )


def _degenerate(answers: Sequence[Answered], units: str, rules: Rules) -> Check:
    candidate = [one.candidate.degenerate for one in answers]
    incumbent = [one.incumbent.degenerate for one in answers]
    growth = paired_proportions(
        candidate, incumbent, [one.unit for one in answers], alpha=rules.alpha
    )
    return _check(
        _Finding(
            name="degenerate",
            n=len(answers),
            units=units,
            candidate=_mean(candidate),
            incumbent=_mean(incumbent),
            gain=_mirrored(growth),
            margin=rules.degenerate_margin,
            alpha=rules.alpha,
        ),
        rules,
    )


def _drift(measured: Measurements, rules: Rules) -> Check:
    """Bound how far the candidate left the base: a proxy of KL(base, candidate) per token."""
    drift = measured.drift
    loss = rate_difference(
        [one.candidate_logp - one.base_logp for one in drift],
        [float(one.tokens) for one in drift],
        [one.unit for one in drift],
        rules.resampling(rules.alpha),
    )
    return _check(
        _Finding(
            name="drift",
            n=len(drift),
            units="users",
            candidate=-loss.value,
            incumbent=0.0,
            gain=loss,
            margin=rules.drift_nats,
            alpha=rules.alpha,
            blocking=bool(drift),
        ),
        rules,
    )


def _mirrored(estimate: Estimate) -> Estimate:
    return msgspec.structs.replace(
        estimate, value=-estimate.value, low=-estimate.high, high=-estimate.low
    )


def _check(finding: _Finding, rules: Rules) -> Check:
    """Hold what was found against its margin."""
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


def _sentence(finding: _Finding, outcome: Outcome, rules: Rules, *, detectable: float) -> str:
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


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
