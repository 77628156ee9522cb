"""Every event log and topic of releases that there is, made for one test each."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from feedbackloop.log.kafka import KafkaEventLog, KafkaReleaseTopic
from feedbackloop.log.kafka_client import Cluster
from feedbackloop.log.kafka_topics import create_topics
from feedbackloop.log.kafka_writer import Terms
from feedbackloop.log.memory import MemoryEventLog, MemoryReleaseTopic
from feedbackloop.log.port import EventLog, ReleaseTopic
from feedbackloop.log.segments import EVENTS, RELEASES, SegmentEventLog, SegmentReleaseTopic, Topic
from feedbackloop.log.topics import events_plan, releases_plan

MAX_EVENT_BYTES = 20_000
TERMS = Terms(max_message_bytes=MAX_EVENT_BYTES, ack_seconds=20)


class MadeLog(msgspec.Struct, frozen=True):
    """A log with nothing in it.

    Attributes:
        partition: The one that everything goes to.
        open: Opens it once more, as another process would.
    """

    log: EventLog
    partition: str
    open: Callable[[], EventLog]


class MadeTopic(msgspec.Struct, frozen=True):
    """A topic of releases with nothing in it; ``open`` as for a log."""

    topic: ReleaseTopic
    open: Callable[[], ReleaseTopic]


def memory_log() -> MadeLog:
    store: dict[str, list[bytes]] = {}

    def opened() -> EventLog:
        return MemoryEventLog("p", store, max_event_bytes=MAX_EVENT_BYTES)

    return MadeLog(opened(), "p", opened)


def segment_log(folder: Path) -> MadeLog:
    names = iter("abcdefgh")

    def opened() -> EventLog:
        topic = segment_topic(folder, EVENTS, partition="p", producer=next(names) * 32)
        return SegmentEventLog(topic, max_event_bytes=MAX_EVENT_BYTES)

    return MadeLog(opened(), "p", opened)


def segment_topic(folder: Path, name: str, *, partition: str | None, producer: str) -> Topic:
    ticks = iter(range(10**9))
    return Topic(
        folder,
        name,
        partition=partition,
        producer=producer,
        segment_bytes=4096,
        now_ns=lambda: next(ticks),
    )


def kafka_log(cluster: Cluster, topic: str, *, terms: Terms = TERMS) -> MadeLog:
    """Make a log on Kafka whose topic exists, with one partition."""

    def opened() -> EventLog:
        return KafkaEventLog(cluster, terms, topic=topic)

    return MadeLog(opened(), "events-0", opened)


def create_events(cluster: Cluster, topic: str, *, partitions: int = 1) -> None:
    plan = events_plan(
        topic,
        partitions=partitions,
        replication=1,
        kept_seconds=86_400,
        max_message_bytes=2 * MAX_EVENT_BYTES,
    )
    create_topics(cluster, [plan])


def create_releases(cluster: Cluster, topic: str) -> None:
    create_topics(cluster, [releases_plan(topic, replication=1, max_message_bytes=2**20)])


def memory_releases() -> MadeTopic:
    topic = MemoryReleaseTopic()
    return MadeTopic(topic, lambda: MemoryReleaseTopic(topic.store))


def segment_releases(folder: Path) -> MadeTopic:
    def opened(partition: str | None = None) -> ReleaseTopic:
        topic = segment_topic(folder, RELEASES, partition=partition, producer="a" * 32)
        return SegmentReleaseTopic(topic)

    return MadeTopic(opened("s"), opened)


def kafka_releases(cluster: Cluster, topic: str) -> MadeTopic:
    def opened() -> ReleaseTopic:
        return KafkaReleaseTopic(cluster, TERMS, topic=topic)

    return MadeTopic(opened(), opened)
