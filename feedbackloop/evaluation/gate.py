"""Judge a candidate against the incumbent: pass, fail or insufficient.

Every check is a loss with a margin. It passes only if the whole one-sided interval of the
difference lies on the right side of the margin, and fails only if the whole interval lies on
the wrong one; between them the evidence does not suffice. All blocking checks must pass: a
policy that pleases more does not buy the right to be worse elsewhere.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import exp

import msgspec

from feedbackloop.evaluation.finding import Finding, Rules, hold, mean, mirrored
from feedbackloop.evaluation.measure import Answered, Measurements, ScoredRow, SuiteResult
from feedbackloop.evaluation.statistics import (
    Scored,
    auc,
    auc_difference,
    log_ratio,
    mean_difference,
    paired_proportions,
    rate_difference,
    relative,
)
from feedbackloop.evaluation.verdict import Check, GroupScore, Outcome, Verdict

_COIN = 0.5


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
    """Take the sentence of the first blocking check that decided, and name the others.

    Of a pass it is preference's.
    """
    deciding = [check for check in checks if check.blocking and check.outcome is outcome]
    if outcome is Outcome.PASS:
        deciding = [check for check in deciding if check.name.startswith("preference")]
        return deciding[0].sentence
    others = ", ".join(check.name for check in deciding[1:])
    return f"{deciding[0].sentence} The same verdict: {others}." if others else deciding[0].sentence


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
    return hold(
        Finding(
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
    return hold(
        Finding(
            name="preference.pairs",
            n=len(pairs),
            units="users",
            candidate=mean(candidate),
            incumbent=mean(incumbent),
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
    return hold(
        Finding(
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
    return hold(
        Finding(
            name=f"suite.{suite.name}",
            n=len(suite.items),
            units="items",
            candidate=mean(candidate),
            incumbent=mean(incumbent),
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
            candidate=mean([one.candidate.passed for one in members]),
            incumbent=mean([one.incumbent.passed for one in members]),
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
    return hold(
        Finding(
            name="length",
            n=len(answers),
            units=units,
            candidate=mean(candidate),
            incumbent=mean(incumbent),
            # Longer and shorter are both a loss: judge the side that is nearer to its margin.
            gain=mirrored(change) if change.value > 0 else change,
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
    return hold(
        Finding(
            name="degenerate",
            n=len(answers),
            units=units,
            candidate=mean(candidate),
            incumbent=mean(incumbent),
            gain=mirrored(growth),
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
    return hold(
        Finding(
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
