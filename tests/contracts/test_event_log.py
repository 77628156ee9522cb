"""What any event log promises."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from feedbackloop.errors import LogUnavailable, MalformedEvent
from feedbackloop.events import AnyEvent, CompletionServed
from feedbackloop.log.memory import MemoryEventLog
from feedbackloop.log.port import Entry, EventLog, Offset
from feedbackloop.log.segments import EVENTS, SegmentEventLog, Topic
from tests.builders import a_completion, a_thumb

START = Offset("p", -1)


def segments(folder: Path, *, partition: str | None = "p", producer: str = "a" * 32) -> EventLog:
    ticks = iter(range(10**9))
    topic = Topic(
        folder,
        EVENTS,
        partition=partition,
        producer=producer,
        segment_bytes=4096,
        now_ns=lambda: next(ticks),
    )
    return SegmentEventLog(topic)


@pytest.fixture(params=["memory", "segments"])
async def event_log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventLog]:
    log = MemoryEventLog("p") if request.param == "memory" else segments(tmp_path)
    yield log
    await log.close()


async def entries(log: EventLog, after: Offset = START) -> list[Entry]:
    return [entry async for entry in log.read(after=after)]


async def many(log: EventLog, count: int) -> list[Offset]:
    """Append one by one, so that segments are sealed in between."""
    return [(await log.append([a_completion(f"c{n}", text="x" * 900)]))[0] for n in range(count)]


async def test_what_was_appended_is_read_in_order(event_log: EventLog) -> None:
    """A conversation makes sense only in its order."""
    events: list[AnyEvent] = [a_completion("c1"), a_thumb("c1"), a_completion("c2")]

    await event_log.append(events[:1])
    await event_log.append(events[1:])

    assert [entry.event for entry in await entries(event_log)] == events


async def test_reading_resumes_just_past_an_offset(event_log: EventLog) -> None:
    """A restarted reader neither repeats the entry it finished nor skips the next."""
    (done,) = await event_log.append([a_completion("c1")])
    await event_log.append([a_completion("c2")])

    (entry,) = await entries(event_log, after=done)

    assert isinstance(entry.event, CompletionServed)
    assert entry.event.completion_id == "c2"


async def test_offsets_grow_and_reading_gives_them_back(event_log: EventLog) -> None:
    """A reader keeps the offset of what it has finished."""
    offsets = list(await event_log.append([a_completion(f"c{n}") for n in range(50)]))

    assert offsets == sorted(set(offsets))
    assert [entry.offset for entry in await entries(event_log)] == offsets
    assert await event_log.end("p") == offsets[-1]


async def test_a_long_partition_is_read_whole(event_log: EventLog) -> None:
    """A reader takes it in pieces, and nothing may fall between two of them."""
    offsets = await event_log.append([a_completion(f"c{n}") for n in range(1_000)])

    assert [entry.offset for entry in await entries(event_log)] == list(offsets)


async def test_an_empty_partition_ends_before_its_first_entry(event_log: EventLog) -> None:
    """Reading after its end must give everything that comes."""
    assert await event_log.end("p") == START
    assert await entries(event_log) == []


async def test_partitions_are_named_once_they_exist(event_log: EventLog) -> None:
    """A reader finds the partition of a sidecar that joined after it."""
    await event_log.append([a_completion("c1")])

    assert await event_log.partitions() == ["p"]


async def test_a_reader_that_missed_something_is_told(event_log: EventLog) -> None:
    """Retention that overtakes a reader must not look like silence."""
    offsets = await many(event_log, 40)

    await event_log.truncate(before=offsets[30])

    with pytest.raises(LogUnavailable, match="removed"):
        await entries(event_log, after=offsets[0])


async def test_a_reader_that_missed_nothing_reads_on(event_log: EventLog) -> None:
    """Retention behind it is none of its business."""
    offsets = await many(event_log, 40)

    await event_log.truncate(before=offsets[30])

    assert len(await entries(event_log, after=offsets[29])) == 10


async def test_a_partition_begins_where_nothing_was_removed(event_log: EventLog) -> None:
    """An archive that starts late must know whether it starts with the first event."""
    await many(event_log, 3)

    assert await event_log.beginning("p") == START


async def test_a_partition_says_what_was_removed(event_log: EventLog) -> None:
    """An archive that was away longer than the log keeps entries must not skip any in silence."""
    offsets = await many(event_log, 40)

    await event_log.truncate(before=offsets[30])

    beginning = await event_log.beginning("p")
    assert START < beginning < offsets[30]
    assert (await entries(event_log))[0].offset > beginning
    assert (await entries(event_log, after=beginning))[0].offset in offsets


async def test_a_partition_keeps_its_identity(event_log: EventLog) -> None:
    """What was archived of it goes on with it, however often it is written."""
    await event_log.append([a_completion("c1")])
    before = await event_log.identity("p")

    await event_log.append([a_completion("c2")])

    assert await event_log.identity("p") == before


async def test_a_partition_that_is_not_there_has_no_identity(event_log: EventLog) -> None:
    """Nobody may take a log that does not answer for a new one."""
    with pytest.raises(LogUnavailable):
        await event_log.identity("another")


async def test_a_partition_made_anew_has_another_identity(tmp_path: Path) -> None:
    """Its positions begin again: they must not be taken for the old one's."""
    identities = []
    for producer in ("a" * 32, "b" * 32):
        log = segments(tmp_path, producer=producer)
        identities.append(await log.identity("p"))
        await log.close()
    shutil.rmtree(tmp_path / EVENTS / "p")
    anew = segments(tmp_path, producer="c" * 32)

    assert identities[0] == identities[1] != await anew.identity("p")
    await anew.close()


async def test_a_restart_keeps_what_was_appended(tmp_path: Path) -> None:
    """An acknowledged event survives its process; memory is excused from this promise."""
    before = segments(tmp_path)
    await before.append([a_completion("c1")])
    await before.close()
    after = segments(tmp_path, producer="b" * 32)

    await after.append([a_completion("c2")])

    assert [entry.event for entry in await entries(after)] == [
        a_completion("c1"),
        a_completion("c2"),
    ]
    await after.close()


async def test_what_cannot_be_read_is_yielded_with_its_error(tmp_path: Path) -> None:
    """A reader counts it; a record that is skipped in silence is lost."""
    topic = Topic(
        tmp_path, EVENTS, partition="p", producer="a", segment_bytes=4096, now_ns=lambda: 0
    )
    await topic.append([b'{"v":1,"type":"ThumbGiven","event_id":3}'])
    log = SegmentEventLog(topic)

    (entry,) = await entries(log)

    assert isinstance(entry.event, MalformedEvent)
    assert "event_id" in str(entry.event)
    await log.close()


async def test_a_log_opened_to_read_refuses_to_write(tmp_path: Path) -> None:
    """Only the owner of a partition may write it."""
    with pytest.raises(LogUnavailable, match="opened to be read"):
        await segments(tmp_path, partition=None).append([a_completion("c1")])
