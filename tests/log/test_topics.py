"""In what a topic may differ from what we would make, and in what not."""

import msgspec
import pytest

from feedbackloop.errors import SettingsError
from feedbackloop.log.topics import (
    TopicFound,
    events_plan,
    kept_seconds,
    releases_plan,
    shortcomings,
    thin,
)

DAY = 86_400
PLAN = events_plan(
    "events", partitions=12, replication=3, kept_seconds=37 * DAY, max_message_bytes=2**20
)
AS_PLANNED = TopicFound(partitions=12, replication=3, settings=PLAN.settings)


def found(**settings: str) -> TopicFound:
    changed = {name.replace("_", "."): value for name, value in settings.items()}
    return msgspec.structs.replace(AS_PLANNED, settings={**PLAN.settings, **changed})


def test_a_topic_as_planned_falls_short_in_nothing() -> None:
    """Whoever makes it twice is told that all is well."""
    assert shortcomings(PLAN, AS_PLANNED) == []


def test_events_are_kept_longer_than_a_snapshot_looks_back() -> None:
    """Otherwise the oldest rows of a window would come and go with Kafka's clean-up."""
    assert kept_seconds(window_seconds=30 * DAY, asked_seconds=0) == 37 * DAY
    assert kept_seconds(window_seconds=30 * DAY, asked_seconds=31 * DAY) == 31 * DAY


def test_a_retention_inside_the_window_is_refused() -> None:
    """The message names both settings: either may be the wrong one."""
    with pytest.raises(SettingsError, match=r"log.retention_seconds .*dataset.window_seconds"):
        kept_seconds(window_seconds=30 * DAY, asked_seconds=30 * DAY)


def test_one_broker_may_be_away_and_no_copy_is_the_only_one() -> None:
    """Three copies, two in sync; on a single broker there is nothing to spare."""
    alone = releases_plan("releases", replication=1, max_message_bytes=2**20)

    assert PLAN.settings["min.insync.replicas"] == "2"
    assert alone.settings["min.insync.replicas"] == "1"


@pytest.mark.parametrize(
    "better",
    [
        found(retention_ms="-1"),
        found(retention_ms=str(99 * DAY * 1_000)),
        found(max_message_bytes=str(2**24)),
        found(min_insync_replicas="3"),
        msgspec.structs.replace(AS_PLANNED, partitions=48),
        msgspec.structs.replace(AS_PLANNED, replication=5),
    ],
)
def test_more_than_is_wanted_is_as_good(better: TopicFound) -> None:
    """An operator had reasons for it."""
    assert shortcomings(PLAN, better) == []


@pytest.mark.parametrize(
    ("worse", "says"),
    [
        (found(retention_ms=str(7 * DAY * 1_000)), "retention.ms is 604800000, wanted 3196800000"),
        (found(retention_bytes="1000000"), "retention.bytes is 1000000, wanted -1"),
        (found(max_message_bytes="1000"), "max.message.bytes is 1000, wanted 1048576"),
        (found(min_insync_replicas="1"), "min.insync.replicas is 1, wanted 2"),
        (found(cleanup_policy="compact"), "cleanup.policy is compact, wanted delete"),
        (found(message_timestamp_type="CreateTime"), "message.timestamp.type is CreateTime"),
        (msgspec.structs.replace(AS_PLANNED, settings={}), "cleanup.policy is unknown"),
        (msgspec.structs.replace(AS_PLANNED, partitions=1), "1 partitions, wanted 12"),
        (msgspec.structs.replace(AS_PLANNED, replication=1), "replication 1, wanted 3"),
    ],
)
def test_less_than_is_wanted_is_named(worse: TopicFound, says: str) -> None:
    """Each of them loses events in the end, and in silence."""
    assert any(problem.startswith(says) for problem in shortcomings(PLAN, worse))


def test_a_partition_with_too_few_copies_in_sync_is_named() -> None:
    """Kafka takes nothing for it, and says so only to those who ask about the topic."""
    one_down = msgspec.structs.replace(AS_PLANNED, in_sync={0: 3, 1: 2, 2: 1})

    assert thin(one_down) == [2]


def test_no_more_copies_are_needed_than_there_are() -> None:
    """On one broker Kafka does not ask for a second one."""
    alone = msgspec.structs.replace(AS_PLANNED, replication=1, in_sync={0: 1})

    assert thin(alone) == []
