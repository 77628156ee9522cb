"""What any store of release documents promises."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from feedbackloop.errors import StaleEpoch, StateUnavailable
from feedbackloop.events import Alias
from feedbackloop.promotion.changes import next_release
from feedbackloop.promotion.memory import MemoryReleases
from feedbackloop.promotion.port import Releases
from feedbackloop.promotion.release import BASE_RELEASE, ReleaseDocument
from feedbackloop.promotion.sql import SqlReleases


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def releases(request: pytest.FixtureRequest, tmp_path: Path) -> Releases:
    match request.param:
        case "memory":
            return MemoryReleases()
        case "sqlite":
            return SqlReleases(f"sqlite:///{tmp_path}/state.db")
        case _:
            return SqlReleases(request.getfixturevalue("postgres_url"))


@pytest.fixture
def alias() -> Alias:
    """A fresh alias: a real database may hold documents of earlier tests."""
    return Alias(f"test-{uuid4().hex[:12]}")


def document(alias: Alias, epoch: int, *, why: str = "") -> ReleaseDocument:
    """Make a document with a canary, so that every kind of field is stored."""
    canary = next_release(ReleaseDocument(alias=alias), digest="1" * 64)
    return ReleaseDocument(alias=alias, epoch=epoch, canary=canary, canary_share=0.25, why=why)


async def test_an_alias_begins_with_the_base(releases: Releases, alias: Alias) -> None:
    """A sidecar serves before anyone has decided anything."""
    found = await releases.get(alias)

    assert (found.epoch, found.stable) == (0, BASE_RELEASE)
    assert not await releases.history(alias)


async def test_what_was_put_is_in_force(releases: Releases, alias: Alias) -> None:
    """Every field comes back as it was."""
    await releases.put(document(alias, 1, why="begun"), lease_epoch=1)

    assert await releases.get(alias) == document(alias, 1, why="begun")
    assert document(alias, 1, why="begun") in await releases.list()


async def test_history_is_complete_and_newest_first(releases: Releases, alias: Alias) -> None:
    """Who changed what, and why, stays on record."""
    for epoch in (1, 2, 3):
        await releases.put(document(alias, epoch), lease_epoch=1)

    assert [found.epoch for found in await releases.history(alias)] == [3, 2, 1]
    assert [found.epoch for found in await releases.history(alias, limit=1)] == [3]
    assert [found.epoch for found in await releases.list() if found.alias == alias] == [3]


@pytest.mark.parametrize("epoch", [0, 1, 3])
async def test_only_the_next_epoch_is_taken(releases: Releases, alias: Alias, epoch: int) -> None:
    """Whoever decided on an older document must read again and decide again."""
    await releases.put(document(alias, 1), lease_epoch=1)

    with pytest.raises(StaleEpoch):
        await releases.put(document(alias, epoch, why="late"), lease_epoch=1)

    assert (await releases.get(alias)).why == ""


async def test_of_two_at_once_one_wins(releases: Releases, alias: Alias) -> None:
    """Two operators may press a button in the same second."""
    puts = [releases.put(document(alias, 1, why=str(n)), lease_epoch=1) for n in range(4)]

    results = await asyncio.gather(*puts, return_exceptions=True)

    assert [result is None for result in results].count(True) == 1
    assert all(result is None or isinstance(result, StaleEpoch) for result in results)


async def test_a_leader_whose_lease_is_over_changes_nothing(
    releases: Releases, alias: Alias
) -> None:
    """A paused process that wakes up still believes that it leads."""
    await releases.put(document(alias, 1), lease_epoch=7)

    with pytest.raises(StaleEpoch):
        await releases.put(document(alias, 2), lease_epoch=6)

    assert (await releases.get(alias)).epoch == 1


async def test_sqlite_survives_a_restart(tmp_path: Path) -> None:
    """What is decided stays decided; memory promises this only while it lives."""
    url = f"sqlite:///{tmp_path}/state.db"
    alias = Alias("assistant")
    await SqlReleases(url).put(document(alias, 1), lease_epoch=1)

    assert (await SqlReleases(url).get(alias)).epoch == 1


async def test_a_database_that_cannot_be_reached_is_unavailable(tmp_path: Path) -> None:
    """The caller retries: the decision is not lost, only not stored yet."""
    releases = SqlReleases(f"sqlite:///{tmp_path}/missing/state.db")

    with pytest.raises(StateUnavailable):
        await releases.get(Alias("assistant"))
