"""What any event log promises."""

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from feedbackloop.errors import EventsRefused, LogUnavailable, MalformedEvent
from feedbackloop.events import AnyEvent, CompletionServed
from feedbackloop.log.kafka_client import Cluster, admin
from feedbackloop.log.port import Entry, EventLog, Offset
from feedbackloop.log.segments import EVENTS, SegmentEventLog
from tests.builders import a_completion, a_thumb
from tests.contracts.logs import (
    MAX_EVENT_BYTES,
    MadeLog,
    create_events,
    kafka_log,
    memory_log,
    segment_log,
    segment_topic,
)
from tests.mock_kafka import MockCluster

Make = Callable[[pytest.FixtureRequest], MadeLog]


def _segments(request: pytest.FixtureRequest) -> MadeLog:
    folder: Path = request.getfixturevalue("tmp_path")
    return segment_log(folder)


def _mock(request: pytest.FixtureRequest) -> MadeLog:
    mock: MockCluster = request.getfixturevalue("_mock_servers")
    topic: str = request.getfixturevalue("kafka_topic")
    mock.create_topic(topic, 1)
    return kafka_log(request.getfixturevalue("mock_cluster"), topic)


def _kafka(request: pytest.FixtureRequest) -> MadeLog:
    cluster, topic = (request.getfixturevalue(name) for name in ("kafka_cluster", "kafka_topic"))
    create_events(cluster, topic)
    return kafka_log(cluster, topic)


MEMORY = pytest.param(lambda _: memory_log(), id="memory")
SEGMENTS = pytest.param(_segments, id="segments")
MOCK = pytest.param(_mock, id="mock")
KAFKA = pytest.param(_kafka, id="kafka", marks=pytest.mark.kafka)


@pytest.fixture(params=[MEMORY, SEGMENTS, MOCK, KAFKA])
async def made(request: pytest.FixtureRequest) -> AsyncIterator[MadeLog]:
    make: Make = request.param
    one = make(request)
    yield one
    await one.log.close()


@pytest.fixture
def event_log(made: MadeLog) -> EventLog:
    return made.log


@pytest.fixture
def start(made: MadeLog) -> Offset:
    return Offset(made.partition, -1)


async def entries(log: EventLog, after: Offset) -> list[Entry]:
    return [entry async for entry in log.read(after=after)]


def names(found: list[Entry]) -> list[Any]:
    return [one.event.completion_id for one in found if isinstance(one.event, CompletionServed)]


async def many(log: EventLog, count: int) -> list[Offset]:
    """Append one by one, so that segments are sealed in between."""
    return [(await log.append([a_completion(f"c{n}", text="x" * 900)]))[0] for n in range(count)]


async def test_what_was_appended_is_read_in_order(event_log: EventLog, start: Offset) -> None:
    """A conversation makes sense only in its order."""
    events: list[AnyEvent] = [a_completion("c1"), a_thumb("c1"), a_completion("c2")]

    await event_log.append(events[:1])
    await event_log.append(events[1:])

    assert [entry.event for entry in await entries(event_log, start)] == events


async def test_reading_resumes_just_past_an_offset(event_log: EventLog) -> None:
    """A restarted reader neither repeats the entry it finished nor skips the next."""
    (done,) = await event_log.append([a_completion("c1")])
    await event_log.append([a_completion("c2")])

    (entry,) = await entries(event_log, after=done)

    assert isinstance(entry.event, CompletionServed)
    assert entry.event.completion_id == "c2"


async def test_reading_from_between_two_entries_begins_with_the_second(
    event_log: EventLog, start: Offset
) -> None:
    """An archive looks whether its last entry is still the one that it was."""
    offsets = await many(event_log, 3)

    for number, offset in enumerate(offsets):
        before = Offset(start.partition, offset.position - 1)
        found = await entries(event_log, after=before)

        assert [entry.offset for entry in found] == offsets[number:]
        assert isinstance(found[0].event, CompletionServed)


async def test_offsets_grow_and_reading_gives_them_back(event_log: EventLog, start: Offset) -> None:
    """A reader keeps the offset of what it has finished."""
    offsets = list(await event_log.append([a_completion(f"c{n}") for n in range(50)]))

    assert offsets == sorted(set(offsets))
    assert [entry.offset for entry in await entries(event_log, start)] == offsets
    assert await event_log.end(start.partition) == offsets[-1]


async def test_a_long_partition_is_read_whole(event_log: EventLog, start: Offset) -> None:
    """A reader takes it in pieces, and nothing may fall between two of them."""
    offsets = await event_log.append([a_completion(f"c{n}") for n in range(1_000)])

    assert [entry.offset for entry in await entries(event_log, start)] == list(offsets)


async def test_two_readers_do_not_disturb_each_other(event_log: EventLog, start: Offset) -> None:
    """One looks back while another follows; both must see all of it."""
    await event_log.append([a_completion(f"c{n}") for n in range(600)])
    slow = event_log.read(after=start)
    first = [await anext(slow) for _ in range(10)]

    between = await entries(event_log, start)

    assert first + [entry async for entry in slow] == between


async def test_an_empty_partition_ends_before_its_first_entry(
    event_log: EventLog, start: Offset
) -> None:
    """Reading after its end must give everything that comes."""
    assert await event_log.end(start.partition) == start
    assert await event_log.recent(start.partition, entries=10) == start
    assert await entries(event_log, start) == []


async def test_partitions_are_named_once_they_exist(event_log: EventLog, start: Offset) -> None:
    """A reader finds the partition of a sidecar that joined after it."""
    await event_log.append([a_completion("c1")])

    assert await event_log.partitions() == [start.partition]


async def test_what_is_recent_is_at_least_what_was_asked_for(
    event_log: EventLog, start: Offset
) -> None:
    """A sidecar that starts learns what it served last, and need not read years."""
    await many(event_log, 60)

    after = await event_log.recent(start.partition, entries=20)
    found = await entries(event_log, after)
    rest = await entries(event_log, await event_log.recent(start.partition, entries=1_000))

    assert names(found)[-20:] == [f"c{n}" for n in range(40, 60)]
    assert names(rest) == [f"c{n}" for n in range(60)]


async def test_an_event_that_is_too_large_does_not_hold_up_the_others(
    event_log: EventLog, start: Offset
) -> None:
    """It would be refused for ever, and everything behind it would wait for ever."""
    large = a_completion("large", text="x" * MAX_EVENT_BYTES)

    with pytest.raises(EventsRefused) as caught:
        await event_log.append([a_completion("c1"), large, a_completion("c2")])

    assert caught.value.refused == {1: "too_large"}
    assert names(await entries(event_log, start)) == ["c1", "c2"]


async def test_it_can_be_closed_twice(made: MadeLog, start: Offset) -> None:
    """Whoever ends a process does not always know how far it came."""
    await made.log.append([a_completion("c1")])

    await made.log.close()
    await made.log.close()

    after = made.open()
    assert names(await entries(after, start)) == ["c1"]
    await after.close()


async def test_an_event_survives_the_process_that_appended_it(made: MadeLog, start: Offset) -> None:
    """That is what append promises when it returns."""
    await made.log.append([a_completion("c1")])
    await made.log.close()

    after = made.open()
    await after.append([a_completion("c2")])

    assert names(await entries(after, start)) == ["c1", "c2"]
    await after.close()


async def test_a_partition_begins_where_nothing_was_removed(
    event_log: EventLog, start: Offset
) -> None:
    """An archive that starts late must know whether it starts with the first event."""
    await many(event_log, 3)

    assert await event_log.beginning(start.partition) == start


async def test_a_partition_keeps_its_identity(event_log: EventLog, start: Offset) -> None:
    """What was archived of it goes on with it, however often it is written."""
    await event_log.append([a_completion("c1")])
    before = await event_log.identity(start.partition)

    await event_log.append([a_completion("c2")])

    assert await event_log.identity(start.partition) == before


async def test_a_partition_that_is_not_there_has_no_identity(event_log: EventLog) -> None:
    """Nobody may take a log that does not answer for a new one."""
    for name in ("another", "events-99"):
        with pytest.raises(LogUnavailable):
            await event_log.identity(name)


# The mock cluster cannot remove records.
@pytest.mark.parametrize("made", [MEMORY, SEGMENTS, KAFKA], indirect=True)
class TestRetention:
    async def test_a_reader_that_missed_something_is_told(self, event_log: EventLog) -> None:
        """Retention that overtakes a reader must not look like silence."""
        offsets = await many(event_log, 40)

        await event_log.truncate(before=offsets[30])

        with pytest.raises(LogUnavailable, match="removed"):
            await entries(event_log, after=offsets[0])

    async def test_a_reader_that_is_overtaken_is_told(
        self, event_log: EventLog, start: Offset
    ) -> None:
        """Retention may remove what a slow reader is just coming to."""
        offsets = await many(event_log, 300)
        reader = aiter(event_log.read(after=start))
        await anext(reader)

        await event_log.truncate(before=offsets[-1])

        read = [offsets[0]]
        with contextlib.suppress(LogUnavailable):
            while (entry := await anext(reader, None)) is not None:
                read.append(entry.offset)
        assert read == offsets[: len(read)]

    async def test_a_reader_that_missed_nothing_reads_on(self, event_log: EventLog) -> None:
        """Retention behind it is none of its business."""
        offsets = await many(event_log, 40)

        await event_log.truncate(before=offsets[30])

        assert len(await entries(event_log, after=offsets[29])) == 10

    async def test_a_partition_says_what_was_removed(
        self, event_log: EventLog, start: Offset
    ) -> None:
        """An archive that was away longer than the log keeps entries must not skip any."""
        offsets = await many(event_log, 40)

        await event_log.truncate(before=offsets[30])

        beginning = await event_log.beginning(start.partition)
        assert start < beginning < offsets[30]
        assert (await entries(event_log, start))[0].offset > beginning
        assert (await entries(event_log, after=beginning))[0].offset in offsets

    async def test_what_is_recent_reaches_back_no_further(
        self, event_log: EventLog, start: Offset
    ) -> None:
        """Retention must not keep a sidecar from starting."""
        offsets = await many(event_log, 40)
        await event_log.truncate(before=offsets[30])

        after = await event_log.recent(start.partition, entries=1_000)

        assert names(await entries(event_log, after))[-10:] == [f"c{n}" for n in range(30, 40)]


async def test_a_partition_made_anew_has_another_identity(tmp_path: Path) -> None:
    """Its positions begin again: they must not be taken for the old one's."""
    made = segment_log(tmp_path)
    before = await made.log.identity("p")
    await made.log.close()
    again = made.open()
    kept = await again.identity("p")
    await again.close()
    shutil.rmtree(tmp_path / EVENTS / "p")

    anew = made.open()

    assert before == kept != await anew.identity("p")
    await anew.close()


@pytest.mark.kafka
async def test_a_topic_made_anew_has_another_identity(
    kafka_cluster: Cluster, kafka_topic: str
) -> None:
    """Kafka reuses the name and begins at 0 again."""
    create_events(kafka_cluster, kafka_topic)
    made = kafka_log(kafka_cluster, kafka_topic)
    (done,) = await made.log.append([a_completion("c1")])
    before = await made.log.identity("events-0")

    with admin(kafka_cluster) as client:
        client.delete_topics([kafka_topic])
    create_events(kafka_cluster, kafka_topic)

    assert await made.log.identity("events-0") != before
    with pytest.raises(LogUnavailable, match="made anew"):
        await entries(made.log, after=done)
    await made.log.close()


async def test_what_cannot_be_read_is_yielded_with_its_error(tmp_path: Path) -> None:
    """A reader counts it; a record that is skipped in silence is lost."""
    topic = segment_topic(tmp_path, EVENTS, partition="p", producer="a")
    await topic.append([b'{"v":1,"type":"ThumbGiven","event_id":3}'])
    log = SegmentEventLog(topic)

    (entry,) = await entries(log, Offset("p", -1))

    assert isinstance(entry.event, MalformedEvent)
    assert "event_id" in str(entry.event)
    await log.close()


async def test_damage_in_the_middle_has_a_place_of_its_own(tmp_path: Path) -> None:
    """Whoever finishes the place of a loss goes on with what stands behind it."""
    log = segment_log(tmp_path).log
    offsets = await log.append([a_completion(f"c{n}") for n in range(3)])
    (file,) = (tmp_path / EVENTS / "p").glob("*.seg")
    raw = bytearray(file.read_bytes())
    raw[offsets[1].position - int(file.stem) + 40] ^= 1
    file.write_bytes(raw)

    first, lost, last = await entries(log, Offset("p", -1))

    assert isinstance(lost.event, MalformedEvent)
    assert first.offset < lost.offset < last.offset
    assert await entries(log, after=lost.offset) == [last]
    await log.close()


async def test_a_log_opened_to_read_refuses_to_write(tmp_path: Path) -> None:
    """Only the owner of a partition may write it."""
    log = SegmentEventLog(segment_topic(tmp_path, EVENTS, partition=None, producer="a"))

    with pytest.raises(LogUnavailable, match="opened to be read"):
        await log.append([a_completion("c1")])
