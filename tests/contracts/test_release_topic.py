"""What any topic of release documents promises."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from feedbackloop.events import Alias
from feedbackloop.log.kafka_client import Cluster, admin
from feedbackloop.log.port import ReleaseTopic
from tests.contracts.logs import (
    MadeTopic,
    create_releases,
    kafka_releases,
    memory_releases,
    segment_releases,
)
from tests.mock_kafka import MockCluster

ASSISTANT = Alias("assistant")


def _segments(request: pytest.FixtureRequest) -> MadeTopic:
    folder: Path = request.getfixturevalue("tmp_path")
    return segment_releases(folder)


def _mock(request: pytest.FixtureRequest) -> MadeTopic:
    mock: MockCluster = request.getfixturevalue("_mock_servers")
    topic: str = request.getfixturevalue("kafka_topic")
    mock.create_topic(topic, 1)
    return kafka_releases(request.getfixturevalue("mock_cluster"), topic)


def _kafka(request: pytest.FixtureRequest) -> MadeTopic:
    cluster, topic = (request.getfixturevalue(name) for name in ("kafka_cluster", "kafka_topic"))
    create_releases(cluster, topic)
    return kafka_releases(cluster, topic)


@pytest.fixture(
    params=[
        pytest.param(lambda _: memory_releases(), id="memory"),
        pytest.param(_segments, id="segments"),
        pytest.param(_mock, id="mock"),
        pytest.param(_kafka, id="kafka", marks=pytest.mark.kafka),
    ]
)
async def made(request: pytest.FixtureRequest) -> AsyncIterator[MadeTopic]:
    make: Callable[[pytest.FixtureRequest], MadeTopic] = request.param
    one = make(request)
    yield one
    await one.topic.close()


@pytest.fixture
def topic(made: MadeTopic) -> ReleaseTopic:
    return made.topic


async def test_the_document_with_the_highest_epoch_is_the_latest(topic: ReleaseTopic) -> None:
    """A paused old leader that wakes up must not take the fleet back."""
    await topic.publish(ASSISTANT, b'{"n":2}', epoch=2)
    await topic.publish(ASSISTANT, b'{"n":1}', epoch=1)

    assert await topic.latest() == {ASSISTANT: b'{"n":2}'}


async def test_a_newer_document_replaces_the_one_before(topic: ReleaseTopic) -> None:
    """A rollback is a newer document too."""
    await topic.publish(ASSISTANT, b'{"n":1}', epoch=1)
    await topic.latest()
    await topic.publish(ASSISTANT, b'{"n":2}', epoch=2)

    assert await topic.latest() == {ASSISTANT: b'{"n":2}'}


async def test_each_alias_has_its_own_document(topic: ReleaseTopic) -> None:
    """One sidecar may serve several."""
    await topic.publish(ASSISTANT, b'{"n":1}', epoch=1)
    await topic.publish(Alias("writer"), b'{"n":7}', epoch=7)

    assert await topic.latest() == {ASSISTANT: b'{"n":1}', Alias("writer"): b'{"n":7}'}


async def test_publishing_again_changes_nothing(topic: ReleaseTopic) -> None:
    """A leader that is not sure whether it published does so again."""
    await topic.publish(ASSISTANT, b'{"n":1}', epoch=1)
    await topic.latest()
    await topic.publish(ASSISTANT, b'{"n":1}', epoch=1)

    assert await topic.latest() == {ASSISTANT: b'{"n":1}'}


async def test_nothing_published_is_an_empty_answer(topic: ReleaseTopic) -> None:
    """Before the first release the base serves."""
    assert await topic.latest() == {}


async def test_a_reader_needs_no_writer_to_be_alive(made: MadeTopic) -> None:
    """A sidecar starts while the scheduler is away."""
    await made.topic.publish(ASSISTANT, b'{"n":1}', epoch=1)
    await made.topic.close()

    reader = made.open()

    assert await reader.latest() == {ASSISTANT: b'{"n":1}'}
    await reader.close()


@pytest.mark.kafka
async def test_a_topic_that_was_made_anew_is_read_anew(
    kafka_cluster: Cluster, kafka_topic: str
) -> None:
    """Whoever follows it must not wait for ever for a place that never comes."""
    create_releases(kafka_cluster, kafka_topic)
    made = kafka_releases(kafka_cluster, kafka_topic)
    for epoch in (1, 2, 3):
        await made.topic.publish(ASSISTANT, b'{"n":1}', epoch=epoch)
    await made.topic.latest()

    with admin(kafka_cluster) as client:
        client.delete_topics([kafka_topic])
    create_releases(kafka_cluster, kafka_topic)
    empty = await made.topic.latest()
    await made.topic.publish(ASSISTANT, b'{"n":2}', epoch=3)

    assert empty == {}
    assert await made.topic.latest() == {ASSISTANT: b'{"n":2}'}
    await made.topic.close()
