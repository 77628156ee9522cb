"""What becomes of events when Apache Kafka is killed, frozen, shut to us, or too small."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from feedbackloop.errors import EventsRefused, LogUnavailable
from feedbackloop.log.kafka import KafkaEventLog
from feedbackloop.log.kafka_client import Cluster, admin
from feedbackloop.log.kafka_writer import Terms
from tests.apache_kafka import Access, Broker
from tests.builders import a_completion
from tests.certificates import make_certificate
from tests.contracts.logs import create_events
from tests.log.order import everything, is_in_order, once, talks, until_taken

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("lost_sockets"),
]

PARTITIONS = 4
USER, STRANGER, PASSWORD = "app", "stranger", "correct horse"
IMPATIENT = Terms(ack_seconds=2)


@pytest.fixture(scope="module")
def fragile(kafka_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that these tests ill-treat, one after another."""
    broker = Broker(kafka_home, tmp_path_factory.mktemp("fragile"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def cluster(fragile: Broker) -> Cluster:
    return Cluster(
        bootstrap_servers=fragile.bootstrap_servers, client_id="tests", bootstrap_seconds=2
    )


@pytest.fixture
async def event_log(cluster: Cluster, kafka_topic: str) -> AsyncIterator[KafkaEventLog]:
    create_events(cluster, kafka_topic, partitions=PARTITIONS)
    log = KafkaEventLog(cluster, IMPATIENT, topic=kafka_topic)
    yield log
    await log.close()


async def test_a_kill_in_the_middle_of_sends_loses_nothing(
    fragile: Broker, cluster: Cluster, kafka_topic: str
) -> None:
    """It dies between taking a batch and saying so, and nobody knows what it has written."""
    create_events(cluster, kafka_topic, partitions=PARTITIONS)
    logs = [KafkaEventLog(cluster, IMPATIENT, topic=kafka_topic) for _ in range(4)]
    for number, log in enumerate(logs):
        await log.append(talks(20, of=number))

    sending = asyncio.gather(*(_send(log, of=number) for number, log in enumerate(logs)))
    await asyncio.to_thread(fragile.kill)
    await asyncio.to_thread(fragile.start)
    trouble = await sending

    found = await everything(logs[0])
    sent = {event.event_id for number in range(4) for event in talks(5_000, of=number)}
    assert sum(trouble) > 0
    assert {event.event_id for event in found} == sent
    assert is_in_order(found)
    for log in logs:
        await log.close()


async def test_a_broker_that_is_frozen_and_comes_back_loses_nothing(
    fragile: Broker, event_log: KafkaEventLog
) -> None:
    """It has requests in its buffers from before, and answers them when it wakes."""
    await event_log.append(talks(100))
    fragile.pause()

    trouble: list[LogUnavailable] = []
    while len(trouble) < 3:
        with pytest.raises(LogUnavailable) as caught:
            await event_log.append(talks(900, first=100))
        trouble.append(caught.value)
    fragile.resume()
    await until_taken(event_log, talks(900, first=100))

    found = await everything(event_log)
    assert len(once(found)) == 1_000
    assert is_in_order(found)


async def test_a_client_that_gave_up_on_a_frozen_broker_does_not_break_the_order(
    fragile: Broker, cluster: Cluster, kafka_topic: str
) -> None:
    """What the old client had sent may be written after what the new one sends."""
    create_events(cluster, kafka_topic, partitions=PARTITIONS)
    rebuilt: list[str] = []
    terms = Terms(ack_seconds=2, rebuild_seconds=1)
    log = KafkaEventLog(cluster, terms, topic=kafka_topic, on_rebuild=rebuilt.append)
    await log.append(talks(100))
    fragile.pause()

    with pytest.raises(LogUnavailable):
        await log.append(talks(900, first=100))
    fragile.resume()
    await until_taken(log, talks(900, first=100))

    found = await everything(log)
    assert "no_acknowledgement" in rebuilt
    assert len(once(found)) == 1_000
    assert is_in_order(found)
    await log.close()


async def test_a_topic_that_is_missing_is_named_and_nothing_is_lost(
    cluster: Cluster, kafka_topic: str
) -> None:
    """The message says which command makes it; what waits is taken as soon as it is there."""
    log = KafkaEventLog(cluster, IMPATIENT, topic=kafka_topic)

    with pytest.raises(LogUnavailable) as writing:
        await log.append(talks(10))
    with pytest.raises(LogUnavailable) as reading:
        await log.partitions()
    create_events(cluster, kafka_topic)
    await until_taken(log, talks(10))

    for caught in (writing, reading):
        assert caught.value.reason == "topic_missing"
        assert kafka_topic in str(caught.value)
        assert "feedbackloop topics create" in str(caught.value)
    assert len(once(await everything(log))) == 10
    await log.close()


async def test_what_the_topic_finds_too_large_holds_up_nothing(
    cluster: Cluster, kafka_topic: str
) -> None:
    """An operator's limit may be below ours: only the broker knows it."""
    create_events(cluster, kafka_topic)
    log = KafkaEventLog(cluster, Terms(compression=None), topic=kafka_topic)
    large = a_completion("large", text="x" * 100_000)

    with pytest.raises(EventsRefused) as caught:
        await log.append([*talks(50), large, *talks(50, first=50)])

    assert caught.value.refused == {50: "too_large"}
    found = await everything(log)
    assert len(once(found)) == 100
    assert is_in_order(found)
    await log.close()


async def test_nobody_who_answers_is_named_and_nothing_is_lost(
    fragile: Broker, event_log: KafkaEventLog
) -> None:
    """A wrong address looks like an outage: the message names the setting."""
    fragile.stop()

    with pytest.raises(LogUnavailable) as caught:
        await event_log.append(talks(10))
    fragile.start()
    await until_taken(event_log, talks(10))

    assert caught.value.reason == "unreachable"
    assert fragile.bootstrap_servers in str(caught.value)
    assert "check bootstrap_servers" in str(caught.value)
    assert len(once(await everything(event_log))) == 10


class Guarded(msgspec.Struct, frozen=True):
    """A broker behind TLS and SCRAM, and the file that lets a client trust it."""

    broker: Broker
    trusted: Path

    def cluster(self, **changed: Any) -> Cluster:
        return msgspec.structs.replace(
            Cluster(
                bootstrap_servers=self.broker.bootstrap_servers,
                client_id="tests",
                security_protocol="SASL_SSL",
                sasl_mechanism="SCRAM-SHA-512",
                sasl_username=USER,
                sasl_password=PASSWORD,
                ssl_cafile=str(self.trusted),
                bootstrap_seconds=1,
            ),
            **changed,
        )


@pytest.fixture(scope="module")
def guarded(kafka_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    certificate, trusted = make_certificate(folder)
    access = Access(users={USER: PASSWORD, STRANGER: PASSWORD}, certificate=certificate)
    broker = Broker(kafka_home, folder / "kafka", access=access)
    broker.start()
    yield Guarded(broker, trusted)
    broker.stop()


async def test_the_right_credentials_are_let_in(guarded: Guarded, kafka_topic: str) -> None:
    """Writing, reading and making topics all go through the same door."""
    create_events(guarded.cluster(), kafka_topic)
    log = KafkaEventLog(guarded.cluster(), IMPATIENT, topic=kafka_topic)

    await log.append(talks(10))

    assert len(await everything(log)) == 10
    await log.close()


async def test_whoever_may_not_write_is_told_which_rights_are_missing(
    guarded: Guarded, kafka_topic: str
) -> None:
    """Let in is not allowed to; what waits is taken as soon as the rights are there."""
    create_events(guarded.cluster(), kafka_topic)
    log = KafkaEventLog(guarded.cluster(sasl_username=STRANGER), IMPATIENT, topic=kafka_topic)

    with pytest.raises(LogUnavailable) as writing:
        await log.append(talks(10))
    with pytest.raises(LogUnavailable) as reading:
        await log.partitions()
    with_admin(guarded.cluster(), lambda client: client.create_acls(_everything(STRANGER)))
    await until_taken(log, talks(10))

    for caught in (writing, reading):
        assert caught.value.reason == "not_authorized"
        assert "let this user" in str(caught.value)
    assert len(once(await everything(log))) == 10
    await log.close()


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "password": ({"sasl_password": "wrong"}, "credentials", "'app' was not let in"),
    "user": ({"sasl_username": "nobody"}, "credentials", "'nobody' was not let in"),
    "mechanism": ({"sasl_mechanism": "PLAIN"}, "credentials", "sasl_mechanism"),
    "trust": ({"ssl_cafile": None}, "tls", "ssl_cafile"),
    "no SASL": ({"security_protocol": "SSL"}, "unreachable", "security_protocol"),
    "no TLS": ({"security_protocol": "SASL_PLAINTEXT"}, "tls", "security_protocol"),
}


@pytest.mark.parametrize(("changed", "reason", "says"), WRONG.values(), ids=WRONG.keys())
async def test_whoever_is_not_let_in_is_told_why(
    guarded: Guarded, kafka_topic: str, changed: dict[str, Any], reason: str, says: str
) -> None:
    """The library knows, and says only that it timed out."""
    cluster = guarded.cluster(**changed)
    log = KafkaEventLog(cluster, IMPATIENT, topic=kafka_topic)

    with pytest.raises(LogUnavailable) as writing:
        await log.append(talks(1))
    with pytest.raises(LogUnavailable) as reading:
        await log.partitions()
    with pytest.raises(LogUnavailable) as administering:
        with_admin(cluster, lambda client: client.list_topics())

    for caught in (writing, reading, administering):
        assert caught.value.reason == reason
        assert says in str(caught.value)
        assert PASSWORD not in str(caught.value)
    await log.close()


def with_admin(cluster: Cluster, ask: Callable[[Any], Any]) -> Any:
    with admin(cluster) as client:
        return ask(client)


def _everything(user: str) -> list[ACL]:
    """Let a user do everything with every topic, and with the cluster."""
    return [
        ACL(
            principal=f"User:{user}",
            host="*",
            operation=ACLOperation.ALL,
            permission_type=ACLPermissionType.ALLOW,
            resource_pattern=ResourcePattern(kind, name),
        )
        for kind, name in ((ResourceType.TOPIC, "*"), (ResourceType.CLUSTER, "kafka-cluster"))
    ]


async def _send(log: KafkaEventLog, *, of: int) -> int:
    """Append 5,000 events; return how often that was not confirmed."""
    return sum(
        [len(await until_taken(log, talks(200, first=200 * batch, of=of))) for batch in range(25)]
    )
