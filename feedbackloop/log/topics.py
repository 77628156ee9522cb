"""Which topics the log needs on Kafka, and in what an existing one falls short of that."""

from collections.abc import Mapping

import msgspec

from feedbackloop.errors import SettingsError

_MARGIN_SECONDS = 7 * 86_400
_UNLIMITED = -1

_AT_LEAST = ("retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas")
"""More than wanted is as good, and -1 of retention is more than anything."""


class TopicPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A topic as it has to be; ``settings`` in Kafka's words."""

    name: str
    partitions: int
    replication: int
    settings: Mapping[str, str]


class TopicFound(msgspec.Struct, frozen=True, kw_only=True):
    """A topic as it is.

    Attributes:
        partitions: How many.
        replication: Copies of the partition that has fewest.
        settings: Those in force, defaults included; empty if we may not see them.
        leaderless: Numbers of the partitions that nobody leads.
        in_sync: Copies in sync, by partition.
    """

    partitions: int
    replication: int
    settings: Mapping[str, str]
    leaderless: tuple[int, ...] = ()
    in_sync: Mapping[int, int] = {}


def kept_seconds(*, window_seconds: float, asked_seconds: float) -> float:
    """Say how long events are kept: as asked, or a week longer than a snapshot looks back.

    Args:
        window_seconds: How far back a snapshot looks.
        asked_seconds: 0 if nobody asked.

    Raises:
        SettingsError: If events would be gone before a snapshot looks for them.
    """
    if not asked_seconds:
        return window_seconds + _MARGIN_SECONDS
    if asked_seconds <= window_seconds:
        raise SettingsError(
            f"log.retention_seconds is {asked_seconds:g}, and snapshots look back"
            f" {window_seconds:g} (dataset.window_seconds): expected more than that"
        )
    return asked_seconds


def events_plan(
    name: str, *, partitions: int, replication: int, kept_seconds: float, max_message_bytes: int
) -> TopicPlan:
    """Plan the topic of events."""
    kept_ms = round(kept_seconds * 1_000)
    return TopicPlan(
        name=name,
        partitions=partitions,
        replication=replication,
        settings={
            "cleanup.policy": "delete",
            "retention.ms": str(kept_ms),
            "retention.bytes": str(_UNLIMITED),
            # Retention by the senders' clocks would drop what a late clock or an import sends.
            "message.timestamp.type": "LogAppendTime",
            **_safe(replication, max_message_bytes),
        },
    )


def releases_plan(name: str, *, replication: int, max_message_bytes: int) -> TopicPlan:
    """Plan the topic of release documents: compacted, so that it needs no retention."""
    return TopicPlan(
        name=name,
        partitions=1,
        replication=replication,
        settings={"cleanup.policy": "compact", **_safe(replication, max_message_bytes)},
    )


def shortcomings(plan: TopicPlan, found: TopicFound) -> list[str]:
    """Say in words in what a topic falls short of its plan; empty if in nothing."""
    problems = []
    if found.partitions < plan.partitions:
        problems.append(f"{found.partitions} partitions, wanted {plan.partitions}")
    if found.replication < plan.replication:
        problems.append(f"replication {found.replication}, wanted {plan.replication}")
    for name, wanted in plan.settings.items():
        actual = found.settings.get(name, "unknown")
        if not _meets(name, actual, wanted):
            problems.append(f"{name} is {actual}, wanted {wanted}")
    return problems


def thin(found: TopicFound) -> list[int]:
    """Name the partitions that take nothing, because too few of their copies are in sync."""
    # Kafka asks for no more copies in sync than there are.
    wanted = min(int(found.settings.get("min.insync.replicas", "1")), found.replication)
    return [number for number, copies in found.in_sync.items() if copies < wanted]


def _safe(replication: int, max_message_bytes: int) -> dict[str, str]:
    return {
        "max.message.bytes": str(max_message_bytes),
        # One broker may be away without stopping us, and without one copy being all there is.
        "min.insync.replicas": str(max(1, replication - 1)),
        "unclean.leader.election.enable": "false",
    }


def _meets(name: str, actual: str, wanted: str) -> bool:
    if name not in _AT_LEAST or not _is_number(actual):
        return actual == wanted
    if int(actual) == _UNLIMITED and name.startswith("retention"):
        return True
    return int(wanted) != _UNLIMITED and int(actual) >= int(wanted)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
