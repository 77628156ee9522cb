"""Is a run due? Enough new labels, rested, none under way."""

from datetime import datetime, timedelta

import msgspec

from feedbackloop.events import RunId
from feedbackloop.labels.tally import Counts
from feedbackloop.training.planner import Limits


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Whether to start a run now; ``reason`` is a sentence with the numbers either way."""

    due: bool
    reason: str


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an alias when the question is asked.

    Attributes:
        fresh: Labels and pairs that came since the snapshot of the last run.
        last_started_at: When the last run started, in UTC; None if there was none.
        under_way: A run that has not ended, if there is one.
        automatic: Whether runs start by themselves.
    """

    fresh: Counts
    last_started_at: datetime | None = None
    under_way: RunId | None = None
    automatic: bool = True


def is_due(situation: Situation, limits: Limits, *, rest_seconds: float, now: datetime) -> Due:
    """Say whether a run is due.

    Args:
        situation: What is known of the alias.
        limits: How many new labels or pairs are enough.
        rest_seconds: Least time between the starts of two runs.
        now: In UTC.
    """
    fresh = situation.fresh
    counted = f"{fresh.minority} new labels of the rarer kind and {fresh.pairs} new pairs"
    needed = f"{limits.min_minority} or {limits.min_pairs}"
    if situation.under_way is not None:
        return Due(due=False, reason=f"{situation.under_way} is under way")
    if not situation.automatic:
        return Due(due=False, reason="runs are started by hand")
    if fresh.minority < limits.min_minority and fresh.pairs < limits.min_pairs:
        return Due(due=False, reason=f"{counted}; {needed} are needed")
    if situation.last_started_at is not None:
        rested_at = situation.last_started_at + timedelta(seconds=rest_seconds)
        if now < rested_at:
            return Due(due=False, reason=f"{counted}; resting until {rested_at:%Y-%m-%d %H:%M:%S}Z")
    return Due(due=True, reason=f"{counted}; {needed} suffice")
