"""The life of a run: its states, and the legal moves between them."""

from datetime import datetime
from enum import StrEnum

import msgspec

from feedbackloop.events import Alias, RunId


class RunState(StrEnum):
    """Where a run is. The four steps, then how it ended."""

    SNAPSHOT = "snapshot"
    TRAIN = "train"
    EVALUATE = "evaluate"
    CANARY = "canary"
    PROMOTED = "promoted"
    REFUSED = "refused"
    """The gate or the canary said no, or that the evidence does not suffice."""
    FAILED = "failed"
    CANCELLED = "cancelled"


STEPS = (RunState.SNAPSHOT, RunState.TRAIN, RunState.EVALUATE, RunState.CANARY)
FINAL = frozenset({RunState.PROMOTED, RunState.REFUSED, RunState.FAILED, RunState.CANCELLED})

_NEXT: dict[RunState, frozenset[RunState]] = {
    RunState.SNAPSHOT: frozenset({RunState.TRAIN, RunState.REFUSED}),
    RunState.TRAIN: frozenset({RunState.EVALUATE}),
    RunState.EVALUATE: frozenset({RunState.CANARY, RunState.REFUSED}),
    RunState.CANARY: frozenset({RunState.PROMOTED, RunState.REFUSED}),
}


def may_move(before: RunState, after: RunState) -> bool:
    """Say whether a run may go from ``before`` to ``after``: forward, or to a named end."""
    if before in FINAL:
        return False
    return after in {RunState.FAILED, RunState.CANCELLED} or after in _NEXT[before]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to make an adapter, from snapshot to promotion or refusal.

    Attributes:
        run: Its id.
        alias: Whose adapter it makes.
        slot: What it was started for, unique per alias: a second scheduler that asks for the
            same slot gets this run back.
        state: Where it is.
        attempt: How often the present step was started, from 1; 0 before the first.
        version: Grows with every change: what a compare-and-set compares.
        epoch: Lease epoch of the leader that changed it last.
        reason: In plain words, why it is where it is.
        recipe: Overrides of the planned recipe, as JSON; ``{}`` lets the planner decide.
        created_at: In UTC.
        changed_at: In UTC.
        facts: What each finished step said, by step name: JSON objects, small.
    """

    run: RunId
    alias: Alias
    slot: str
    state: RunState
    attempt: int
    version: int
    epoch: int
    reason: str
    recipe: dict[str, object]
    created_at: datetime
    changed_at: datetime
    facts: dict[str, dict[str, object]]
