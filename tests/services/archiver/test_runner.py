"""All partitions of one process: shared with others, bounded in memory, not held up by one."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from feedbackloop.errors import LogUnavailable
from feedbackloop.events import AnyEvent
from feedbackloop.log import codec
from feedbackloop.log.archive import Level
from feedbackloop.log.filesystem import LockSharing
from feedbackloop.log.memory import AllPartitions, MemoryEventLog, MemoryStore
from feedbackloop.log.port import Offset
from feedbackloop.log.sharing import Sharing
from services.archiver.archivist import Archivist
from services.archiver.keeper import Upkeep
from services.archiver.runner import Pace, Runner
from tests.builders import a_completion
from tests.services.archiver.world import ROTATE_SECONDS, P, World

UPKEEP_SECONDS = 300.0


class Chosen(AllPartitions):
    """Sharing that a test decides about."""

    def __init__(self, partitions: Sequence[str]) -> None:
        super().__init__(MemoryEventLog())
        self.partitions = partitions
        self.told: list[Offset] = []

    async def reached(self, last: Offset) -> None:
        self.told.append(last)

    async def mine(self) -> Sequence[str]:
        return self.partitions


class Broken(MemoryEventLog):
    """One of its partitions cannot be asked."""

    async def identity(self, partition: str) -> str:
        if partition == "broken":
            raise LogUnavailable("no answer")
        return await super().identity(partition)


def a_runner(
    world: World, sharing: Sharing, *, memory_bytes: int = 2**30, keep_days: int | None = None
) -> Runner:
    def archivist(partition: str) -> Archivist:
        made = world.archivist()
        made.partition = partition
        return made

    return Runner(
        sharing=sharing,
        archive=world.archive(),
        archivist=archivist,
        pace=Pace(
            memory_bytes=memory_bytes,
            poll_seconds=0.01,
            upkeep_seconds=UPKEEP_SECONDS,
            upkeep=Upkeep(sealed_bytes=2**30, grace_seconds=3_600, keep_days=keep_days),
        ),
        clock=lambda: world.seconds,
        now=world.now,
    )


def a_log(contents: Mapping[str, Sequence[AnyEvent]]) -> MemoryEventLog:
    return MemoryEventLog(None, {name: list(map(encoded, some)) for name, some in contents.items()})


def encoded(event: AnyEvent) -> bytes:
    return codec.encode(event)


async def turns(runner: Runner, count: int = 5) -> None:
    for _ in range(count):
        await runner.turn()


async def test_every_partition_of_this_process_is_archived() -> None:
    """One batch of each in turn, so that a busy one does not starve the others."""
    log = a_log({"a": [a_completion("c1")], "b": [a_completion("c2")]})
    world = World(log=log)
    runner = a_runner(world, AllPartitions(log))

    await turns(runner)
    await runner.drain()

    assert [lineage.partition for lineage in world.archive().lineages()] == ["a", "b"]


async def test_a_partition_that_fails_does_not_hold_up_the_others() -> None:
    """Its broker is away: the rest goes on."""
    store = {"broken": [encoded(a_completion("c1"))], "ok": [encoded(a_completion("c2"))]}
    log = Broken(None, store)
    world = World(log=log)
    runner = a_runner(world, AllPartitions(log))

    await turns(runner)
    await runner.drain()

    assert [lineage.partition for lineage in world.archive().lineages()] == ["ok"]


async def test_a_partition_that_went_to_somebody_else_is_dropped() -> None:
    """What was read of it and not published is theirs to read."""
    world = World()
    await world.served(3)
    sharing = Chosen([P])
    runner = a_runner(world, sharing)
    await turns(runner)

    sharing.partitions = []
    await turns(runner)
    await runner.drain()

    assert (list(runner.archivists), await world.events()) == ([], [])


async def test_whoever_watches_is_told_what_is_in_files() -> None:
    """Not what was read: that may be lost again, and the lag would look smaller than it is."""
    world = World()
    sharing = Chosen([P])
    runner = a_runner(world, sharing)
    await world.served(3)
    await turns(runner)
    read = list(sharing.told)
    world.seconds += ROTATE_SECONDS

    await turns(runner)
    await world.served(2)
    await turns(runner)
    await runner.drain()

    assert read == [Offset(P, -1)]
    assert sharing.told == [Offset(P, -1), Offset(P, 2), Offset(P, 4)]


async def test_memory_is_bounded_over_all_partitions() -> None:
    """However many there are, and however far behind."""
    world = World()
    await world.served(50)
    runner = a_runner(world, Chosen([P]), memory_bytes=1)

    await turns(runner, 20)

    assert len((await world.chain()).files) > 2
    assert len(await world.events()) == 50


async def test_a_store_that_is_away_is_tried_again_later() -> None:
    """With ever longer pauses: it has enough to do when it comes back."""
    store = MemoryStore()
    world = World(store=store)
    await world.served(3)
    runner = a_runner(world, Chosen([P]))
    await turns(runner)
    world.seconds += ROTATE_SECONDS
    store.away = True
    await turns(runner)

    store.away = False
    await turns(runner)
    assert await world.events() == []
    world.seconds += 1
    await turns(runner)

    assert len(await world.events()) == 3


async def test_files_are_sealed_and_cleared_as_time_goes_by() -> None:
    """Yesterday's become one; those it was made of go after the grace period."""
    world = World()
    runner = a_runner(world, Chosen([P]))
    for _ in range(3):
        await world.served(2)
        await turns(runner)
        world.seconds += ROTATE_SECONDS
        await turns(runner)
    world.seconds += 86_400
    await turns(runner)
    sealed = await world.chain()
    world.seconds += 2 * 3_600

    await turns(runner)

    cleared = await world.chain()
    assert [file.place.level for file in sealed.files] == [Level.SEALED]
    assert (len(sealed.superseded), len(cleared.superseded)) == (3, 0)
    assert len(await world.events()) == 6


async def test_old_days_are_let_go() -> None:
    """Retention is written down first, so that nobody takes it for a loss."""
    world = World()
    runner = a_runner(world, Chosen([P]), keep_days=2)
    await world.served(2)
    await turns(runner)
    world.seconds += ROTATE_SECONDS
    await turns(runner)

    for _ in range(5):
        world.seconds += 86_400
        await turns(runner)
    await world.served(1)
    await turns(runner)
    await runner.drain()

    found = await world.chain()
    assert len(await world.events()) == 1
    assert (found.holes, found.superseded, found.files[0].start) == ((), (), 2)


async def test_it_runs_until_it_is_told_to_stop() -> None:
    """And publishes what it has read then."""
    world = World()
    await world.served(3)
    runner, stop = a_runner(world, Chosen([P])), asyncio.Event()
    await turns(runner, 2)
    running = asyncio.create_task(runner.run(stop))

    stop.set()
    await running
    await runner.drain()

    assert len(await world.events()) == 3


async def test_a_partition_belongs_to_one_process_of_a_machine(tmp_path: Path) -> None:
    """Another one stands by, and takes it over when the first is gone."""
    log = a_log({"a": [], "b": []})
    one, other = LockSharing(tmp_path, log), LockSharing(tmp_path, log)

    first, second = await one.mine(), await other.mine()
    await one.close()
    third = await other.mine()

    await other.reached(Offset("a", 3))
    await other.close()
    assert (list(first), list(second), list(third)) == (["a", "b"], [], ["a", "b"])
