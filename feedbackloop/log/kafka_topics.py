"""Topics on Kafka: made by an explicit command, looked at by anyone."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from feedbackloop.errors import LogUnavailable
from feedbackloop.log.kafka_client import Cluster, admin, explain
from feedbackloop.log.topics import TopicFound, TopicPlan, shortcomings, thin

_NO_ID = UUID(int=0)


class TopicState(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a topic, or how it is.

    Attributes:
        state: ``made``, ``good``, ``differs`` or ``missing``.
        differs: In what it falls short, in words.
    """

    name: str
    state: str
    differs: tuple[str, ...] = ()


def create_topics(cluster: Cluster, plans: Sequence[TopicPlan]) -> list[TopicState]:
    """Make the topics that are not there; leave the others as they are, and say what differs.

    Raises:
        LogUnavailable: If no broker answers, or one refuses.
    """
    states = []
    for plan in plans:
        with admin(cluster) as client:
            found = _find(client, plan.name)
            if found is None:
                _make(client, plan)
                states.append(TopicState(name=plan.name, state="made"))
            else:
                states.append(_compare(plan, found))
    return states


def inspect_topics(cluster: Cluster, plans: Sequence[TopicPlan]) -> list[TopicState]:
    """Compare the topics with their plans.

    Raises:
        LogUnavailable: If no broker answers, or one refuses.
    """
    with admin(cluster) as client:
        return [_compare(plan, _find(client, plan.name)) for plan in plans]


def identity(cluster: Cluster, topic: str, partition: int) -> str:
    """Name a partition for ever: by the id that its topic got when it was made.

    Brokers before 2.8 have no such ids: then a topic made anew is known by its positions alone.

    Raises:
        LogUnavailable: If there is no such partition, or no broker answers.
    """
    with admin(cluster) as client:
        described = _describe(client, topic)
        if described["error_code"]:
            raise kafka_errors.for_code(described["error_code"])(topic)
        if partition not in [one["partition_index"] for one in described["partitions"]]:
            raise kafka_errors.UnknownTopicOrPartitionError(f"{topic} has no {partition}")
    known = described.get("topic_id") or _NO_ID
    return f"{topic if known == _NO_ID else known}/{partition}"


def trouble_with(cluster: Cluster, topic: str) -> LogUnavailable | None:
    """Say why nothing can be written to a topic now, as far as the cluster knows it."""
    try:
        with admin(cluster) as client:
            found = _find(client, topic)
    except LogUnavailable as error:
        return error
    trouble: kafka_errors.KafkaError | None = None
    if found is None:
        trouble = kafka_errors.UnknownTopicOrPartitionError(f"there is no topic {topic}")
    elif found.leaderless:
        numbers = ", ".join(map(str, found.leaderless))
        trouble = kafka_errors.LeaderNotAvailableError(f"nobody leads {numbers} of {topic}")
    elif numbers := ", ".join(map(str, thin(found))):
        said = f"too few copies of {numbers} of {topic} are in sync"
        trouble = kafka_errors.NotEnoughReplicasError(said)
    return None if trouble is None else explain(cluster, trouble)


def _describe(client: KafkaAdminClient, topic: str) -> dict[str, Any]:
    described: list[dict[str, Any]] = client.describe_topics([topic])
    return next(one for one in described if one["name"] == topic)


def _find(client: KafkaAdminClient, topic: str) -> TopicFound | None:
    described = _describe(client, topic)
    error_code, partitions = described["error_code"], described["partitions"]
    if error_code == kafka_errors.UnknownTopicOrPartitionError.errno:
        return None
    if error_code and error_code != kafka_errors.LeaderNotAvailableError.errno:
        raise kafka_errors.for_code(error_code)(topic)
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    answer = client.describe_configs([resource], config_filter="all")
    return TopicFound(
        partitions=len(partitions),
        replication=min((len(one["replica_nodes"]) for one in partitions), default=0),
        settings={name: str(one["value"]) for name, one in answer["topic"][topic].items()},
        leaderless=tuple(one["partition_index"] for one in partitions if one["leader_id"] < 0),
        in_sync={one["partition_index"]: len(one["isr_nodes"]) for one in partitions},
    )


def _make(client: KafkaAdminClient, plan: TopicPlan) -> None:
    wanted = {
        "num_partitions": plan.partitions,
        "replication_factor": plan.replication,
        "configs": dict(plan.settings),
    }
    answer = client.create_topics({plan.name: wanted}, raise_errors=False)
    for one in answer["topics"]:
        if one["error_code"] not in (0, kafka_errors.TopicAlreadyExistsError.errno):
            raise kafka_errors.for_code(one["error_code"])(
                f"{plan.name} was not made: {one['error_message']}"
            )
    client.wait_for_topics([plan.name])


def _compare(plan: TopicPlan, found: TopicFound | None) -> TopicState:
    if found is None:
        return TopicState(name=plan.name, state="missing")
    problems = shortcomings(plan, found)
    return TopicState(
        name=plan.name, state="differs" if problems else "good", differs=tuple(problems)
    )
