"""What any topic of release documents promises."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from feedbackloop.events import Alias
from feedbackloop.log.memory import MemoryReleaseTopic
from feedbackloop.log.port import ReleaseTopic
from feedbackloop.log.segments import RELEASES, SegmentReleaseTopic, Topic

ASSISTANT = Alias("assistant")


def segments(folder: Path, partition: str | None) -> ReleaseTopic:
    topic = Topic(
        folder, RELEASES, partition=partition, producer="a", segment_bytes=4096, now_ns=lambda: 0
    )
    return SegmentReleaseTopic(topic)


@pytest.fixture(params=["memory", "segments"])
async def topic(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ReleaseTopic]:
    made = MemoryReleaseTopic() if request.param == "memory" else segments(tmp_path, "s")
    yield made
    await made.close()


async def test_the_document_with_the_highest_epoch_is_the_latest(topic: ReleaseTopic) -> None:
    """A paused old leader that wakes up must not take the fleet back."""
    await topic.publish(ASSISTANT, b'{"n":2}', epoch=2)
    await topic.publish(ASSISTANT, b'{"n":1}', epoch=1)

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


async def test_a_reader_needs_no_writer_to_be_alive(tmp_path: Path) -> None:
    """A sidecar starts while the scheduler is away."""
    writer = segments(tmp_path, "s")
    await writer.publish(ASSISTANT, b'{"n":1}', epoch=1)
    await writer.close()

    assert await segments(tmp_path, None).latest() == {ASSISTANT: b'{"n":1}'}
