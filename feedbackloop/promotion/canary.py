"""Live outcomes decide about the canary: hold, widen, promote, roll back, or say "not known".

The evidence is a betting e-process (``betting.py``) on the difference between canary and control
outcomes: it may be looked at after every unit, and is deterministic given the units' order.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from feedbackloop.events import Arm
from feedbackloop.promotion.betting import FRACTIONS, e_value, interval, peak

_MAX_CONTROLS = 9
"""Most control outcomes for one canary outcome: more hardly narrow the difference."""

_WAITING_BLOCKS = 10
"""Control outcomes wait for at most this many canary outcomes: older ones are not concurrent."""

_SAMPLE_RATIO_ALPHA = 0.001
"""Error probability of the sample-ratio check: broken assignment shows fast, and is rare."""

_MIN_FAILURES = 3
"""Failed answers below which no guardrail trips: one unlucky answer is no breach."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one completion of a rollout.

    Attributes:
        unit: The user's pseudonym, or else the conversation.
        arm: The side that the unit was assigned to, whoever answered in the end.
        canary_share: Share of units that were assigned to the canary at that time, in (0, 1).
        undesirable: 1 for a thumb down or an implied rejection, 0 otherwise, or between.
        ended_at: When the completion ended, in UTC.
    """

    unit: str
    arm: Arm
    canary_share: float
    undesirable: float
    ended_at: datetime


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One user, or else one conversation, on one step of the ramp: counted once.

    Attributes:
        arm: The side that it was assigned to.
        canary_share: Share of the canary on that step, in (0, 1).
        outcome: 1 if it was dissatisfied, 0 if not, or between.
    """

    arm: Arm
    canary_share: float
    outcome: float


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """Answers of one arm, and how many of them failed or were empty."""

    total: int = 0
    failed: int = 0

    @property
    def failed_share(self) -> float:
        """Share of failed answers; 0 if there were none at all."""
        return self.failed / self.total if self.total else 0.0


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to move; see ``services.settings.Canary`` for each in its units.

    Attributes:
        shares: Steps of the ramp, growing.
        margin: The canary may be this much worse, and no more, to be promoted.
        tolerance: Harm below this is not rolled back.
        alpha: Error probability of a rollback, and of a promotion.
        min_units: Least canary units before it moves forward.
        dwell_seconds: Least time on each step.
        deadline_seconds: After this without a decision it is inconclusive.
        max_error_share: Most failed answers above the stable's share.
    """

    shares: tuple[float, ...]
    margin: float = 0.05
    tolerance: float = 0.0
    alpha: float = 0.05
    min_units: int = 100
    dwell_seconds: float = 3_600.0
    deadline_seconds: float = 7 * 86_400.0
    max_error_share: float = 0.05


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rollout stands.

    Attributes:
        share: Share of units that the canary answers now.
        step_seconds: Time since the share last changed.
        age_seconds: Time since the canary first had traffic.
    """

    share: float
    step_seconds: float
    age_seconds: float


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What the units say so far.

    Attributes:
        canary_units: Matured units assigned to the canary.
        stable_units: Matured units assigned to the stable.
        canary_rate: Mean outcome of canary units; None without any.
        stable_rate: The same for stable units.
        blocks: Differences formed: one canary unit against its controls each.
        harm: Highest e-value so far against "no worse than the tolerance".
        non_inferiority: Highest e-value so far against "worse by the margin or more".
        interval: Anytime-valid bounds of the difference in rates, each at level alpha.
        sample_ratio: Highest e-value against "units are assigned by the shares".
    """

    canary_units: int
    stable_units: int
    canary_rate: float | None
    stable_rate: float | None
    blocks: int
    harm: float
    non_inferiority: float
    interval: tuple[float, float]
    sample_ratio: float


class Action(StrEnum):
    """What to do with the canary."""

    HOLD = "hold"
    WIDEN = "widen"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    INCONCLUSIVE = "inconclusive"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, the numbers behind it, and a sentence for people.

    Attributes:
        action: What to do.
        share: The next share if ``action`` is to widen, else None.
        reason: In plain words.
        evidence: What it rests on.
    """

    action: Action
    share: float | None
    reason: str
    evidence: Evidence


def mature(
    observations: Iterable[Observation], *, now: datetime, maturity_seconds: float
) -> Sequence[Unit]:
    """Reduce completions to matured units, in the order in which they matured.

    A unit counts once on each step of the ramp: by its completions within
    ``maturity_seconds`` of its first one there, once as long again has passed. So every
    completion had its time, and an outcome never changes after it was counted, which is what
    the e-process needs. It is 1 if any of them was undesirable.

    The order of ``observations`` does not matter, and a later call only adds units at the end.
    """
    window = timedelta(seconds=maturity_seconds)
    steps: dict[tuple[float, str, Arm], list[Observation]] = {}
    for seen in observations:
        steps.setdefault((seen.canary_share, seen.unit, seen.arm), []).append(seen)
    matured: list[tuple[datetime, str, Unit]] = []
    for (share, unit, arm), group in steps.items():
        first = min(seen.ended_at for seen in group)
        if first + 2 * window > now:
            continue
        outcome = max(seen.undesirable for seen in group if seen.ended_at <= first + window)
        matured.append((first, unit, Unit(arm=arm, canary_share=share, outcome=outcome)))
    matured.sort(key=lambda entry: (entry[0], entry[1], entry[2].arm))
    return [unit for _, _, unit in matured]


def controls_per_canary(share: float) -> int:
    """Say how many control outcomes go with one canary outcome at this share, 1 to 9."""
    # The epsilon: (1 - 0.1) / 0.1 is 9 on paper, and a little less in floating point.
    return max(1, min(_MAX_CONTROLS, int((1 - share) / share + 1e-9)))


def differences(units: Iterable[Unit]) -> Sequence[float]:
    """Set each canary outcome against the mean of concurrent controls, in order.

    Both wait in queues until one canary outcome and its controls are there. A new step of the
    ramp empties the queues: what came before it is no concurrent control.

    Returns:
        One difference in [-1, 1] for each block; positive means that the canary was worse.
    """
    blocks: list[float] = []
    share = -1.0
    canaries: deque[float] = deque()
    controls: deque[float] = deque()
    per_canary = 1
    for unit in units:
        if unit.canary_share != share:
            share = unit.canary_share
            per_canary = controls_per_canary(share)
            canaries = deque()
            controls = deque(maxlen=_WAITING_BLOCKS * per_canary)
        (canaries if unit.arm is Arm.CANARY else controls).append(unit.outcome)
        while canaries and len(controls) >= per_canary:
            control = sum(controls.popleft() for _ in range(per_canary)) / per_canary
            blocks.append(canaries.popleft() - control)
    return blocks


def sample_ratio(units: Iterable[Unit]) -> float:
    """Measure the evidence that units are not assigned as the shares say.

    Half of the bettors stake on too many canary units, half on too few. A mismatch means that
    the arms hold different people, so that their outcomes cannot be compared.
    """

    def factors(unit: Unit) -> list[float]:
        share = unit.canary_share
        surprise = (unit.arm is Arm.CANARY) - share
        more = [1 + fraction * surprise / share for fraction in FRACTIONS]
        return more + [1 - fraction * surprise / (1 - share) for fraction in FRACTIONS]

    return peak(factors(unit) for unit in units if 0 < unit.canary_share < 1)


def weigh(units: Sequence[Unit], rule: Rule) -> Evidence:
    """Put together what the units say under a rule."""
    blocks = differences(units)
    canary = [unit.outcome for unit in units if unit.arm is Arm.CANARY]
    stable = [unit.outcome for unit in units if unit.arm is Arm.STABLE]
    return Evidence(
        canary_units=len(canary),
        stable_units=len(stable),
        canary_rate=sum(canary) / len(canary) if canary else None,
        stable_rate=sum(stable) / len(stable) if stable else None,
        blocks=len(blocks),
        harm=e_value(blocks, null=rule.tolerance, against="at_most"),
        non_inferiority=e_value(blocks, null=rule.margin, against="at_least"),
        interval=interval(blocks, alpha=rule.alpha),
        sample_ratio=sample_ratio(units),
    )


def decide(
    units: Sequence[Unit],
    *,
    answers: Mapping[Arm, Answers],
    rule: Rule,
    progress: Progress,
) -> Decision:
    """Say what the evidence allows.

    Any harm rolls back: failed answers, or the e-process. Moving forward takes all of: units
    assigned by the shares, enough of them, non-inferiority, and the time on this step. What is
    not known when the deadline has passed is inconclusive, and never promotes.

    Args:
        units: Matured units in order, as ``mature`` returns them.
        answers: Counts by arm, matured or not: failures need no time to show.
        rule: What it takes.
        progress: Where the rollout stands.
    """
    evidence = weigh(units, rule)
    action, reason = _judge(evidence, answers, rule, progress)
    share = None
    if action is Action.PROMOTE:
        share = next((step for step in rule.shares if step > progress.share), None)
        if share is not None:
            action, reason = Action.WIDEN, f"{reason}; next step {share:.0%}"
    return Decision(action=action, share=share, reason=reason, evidence=evidence)


def _judge(
    evidence: Evidence, answers: Mapping[Arm, Answers], rule: Rule, progress: Progress
) -> tuple[Action, str]:
    """Take the first rule that applies, the safest first; promotion stands for "forward"."""
    breach = _breach(answers, rule)
    if breach is not None:
        return Action.ROLLBACK, breach
    mismatch = evidence.sample_ratio >= 1 / _SAMPLE_RATIO_ALPHA
    if evidence.harm >= 1 / rule.alpha and not mismatch:
        return Action.ROLLBACK, f"harm is shown: {_numbers(evidence)}"
    lacking = _lacking(evidence, rule, progress, mismatch=mismatch)
    if not lacking:
        return Action.PROMOTE, f"not worse by {rule.margin:g} or more: {_numbers(evidence)}"
    if progress.age_seconds > rule.deadline_seconds:
        return Action.INCONCLUSIVE, f"deadline passed, and {lacking}"
    return Action.HOLD, lacking


def _breach(answers: Mapping[Arm, Answers], rule: Rule) -> str | None:
    """Say why the system guardrail trips, if it does."""
    canary = answers.get(Arm.CANARY, Answers())
    stable = answers.get(Arm.STABLE, Answers())
    above = canary.failed_share - stable.failed_share
    if canary.failed < _MIN_FAILURES or above <= rule.max_error_share:
        return None
    return (
        f"{canary.failed} of {canary.total} answers of the canary failed or were empty, "
        f"and {stable.failed} of {stable.total} of the stable's"
    )


def _lacking(evidence: Evidence, rule: Rule, progress: Progress, *, mismatch: bool) -> str:
    """Name the first thing that is missing for a move forward, or nothing."""
    if mismatch:
        return (
            f"units are not assigned by the shares (e-value {evidence.sample_ratio:.3g}): "
            "the arms cannot be compared"
        )
    if evidence.canary_units < rule.min_units:
        return f"{evidence.canary_units} canary units matured, and {rule.min_units} are needed"
    if not (evidence.canary_rate or evidence.stable_rate):
        return "nobody was dissatisfied in either arm: silence is no evidence"
    if evidence.non_inferiority < 1 / rule.alpha:
        return f"the evidence does not suffice yet: {_numbers(evidence)}"
    if progress.step_seconds < rule.dwell_seconds:
        return f"{progress.step_seconds:.0f} of {rule.dwell_seconds:.0f} seconds on this step"
    return ""


def _numbers(evidence: Evidence) -> str:
    """Put the evidence into one line."""
    low, high = evidence.interval
    return (
        f"{evidence.canary_rate or 0:.1%} of {evidence.canary_units} canary units dissatisfied, "
        f"{evidence.stable_rate or 0:.1%} of {evidence.stable_units} stable ones "
        f"(difference between {low:+.3f} and {high:+.3f}; e-values: harm {evidence.harm:.3g}, "
        f"non-inferiority {evidence.non_inferiority:.3g})"
    )
