"""What only Kafka does: its partitions, its order through faults, its compaction."""

import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from feedbackloop.errors import EventsRefused, LogUnavailable
from feedbackloop.events import Alias, CompletionServed
from feedbackloop.log.kafka import KafkaEventLog, KafkaReleaseTopic
from feedbackloop.log.kafka_client import Cluster
from feedbackloop.log.kafka_writer import KafkaWriter, Outgoing, Terms
from tests import mock_kafka
from tests.builders import a_completion
from tests.log.order import conversations, everything, is_in_order, once, talks, until_taken
from tests.mock_kafka import API_VERSION, MockCluster

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("lost_sockets"),
]

EVENTS = "events"
PARTITIONS = 4


@pytest.fixture
def mock() -> Iterator[MockCluster]:
    """Three brokers that this test may ill-treat."""
    cluster = MockCluster(3)
    cluster.create_topic(EVENTS, PARTITIONS)
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(mock: MockCluster) -> Cluster:
    return Cluster(
        bootstrap_servers=mock.bootstrap_servers,
        client_id="tests",
        api_version=API_VERSION,
        bootstrap_seconds=0.5,
    )


@pytest.fixture
async def event_log(cluster: Cluster) -> AsyncIterator[KafkaEventLog]:
    log = KafkaEventLog(cluster, Terms(ack_seconds=30), topic=EVENTS)
    yield log
    await log.close()


async def test_talks_are_spread_and_none_is_torn_apart(event_log: KafkaEventLog) -> None:
    """Partitions are there to share work, and a talk makes sense only in its order."""
    offsets = await event_log.append(talks(200))

    homes = {conversation: set[str]() for conversation in conversations()}
    for event, offset in zip(talks(200), offsets, strict=True):
        assert isinstance(event, CompletionServed)
        homes[event.conversation].add(offset.partition)
    assert {len(home) for home in homes.values()} == {1}
    assert len({name for home in homes.values() for name in home}) == PARTITIONS
    assert is_in_order(await everything(event_log))


FAULTS = {
    "the leader moved": [mock_kafka.NOT_LEADER] * 3,
    "too few replicas": [mock_kafka.NOT_ENOUGH_REPLICAS] * 3,
    "too few replicas, but it is written": [mock_kafka.NOT_ENOUGH_REPLICAS_AFTER_APPEND] * 2,
    "a broker that is late": [mock_kafka.REQUEST_TIMED_OUT] * 3,
    "a producer that lost count": [mock_kafka.OUT_OF_ORDER_SEQUENCE],
    "one after another": [
        mock_kafka.OUT_OF_ORDER_SEQUENCE,
        mock_kafka.NOT_LEADER,
        mock_kafka.TOPIC_AUTHORIZATION_FAILED,
        mock_kafka.MESSAGE_TOO_LARGE,
    ],
}


@pytest.mark.parametrize("errors", FAULTS.values(), ids=FAULTS.keys())
async def test_an_error_loses_nothing_and_keeps_the_order(
    mock: MockCluster, event_log: KafkaEventLog, errors: list[int]
) -> None:
    """A retry may write twice, never out of order."""
    await event_log.append(talks(100))
    mock.push_errors(mock_kafka.PRODUCE, *errors)

    await event_log.append(talks(900, first=100))

    found = await everything(event_log)
    assert {event.event_id for event in found} == {event.event_id for event in talks(1_000)}
    assert is_in_order(found)


async def test_brokers_that_go_and_come_lose_nothing(mock: MockCluster, cluster: Cluster) -> None:
    """The caller retries, and what is under way already is waited for, not sent again."""
    log = KafkaEventLog(cluster, Terms(ack_seconds=0.5), topic=EVENTS)
    await log.append(talks(100))
    for broker in mock.brokers:
        mock.set_down(broker)

    with pytest.raises(LogUnavailable) as caught:
        await log.append(talks(900, first=100))
    for broker in mock.brokers:
        mock.set_up(broker)
    await until_taken(log, talks(900, first=100)[caught.value.stored :])

    found = await everything(log)
    assert caught.value.reason == "unreachable"
    assert len(once(found)) == 1_000
    assert is_in_order(found)
    await log.close()


async def test_what_is_refused_for_its_own_sake_holds_up_nothing(
    mock: MockCluster, event_log: KafkaEventLog
) -> None:
    """The broker's limit may be lower than ours: only it can tell."""
    await event_log.append(talks(1))
    # A batch, its halves, the first alone, and that one once more by a new client.
    mock.push_errors(mock_kafka.PRODUCE, *[mock_kafka.MESSAGE_TOO_LARGE] * 4)
    batch = [a_completion(f"c{n}") for n in range(4)]

    with pytest.raises(EventsRefused) as caught:
        await event_log.append(batch)

    assert caught.value.refused == {0: "too_large"}
    found = [event.completion_id for event in await everything(event_log)]
    assert found[-3:] == ["c1", "c2", "c3"]


async def test_a_client_without_an_acknowledgement_is_thrown_away(
    mock: MockCluster, cluster: Cluster
) -> None:
    """The library never asks for the brokers' addresses again, and all may have changed."""
    ticks = iter(range(0, 10**6, 20))
    rebuilt: list[str] = []
    log = KafkaEventLog(
        cluster,
        Terms(ack_seconds=100, rebuild_seconds=60),
        topic=EVENTS,
        clock=lambda: next(ticks),
        on_rebuild=rebuilt.append,
    )
    for broker in mock.brokers:
        mock.set_round_trip(broker, milliseconds=100_000)

    with pytest.raises(LogUnavailable):
        await log.append(talks(1))

    assert rebuilt == ["no_acknowledgement"]
    await log.close()


async def test_a_leader_that_slept_takes_nothing_back(mock: MockCluster, cluster: Cluster) -> None:
    """It published last, after it was replaced; compaction keeps the last of each key."""
    mock.create_topic("releases", 1)
    topic = KafkaReleaseTopic(cluster, Terms(), topic="releases")
    await topic.publish(Alias("a"), b'{"n":2}', epoch=2)
    document = b'{"alias":"a","epoch":1,"document":{"n":1}}'

    writer = KafkaWriter(cluster, "releases", Terms(), clock=time.monotonic)
    writer.deliver([Outgoing("late", b"a/000000000001", document)])

    fresh = KafkaReleaseTopic(cluster, Terms(), topic="releases")
    assert await fresh.latest() == await topic.latest() == {Alias("a"): b'{"n":2}'}
    for one in (topic, fresh):
        await one.close()
    writer.close()


async def test_no_payload_is_logged_at_any_level(
    mock: MockCluster, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG the library writes keys, values and passwords, and somebody always sets DEBUG."""
    names = ("kafka", "kafka.producer.kafka", "kafka.admin.client", "kafka.net.connection")
    for name in names:
        caplog.set_level(logging.DEBUG, logger=name)
    caplog.set_level(logging.DEBUG)
    secret = msgspec.structs.replace(cluster, sasl_password="hush-password")  # noqa: S106  # a test's
    log = KafkaEventLog(secret, Terms(), topic=EVENTS)
    mock.push_errors(mock_kafka.PRODUCE, mock_kafka.NOT_LEADER, mock_kafka.OUT_OF_ORDER_SEQUENCE)

    await log.append([a_completion("c1", prompt="hush-prompt", text="hush-reply")])
    await everything(log)
    await log.close()

    assert caplog.records
    assert "hush" not in caplog.text


async def test_no_more_is_handed_over_than_the_window_holds(
    mock: MockCluster, cluster: Cluster
) -> None:
    """The library has no limit of its own: while brokers are away it fills the memory."""
    for broker in mock.brokers:
        mock.set_round_trip(broker, milliseconds=10_000)
    terms = Terms(ack_seconds=0.5, window_bytes=50_000)
    writer = KafkaWriter(cluster, EVENTS, terms, clock=time.monotonic)
    records = [Outgoing(f"r{n}", b"k", b"x" * 1_000) for n in range(500)]

    with pytest.raises(LogUnavailable):
        writer.deliver(records)

    handed_over = [one for one in records if one.future is not None]
    assert sum(one.size() for one in handed_over) <= 50_000
    writer.close()


async def test_closing_ends_every_thread_even_without_brokers(
    mock: MockCluster, cluster: Cluster
) -> None:
    """The library's own close raises, and leaves its thread running for ever."""
    secluded = msgspec.structs.replace(cluster, client_id="to-be-closed")
    log = KafkaEventLog(secluded, Terms(ack_seconds=0.5), topic=EVENTS)
    await log.append(talks(10))
    await log.partitions()
    for broker in mock.brokers:
        mock.set_down(broker)
    with pytest.raises(LogUnavailable):
        await log.append(talks(10, first=10))

    await log.close()

    left = [thread.name for thread in threading.enumerate() if "to-be-closed" in thread.name]
    assert left == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kafka-")]
