"""What any table of runs promises."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from feedbackloop.errors import StaleEpoch
from feedbackloop.events import RunId
from feedbackloop.training.memory import MemoryRuns
from feedbackloop.training.port import Runs
from feedbackloop.training.run import Run, RunState
from feedbackloop.training.sql import SqlRuns
from services.database import open_engine
from tests.builders import ALIAS, NOON


def a_run(name: str = "run-1", **changed: Any) -> Run:
    fields: dict[str, Any] = {
        "run": RunId(name),
        "alias": ALIAS,
        "slot": name,
        "state": RunState.SNAPSHOT,
        "attempt": 0,
        "version": 0,
        "epoch": 1,
        "reason": "enough labels",
        "recipe": {},
        "created_at": NOON,
        "changed_at": NOON,
        "facts": {},
    }
    return Run(**(fields | changed))


def changed(run: Run, state: RunState, *, epoch: int = 1) -> Run:
    return Run(**{name: getattr(run, name) for name in run.__struct_fields__} | {
        "state": state, "epoch": epoch,
    })  # fmt: skip


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runs]:
    if request.param == "memory":
        yield MemoryRuns()
        return
    if request.param == "sqlite":
        yield SqlRuns(open_engine(f"sqlite:///{tmp_path / 'state.db'}"))
        return
    engine = open_engine(request.getfixturevalue("postgres_url"))
    yield SqlRuns(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE runs, lease"))
    engine.dispose()


async def test_of_many_who_want_to_lead_one_does(runs: Runs) -> None:
    """Two leaders would start every run twice."""
    leases = await asyncio.gather(
        *(runs.acquire(f"owner-{n}", now=NOON, seconds=60) for n in range(16))
    )

    assert len([lease for lease in leases if lease is not None]) == 1


async def test_a_leader_renews_under_the_same_epoch(runs: Runs) -> None:
    """Nothing that it began becomes stale by that."""
    first = await runs.acquire("ann", now=NOON, seconds=60)
    again = await runs.acquire("ann", now=NOON + timedelta(seconds=30), seconds=60)

    assert first is not None
    assert again is not None
    assert first.epoch == again.epoch
    assert again.expires_at > first.expires_at


async def test_an_expired_lease_goes_to_the_next_with_a_higher_epoch(runs: Runs) -> None:
    """The old leader may only be paused."""
    await runs.acquire("ann", now=NOON, seconds=60)

    early = await runs.acquire("bob", now=NOON + timedelta(seconds=59), seconds=60)
    late = await runs.acquire("bob", now=NOON + timedelta(seconds=61), seconds=60)

    assert early is None
    assert late is not None
    assert late.epoch == 2


async def test_one_slot_is_one_run(runs: Runs) -> None:
    """However many schedulers find that it is due."""
    first = await runs.create(a_run("run-1", slot="tonight"))
    second = await runs.create(a_run("run-2", slot="tonight"))

    assert second == first
    assert len(await runs.list()) == 1


async def test_a_change_is_seen_by_everyone(runs: Runs) -> None:
    """The command line looks at what the scheduler did."""
    run = await runs.create(a_run())

    moved = await runs.replace(run, changed(run, RunState.TRAIN))

    assert moved.version == run.version + 1
    assert await runs.get(run.run) == moved


async def test_whoever_changes_second_loses(runs: Runs) -> None:
    """It decided on what is no longer so."""
    run = await runs.create(a_run())
    await runs.replace(run, changed(run, RunState.TRAIN))

    with pytest.raises(StaleEpoch):
        await runs.replace(run, changed(run, RunState.FAILED))


async def test_a_leader_that_slept_past_its_lease_moves_nothing(runs: Runs) -> None:
    """It wakes up under its old epoch, and the new leader has been at work."""
    run = await runs.create(a_run())
    moved = await runs.replace(run, changed(run, RunState.TRAIN, epoch=2))

    with pytest.raises(StaleEpoch):
        await runs.replace(moved, changed(moved, RunState.EVALUATE, epoch=1))


async def test_a_leader_that_was_replaced_moves_nothing_that_nobody_touched_since(
    runs: Runs,
) -> None:
    """The new leader has just begun, and already decides alone."""
    await runs.acquire("ann", now=NOON, seconds=60)
    run = await runs.create(a_run())
    await runs.acquire("bob", now=NOON + timedelta(seconds=61), seconds=60)

    with pytest.raises(StaleEpoch):
        await runs.replace(run, changed(run, RunState.TRAIN, epoch=1))
    with pytest.raises(StaleEpoch):
        await runs.create(a_run("run-2", epoch=1))

    assert await runs.list() == [run]


async def test_a_leader_that_resigns_is_followed_at_once(runs: Runs) -> None:
    """A restart must not stop the loop for as long as a lease lasts."""
    lease = await runs.acquire("ann", now=NOON, seconds=60)
    assert lease is not None

    await runs.resign(lease)
    following = await runs.acquire("bob", now=NOON, seconds=60)

    assert following is not None
    assert following.epoch == lease.epoch + 1


async def test_resigning_a_lost_lease_takes_nothing_from_the_next_leader(runs: Runs) -> None:
    """A process may be paused just before it says goodbye."""
    lease = await runs.acquire("ann", now=NOON, seconds=60)
    assert lease is not None
    later = NOON + timedelta(seconds=61)
    await runs.acquire("bob", now=later, seconds=60)

    await runs.resign(lease)

    assert await runs.acquire("cid", now=later, seconds=60) is None


async def test_no_unfinished_run_is_forgotten_however_many_followed(runs: Runs) -> None:
    """A page of the newest runs is for people; the scheduler has to see every one through."""
    await runs.create(a_run("run-0", state=RunState.CANARY))
    for n in range(1, 4):
        moment = NOON + timedelta(hours=n)
        await runs.create(a_run(f"run-{n}", state=RunState.REFUSED, created_at=moment))

    assert [run.run for run in await runs.unfinished(ALIAS)] == ["run-0"]


async def test_a_run_cannot_leave_its_end(runs: Runs) -> None:
    """Refused is refused: another try is another run."""
    run = await runs.create(a_run(state=RunState.REFUSED))

    with pytest.raises(ValueError, match="cannot go"):
        await runs.replace(run, changed(run, RunState.CANARY))


async def test_the_newest_run_comes_first(runs: Runs) -> None:
    """That is what people look for."""
    await runs.create(a_run("run-1"))
    await runs.create(a_run("run-2", created_at=NOON + timedelta(hours=1)))

    assert [run.run for run in await runs.list(ALIAS)] == ["run-2", "run-1"]
    assert await runs.get(RunId("run-9")) is None
