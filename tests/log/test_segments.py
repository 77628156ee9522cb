"""The embedded log where the folder is not what it was."""

from pathlib import Path

import pytest

from feedbackloop.errors import LogUnavailable
from feedbackloop.events import AnyEvent
from feedbackloop.log.port import Offset
from feedbackloop.log.segments import EVENTS, SegmentEventLog, Topic
from tests.builders import a_thumb


def a_log(root: Path) -> SegmentEventLog:
    return SegmentEventLog(
        Topic(
            root,
            EVENTS,
            partition="one",
            producer="one",
            segment_bytes=4096,
            now_ns=lambda: 0,
        )
    )


async def ids(log: SegmentEventLog) -> list[str]:
    found = [entry.event async for entry in log.read(after=Offset("one", -1))]
    return [one.event_id for one in found if isinstance(one, AnyEvent)]


async def test_an_event_is_not_confirmed_into_a_folder_that_nobody_finds(tmp_path: Path) -> None:
    """A volume was mounted over it: the spool would let go of what no reader ever sees."""
    log = a_log(tmp_path / "log")
    await log.append([a_thumb("c1")])
    (tmp_path / "log").rename(tmp_path / "beneath")
    (tmp_path / "log" / EVENTS / "one").mkdir(parents=True)

    with pytest.raises(LogUnavailable, match="gone from its place"):
        await log.append([a_thumb("c2")])
    found = await ids(log)
    await log.close()

    assert found == []


async def test_events_are_confirmed_again_once_the_folder_is_back(tmp_path: Path) -> None:
    """Nobody has to restart anything."""
    log = a_log(tmp_path / "log")
    (tmp_path / "log").rename(tmp_path / "beneath")
    with pytest.raises(LogUnavailable):
        await log.append([a_thumb("c1")])

    (tmp_path / "beneath").rename(tmp_path / "log")
    while True:
        try:
            await log.append([a_thumb("c2")])
        except LogUnavailable:
            continue
        break
    found = await ids(log)
    await log.close()

    assert found[-1] == a_thumb("c2").event_id
