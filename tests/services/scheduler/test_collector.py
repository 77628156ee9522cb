"""Adapters go when nobody needs them, and not before."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from feedbackloop.promotion.filesystem import FolderAdapters
from feedbackloop.promotion.retention import Retention
from feedbackloop.training.run import RunState
from services.scheduler.collector import Collector
from services.scheduler.sidecars import SidecarReport
from tests.fakes import an_adapter
from tests.services.scheduler.world import RESULTS, World


class SilentSidecars:
    """One that cannot be asked."""

    async def reports(self) -> Sequence[SidecarReport]:
        return [SidecarReport(sidecar="sidecar-1", reachable=False)]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, adapters: FolderAdapters) -> World:
    """A world whose training says that it made the adapter that is in the store."""
    (digest,) = adapters.digests()
    trained = {"digest": digest, "reason": "trained"}
    monkeypatch.setitem(RESULTS, RunState.TRAIN, trained)
    return World()


@pytest.fixture
def adapters(tmp_path: Path) -> FolderAdapters:
    store = FolderAdapters(tmp_path / "adapters", digest=lambda _config, _weights: "ab" * 32)
    store.put(an_adapter(tmp_path / "trained"))
    return store


def collector(world: World, adapters: FolderAdapters, *, grace_seconds: float = 3600) -> Collector:
    return Collector(
        adapters,
        runs=world.runs,
        releases=world.releases,
        sidecars=world.reports,
        retention=Retention(releases=2, grace_seconds=grace_seconds),
        now=world.now,
    )


async def a_run_that_ends(
    world: World, state: RunState, *, and_then: timedelta = timedelta(days=1)
) -> None:
    await world.people_vote()
    jobs = world.scheduler()
    for _ in range(12):
        await jobs.tick()
        world.time += timedelta(seconds=15)
    assert (await world.only_run()).state is state
    world.time += and_then


async def test_a_refused_candidate_goes_and_its_run_stays(
    world: World, adapters: FolderAdapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was and why it was refused can still be asked, for ever."""
    refused = {"refused": True, "reason": "worse", "probes": []}
    monkeypatch.setitem(RESULTS, RunState.EVALUATE, refused)
    await a_run_that_ends(world, RunState.REFUSED)

    gone = await collector(world, adapters).look()

    assert (gone, adapters.digests()) == (["ab" * 32], [])
    assert (await world.only_run()).facts["train"]["digest"] == "ab" * 32


async def test_the_stable_adapter_stays(world: World, adapters: FolderAdapters) -> None:
    """It is read again whenever vLLM has pushed it out of its cache."""
    await a_run_that_ends(world, RunState.PROMOTED)

    assert await collector(world, adapters).look() == []
    assert adapters.digests() == ["ab" * 32]


async def test_while_a_sidecar_is_silent_nothing_goes(
    world: World, adapters: FolderAdapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may follow an older document than the one in force."""
    monkeypatch.setitem(RESULTS, RunState.EVALUATE, {"refused": True, "reason": "w", "probes": []})
    await a_run_that_ends(world, RunState.REFUSED)
    world.reports = SilentSidecars()

    assert await collector(world, adapters).look() == []
    assert adapters.digests() == ["ab" * 32]


async def test_it_looks_once_an_hour(
    world: World, adapters: FolderAdapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look asks every sidecar and reads every run."""
    monkeypatch.setitem(RESULTS, RunState.EVALUATE, {"refused": True, "reason": "w", "probes": []})
    patient = collector(world, adapters, grace_seconds=0)
    await patient.look()
    await a_run_that_ends(world, RunState.REFUSED, and_then=timedelta())
    early = await patient.look()
    world.time += timedelta(hours=1)

    assert (early, await patient.look()) == ([], ["ab" * 32])
