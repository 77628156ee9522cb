"""When a run starts by itself."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.events import RunId
from feedbackloop.labels.tally import Counts
from feedbackloop.training.planner import Limits
from feedbackloop.training.schedule import Situation, is_due

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIMITS = Limits(min_pairs=500, min_minority=300, max_rank=16)
ENOUGH = Counts(desirable=300, undesirable=300, pairs=0)


@pytest.mark.parametrize(
    ("situation", "due", "word"),
    [
        (Situation(fresh=ENOUGH), True, "300 new labels"),
        (Situation(fresh=Counts(desirable=0, undesirable=0, pairs=500)), True, "500 new pairs"),
        (Situation(fresh=Counts(desirable=299, undesirable=9_000, pairs=499)), False, "needed"),
        (Situation(fresh=ENOUGH, under_way=RunId("run-1")), False, "run-1 is under way"),
        (Situation(fresh=ENOUGH, automatic=False), False, "by hand"),
        (Situation(fresh=ENOUGH, last_started_at=NOON - timedelta(seconds=59)), False, "resting"),
        (Situation(fresh=ENOUGH, last_started_at=NOON - timedelta(seconds=60)), True, "suffice"),
    ],
)
def test_a_run_is_due_when_enough_is_new_and_nothing_is_in_the_way(
    situation: Situation, *, due: bool, word: str
) -> None:
    """`feedbackloop status` shows the sentence: it has to say what is awaited."""
    answer = is_due(situation, LIMITS, rest_seconds=60, now=NOON)

    assert answer.due is due
    assert word in answer.reason


@given(st.integers(0, 1_000), st.integers(0, 1_000), st.integers(0, 1_000), st.integers(0, 200))
def test_waiting_and_more_labels_never_make_a_run_less_due(
    desirable: int, undesirable: int, pairs: int, seconds: int
) -> None:
    """Otherwise a busy alias could miss its moment for ever."""
    fresh = Counts(desirable=desirable, undesirable=undesirable, pairs=pairs)
    more = Counts(desirable=desirable + 1, undesirable=undesirable + 1, pairs=pairs + 1)
    then = NOON - timedelta(seconds=seconds)

    before = is_due(Situation(fresh=fresh, last_started_at=then), LIMITS, rest_seconds=60, now=NOON)
    after = is_due(
        Situation(fresh=more, last_started_at=then),
        LIMITS,
        rest_seconds=60,
        now=NOON + timedelta(seconds=1),
    )

    assert after.due or not before.due
