"""From labels to a promotion, one call of the clock at a time."""

from datetime import timedelta

import pytest

from feedbackloop.errors import StaleEpoch
from feedbackloop.events import BASE, Arm, UserId
from feedbackloop.training.port import StepStatus
from feedbackloop.training.run import FINAL, RunState
from tests.builders import ALIAS, a_completion, a_retry, a_thumb
from tests.services.scheduler.world import RESULTS, World


async def run_to_the_end(world: World, *, ticks: int = 12) -> None:
    """Let the clock tick until the run has ended; time goes on."""
    jobs = world.scheduler()
    for _ in range(ticks):
        await jobs.tick()
        world.time += timedelta(seconds=15)


async def test_enough_labels_start_a_run_that_ends_in_a_promotion() -> None:
    """The loop closes: this is what the whole house is for."""
    world = World()
    await world.people_vote()

    await run_to_the_end(world)

    run = await world.only_run()
    assert run.state is RunState.PROMOTED
    assert (await world.document()).stable.run == run.run
    assert [step for _, step, _ in world.launcher.started] == [
        RunState.SNAPSHOT,
        RunState.TRAIN,
        RunState.EVALUATE,
    ]


async def test_too_few_labels_start_nothing() -> None:
    """Not enough evidence is an answer."""
    world = World()
    await world.people_vote(19)

    await run_to_the_end(world)

    assert await world.runs.list() == []


async def test_a_scheduler_that_dies_at_every_turn_still_gets_there() -> None:
    """Each tick is another process: nothing that matters is in memory."""
    world = World()
    await world.people_vote()

    for n in range(20):
        await world.scheduler(owner=f"process-{n}").tick()
        world.time += timedelta(seconds=61)

    run = await world.only_run()
    assert run.state is RunState.PROMOTED
    assert len(world.launcher.started) == 3


async def test_of_two_schedulers_one_does_the_work() -> None:
    """Otherwise every run would be started twice."""
    world = World()
    await world.people_vote()
    one, other = world.scheduler("one"), world.scheduler("other")

    for _ in range(12):
        await one.tick()
        await other.tick()
        world.time += timedelta(seconds=15)

    assert (await world.only_run()).state is RunState.PROMOTED
    assert other.lease is None


async def test_a_refusal_ends_the_run_with_the_gates_sentence() -> None:
    """The ML engineer asks why a round did not ship."""
    world = World()
    await world.people_vote()
    verdict = {"refused": True, "reason": "capability: 0.80 against 0.97"}
    world.launcher.says[RunState.EVALUATE] = [StepStatus(state="done", result=verdict)]

    await run_to_the_end(world)

    run = await world.only_run()
    assert (run.state, run.reason) == (RunState.REFUSED, "capability: 0.80 against 0.97")
    assert (await world.document()).stable.name == BASE


async def test_a_killed_step_is_tried_again_and_a_hopeless_one_is_not() -> None:
    """Out of memory may pass; a broken recipe will not."""
    world = World()
    await world.people_vote()
    world.launcher.says[RunState.SNAPSHOT] = [
        StepStatus(state="failed", reason="killed", retryable=True)
    ]
    world.launcher.says[RunState.TRAIN] = [StepStatus(state="failed", reason="diverged")]

    await run_to_the_end(world)

    run = await world.only_run()
    assert run.state is RunState.FAILED
    assert run.reason == "train: diverged"
    assert [attempt for _, _, attempt in world.launcher.started] == [1, 2, 1]


async def test_a_step_is_given_up_after_its_last_attempt() -> None:
    """A run ends in a named state; it does not try for ever."""
    world = World()
    await world.people_vote()
    killed = StepStatus(state="failed", reason="killed", retryable=True)
    world.launcher.says[RunState.SNAPSHOT] = [killed] * 5

    await run_to_the_end(world)

    assert (await world.only_run()).state is RunState.FAILED
    assert len(world.launcher.started) == 3


async def test_a_sidecar_that_cannot_prove_the_release_ends_the_run() -> None:
    """No adapter serves that a replica has not proven."""
    world = World()
    await world.people_vote()
    world.sidecars.failing = "probes differ from the gate's record"

    await run_to_the_end(world)

    run = await world.only_run()
    assert run.state is RunState.REFUSED
    assert "probes differ" in run.reason
    assert (await world.document()).canary is None


async def test_a_run_that_rests_is_not_followed_by_another() -> None:
    """The labels that a run has seen do not start the next one."""
    world = World()
    await world.people_vote()

    await run_to_the_end(world, ticks=400)

    assert len(await world.runs.list()) == 1


async def test_cancelling_stops_the_step() -> None:
    """An operator wants the machine back now."""
    world = World()
    await world.people_vote()
    world.launcher.says[RunState.SNAPSHOT] = [StepStatus(state="running")] * 50
    jobs = world.scheduler()
    await jobs.tick()
    await jobs.tick()

    await jobs.cancel(await world.only_run(), by="ann")

    run = await world.only_run()
    assert (run.state, run.reason) == (RunState.CANCELLED, "cancelled by ann")
    assert world.launcher.stopped == world.launcher.started


async def test_whoever_does_not_lead_starts_nothing() -> None:
    """Two leaders would not know of each other's runs."""
    jobs = World().scheduler()

    with pytest.raises(StaleEpoch, match="does not lead"):
        await jobs.start(ALIAS, slot="s", recipe={}, why="by hand")


async def rollout(world: World, *, canary_likes: bool, stable_likes: bool) -> None:
    """Serve 150 people on each arm while the canary is open."""
    for n in range(300):
        arm = Arm.CANARY if n % 2 else Arm.STABLE
        name, who = f"r{n}", UserId(f"visitor-{n}")
        moment = world.time
        await world.say(
            [
                a_completion(
                    name,
                    user=who,
                    arm=arm,
                    propensity=0.5,
                    accepted_at=moment,
                    ended_at=moment,
                )
            ]
        )
        if canary_likes if arm is Arm.CANARY else stable_likes:
            await world.say([a_thumb(name, user=who, at=moment)])
        else:
            await world.say([a_retry(name, f"x{n}", user=who, at=moment)])


@pytest.mark.parametrize(
    ("canary_likes", "stable_likes", "end"),
    [(True, False, RunState.PROMOTED), (False, True, RunState.REFUSED)],
)
async def test_the_canary_is_decided_by_the_people_who_met_it(
    *, canary_likes: bool, stable_likes: bool, end: RunState
) -> None:
    """What passed the gate must still please; what harms is taken back."""
    world = World(canary=True)
    await world.people_vote()
    jobs = world.scheduler()
    for _ in range(8):
        await jobs.tick()
        world.time += timedelta(seconds=15)
    assert (await world.document()).canary_share == 0.5

    await rollout(world, canary_likes=canary_likes, stable_likes=stable_likes)
    for _ in range(4):
        world.time += timedelta(seconds=15)
        await jobs.tick()

    run = await world.only_run()
    assert run.state is end, run.reason
    assert run.state in FINAL
    assert ((await world.document()).stable.name == BASE) is (end is RunState.REFUSED)


async def test_what_steps_said_is_kept_with_the_run() -> None:
    """Why did this round ship? The answer is in one place."""
    world = World()
    await world.people_vote()

    await run_to_the_end(world)

    facts = (await world.only_run()).facts
    assert facts["train"] == RESULTS[RunState.TRAIN]
    assert set(facts["times"]) == {"snapshot", "train", "evaluate", "canary", "promoted"}
    assert facts["reasons"]["train"] == "40 rows"


async def test_a_run_judged_against_what_is_no_longer_stable_does_not_meet_traffic() -> None:
    """Better than the base is not better than what serves by now."""
    world = World()
    await world.people_vote()
    inputs = {"incumbent": "ef" * 32}
    judged: dict[str, object] = {"reason": "passed", "probes": [], "inputs": inputs}
    world.launcher.says[RunState.EVALUATE] = [StepStatus(state="done", result=judged)]

    await run_to_the_end(world)

    run = await world.only_run()
    assert run.state is RunState.REFUSED
    assert "base is stable now" in run.reason


async def test_a_second_run_waits_until_the_first_ones_canary_is_decided() -> None:
    """Two canaries at once would be compared with each other's people."""
    world = World(canary=True)
    await world.people_vote()
    jobs = world.scheduler()
    await jobs.tick()
    world.time += timedelta(seconds=1)
    await jobs.start(ALIAS, slot="by hand", recipe={}, why="by hand")

    for _ in range(8):
        await jobs.tick()
        world.time += timedelta(seconds=15)

    second, first = await world.runs.list(ALIAS)
    assert (first.state, second.state) == (RunState.CANARY, RunState.CANARY)
    assert second.reason.startswith("waits: ")


async def test_a_step_that_left_no_adapter_ends_its_run_and_not_the_clock() -> None:
    """One broken run must not stop every run after it."""
    world = World()
    await world.people_vote()
    world.launcher.says[RunState.TRAIN] = [StepStatus(state="done", result={})]

    await run_to_the_end(world)

    run = await world.only_run()
    assert run.state is RunState.FAILED
    assert "left no adapter" in run.reason


async def test_labels_that_were_too_few_for_one_run_count_for_the_next() -> None:
    """Whoever tried too early by hand must not have to wait for twice as many."""
    world = World()
    await world.people_vote(19)
    jobs = world.scheduler()
    await jobs.tick()
    nothing: dict[str, object] = {"refused": True, "reason": "too little"}
    world.launcher.says[RunState.SNAPSHOT] = [StepStatus(state="done", result=nothing)]
    await jobs.start(ALIAS, slot="by hand", recipe={}, why="by hand")
    await run_to_the_end(world)

    await world.people_vote(20)
    world.time += timedelta(hours=2)
    await run_to_the_end(world)

    assert [run.state for run in await world.runs.list()] == [
        RunState.PROMOTED,
        RunState.REFUSED,
    ]
