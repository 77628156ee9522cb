"""What the scheduler makes of a log whose partitions come in any order."""

from datetime import timedelta
from pathlib import Path

import pytest

from feedbackloop.events import AnyEvent, Thumb
from feedbackloop.labels.tally import Tally
from services import wiring
from services.scheduler.follower import Follower
from services.scheduler.journal import Journal
from services.settings import Settings
from tests.builders import ALIAS, NOON, a_completion, a_thumb

VOTE: AnyEvent = a_thumb("c1", Thumb.DOWN)
COMPLETION: AnyEvent = a_completion("c1")


async def write(settings: Settings, partition: str, event: AnyEvent) -> None:
    """Append to a sidecar's own partition, as a process of its own."""
    log = wiring.open_log(settings, partition=partition)
    await log.append([event])
    await log.close()


@pytest.mark.parametrize("completed_on", ["sidecar-a", "sidecar-b", "sidecar-z"])
async def test_a_vote_that_comes_before_its_completion_waits_for_it(
    tmp_path: Path, completed_on: str
) -> None:
    """It came over another sidecar, and the one that served was cut off from the log."""
    settings = Settings(home=tmp_path)
    log = wiring.open_log(settings, partition=None)
    tally = Tally(watermark=timedelta(minutes=10), counted=lambda _: True, usable=lambda _: True)
    follower = Follower(log, tally, Journal(log), now=lambda: NOON + timedelta(hours=1))

    await write(settings, "sidecar-b", VOTE)
    await follower.catch_up()
    before = (follower.counts(ALIAS).undesirable, follower.gathering.orphans())
    await write(settings, completed_on, COMPLETION)
    await follower.catch_up()
    after = (follower.counts(ALIAS).undesirable, follower.gathering.orphans())

    (one,) = follower.gathering.completions()
    assert (before, after) == ((0, 1), (1, 0))
    assert one.signals == (VOTE,)
