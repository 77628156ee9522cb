"""A scheduler may be killed at any point: the next one neither repeats nor forgets anything."""

from collections import Counter
from datetime import timedelta

import pytest

from feedbackloop.events import ReleaseChanged, RunChanged
from feedbackloop.promotion.release import decode
from feedbackloop.training.port import StepStatus
from feedbackloop.training.run import RunState
from tests.builders import ALIAS
from tests.services.scheduler.world import Died, Fuse, World

_ALWAYS = 10_000
_TICKS = 8


async def live_until(world: World, fuse: Fuse) -> bool:
    """Let one process work; say whether it was killed."""
    jobs = world.scheduler("first", fuse=fuse)
    try:
        for _ in range(_TICKS):
            await jobs.tick()
            world.time += timedelta(seconds=15)
    except Died:
        return True
    return False


async def go_on(world: World) -> None:
    """Let another process take over, once the first one's lease has run out."""
    world.time += timedelta(seconds=61)
    jobs = world.scheduler("second")
    for _ in range(_TICKS):
        await jobs.tick()
        world.time += timedelta(seconds=15)


async def check(world: World) -> None:
    run = await world.only_run()
    assert run.state is RunState.PROMOTED, run.reason
    steps = [(step, attempt) for _, step, attempt in world.launcher.started]
    assert steps == [(RunState.SNAPSHOT, 1), (RunState.TRAIN, 1), (RunState.EVALUATE, 1)]
    document = await world.document()
    assert document.stable.run == run.run
    assert decode((await world.topic.latest())[ALIAS]) == document
    events = await world.logged()
    states = {event.after for event in events if isinstance(event, RunChanged)}
    assert states == {"snapshot", "train", "evaluate", "canary", "promoted"}
    epochs = {event.epoch for event in events if isinstance(event, ReleaseChanged)}
    assert epochs == set(range(1, document.epoch + 1))


async def test_whenever_it_is_killed_the_run_goes_on_once_and_nothing_is_untold() -> None:
    """Every point between two effects is a point at which the power may go."""
    killed, steps = True, 0
    while killed:
        world = World()
        await world.people_vote()

        killed = await live_until(world, Fuse(steps))
        await go_on(world)

        await check(world)
        steps += 1
    assert steps > 50


async def test_what_was_told_before_a_crash_is_not_told_again() -> None:
    """Whoever counts promotions in the log must not count one twice."""
    world = World()
    await world.people_vote()

    await live_until(world, Fuse(_ALWAYS))
    await go_on(world)

    told = Counter(event.event_id for event in await world.logged())
    assert set(told.values()) == {1}


async def test_a_step_that_outlived_its_scheduler_is_adopted() -> None:
    """An hour of training is not thrown away because another process was restarted."""
    world = World()
    await world.people_vote()
    world.launcher.says[RunState.TRAIN] = [StepStatus(state="running", progress=0.4)] * 8

    await live_until(world, Fuse(_ALWAYS))
    assert (await world.only_run()).state is RunState.TRAIN
    await go_on(world)

    await check(world)


async def test_a_cancelled_run_whose_scheduler_died_is_stopped_by_the_next() -> None:
    """The operator was told that it ended."""
    world = World()
    await world.people_vote()
    world.launcher.says[RunState.SNAPSHOT] = [StepStatus(state="running")] * 50
    jobs = world.scheduler("first")
    await jobs.tick()
    await jobs.tick()
    fuse = Fuse(_ALWAYS)
    doomed = world.scheduler("first", fuse=fuse)
    await doomed.tick()
    run = await world.only_run()
    fuse.left = 2  # enough to write the run, and not to stop its step

    with pytest.raises(Died):
        await doomed.cancel(run, by="ann")
    await go_on(world)

    assert (run.run, RunState.SNAPSHOT, 1) in world.launcher.stopped


async def test_the_canary_of_a_cancelled_run_is_taken_back() -> None:
    """Otherwise it would stand in the way of every run that follows."""
    world = World(canary=True)
    await world.people_vote()
    jobs = world.scheduler()
    for _ in range(_TICKS):
        await jobs.tick()
        world.time += timedelta(seconds=15)
    assert (await world.document()).canary is not None

    await jobs.cancel(await world.only_run(), by="ann")

    document = await world.document()
    assert document.canary is None
    assert document.quarantined == ()
