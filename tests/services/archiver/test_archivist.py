"""One partition's way into the archive: nothing lost, nothing twice, nothing skipped."""

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop.errors import LogUnavailable, StoreUnavailable
from feedbackloop.log.continuity import Break
from feedbackloop.log.memory import MemoryEventLog
from feedbackloop.log.port import Offset
from services.archiver.archivist import Archivist
from services.archiver.survey import mend, survey
from tests.builders import NOON, a_completion
from tests.services.archiver.world import ROTATE_SECONDS, FlakyStore, P, World, advance, through

SIGNED = ("ann", "it was agreed", NOON)


async def test_what_the_log_holds_is_archived() -> None:
    """In its order, each entry once."""
    world = World()
    events = await world.served(25)

    await through(world.archivist())

    assert await world.events() == events


async def test_a_file_is_published_once_it_is_old_enough() -> None:
    """Whoever asks about the last minutes waits no longer than that."""
    world = World()
    await world.served(5)
    archivist = world.archivist()
    await advance(archivist)
    before = len((await world.chain()).files)

    world.seconds = ROTATE_SECONDS
    await archivist.step()

    assert (before, len((await world.chain()).files)) == (0, 1)


async def test_a_file_is_published_once_it_is_large_enough() -> None:
    """Memory is bounded, however much there is to catch up with."""
    world = World()
    await world.served(100)

    await advance(world.archivist(file_bytes=20_000))

    assert len((await world.chain()).files) > 1


async def test_nothing_new_makes_no_file() -> None:
    """An idle partition costs nothing."""
    world = World()
    await world.served(5)
    archivist = world.archivist()
    await through(archivist)

    world.seconds = 2 * ROTATE_SECONDS
    await through(archivist)

    assert len((await world.chain()).files) == 1


async def test_whoever_comes_next_goes_on_where_the_files_end() -> None:
    """What the dead one had read and not published is read again."""
    world = World()
    first = await world.served(5)
    dead = world.archivist()
    await through(dead)
    second = await world.served(5)
    await advance(dead)

    await through(world.archivist())

    assert await world.events() == [*first, *second]


async def test_two_at_once_double_nothing() -> None:
    """One of two publishes; the other notices and goes on behind it."""
    world = World()
    one, other = world.archivist(), world.archivist()
    events = await world.served(5)
    await advance(one)
    await advance(other)
    await one.publish()
    await other.publish()
    events += await world.served(5)

    await through(other)
    await through(one)

    assert await world.events() == events


async def test_a_zombie_is_harmless() -> None:
    """It slept with half a file in its hands, until its place was taken, sealed and cleared."""
    world = World()
    zombie = world.archivist()
    events = await world.served(7)
    await advance(zombie)
    healthy = world.archivist()
    await through(healthy)
    events += await world.served(5)
    await through(healthy)
    archive = world.archive()
    files = (await world.chain()).files
    archive.seal(files[:1], sealed_at=world.now())
    archive.remove(files[0])

    await zombie.publish()
    await world.served(0)
    await through(zombie)

    assert await world.events() == events


@pytest.mark.parametrize("fails", [["before"] * 3, ["after"], ["before", "after", "after"]])
async def test_a_store_that_fails_loses_and_doubles_nothing(fails: Sequence[str]) -> None:
    """Whether it fails before it did what was asked, or after: nobody can tell."""
    world = World(store=FlakyStore(fails))
    events = await world.served(5)
    archivist = world.archivist()
    failures = 0

    for _ in range(10):
        try:
            await through(archivist)
        except StoreUnavailable:
            failures += 1

    assert failures == len(fails)
    assert await world.events() == events


async def test_a_log_that_is_away_is_waited_for() -> None:
    """It comes back, and nothing is missing."""
    log = MemoryEventLog(P)
    world = World(log=log)
    events = await world.served(5)
    archivist = world.archivist()
    log.away = True
    with pytest.raises(LogUnavailable):
        await archivist.step()

    log.away = False
    await through(archivist)

    assert await world.events() == events


async def stopped(archivist: Archivist) -> Break | None:
    for _ in range(3):
        await archivist.step()
    return None if archivist.obstacle is None else archivist.obstacle.kind


async def test_entries_that_were_removed_unread_stop_the_partition() -> None:
    """Retention overtook the archive: that is a loss, and nobody may pass over it in silence."""
    world = World()
    await through_first(world)
    await world.served(5)
    await world.log.truncate(before=Offset(P, 8))

    kind = await stopped(world.archivist())

    assert (kind, len(await world.events())) == (Break.LOST, 5)


async def through_first(world: World) -> Archivist:
    """Archive five entries."""
    await world.served(5)
    archivist = world.archivist()
    await through(archivist)
    return archivist


async def test_a_log_that_begins_late_stops_an_empty_archive() -> None:
    """Perhaps the archive is the wrong one: somebody has to say that the beginning is gone."""
    world = World()
    await world.served(10)
    await world.log.truncate(before=Offset(P, 4))

    assert await stopped(world.archivist()) is Break.LOST


async def test_retention_behind_the_archive_is_none_of_its_business() -> None:
    """This is what retention is for."""
    world = World()
    archivist = await through_first(world)
    await world.log.truncate(before=Offset(P, 5))
    await world.served(2)

    await through(archivist)
    await through(world.archivist())

    assert len(await world.events()) == 7


async def test_a_running_archiver_notices_that_it_was_overtaken() -> None:
    """Not only one that starts: the log may shrink while it sleeps."""
    world = World()
    archivist = await through_first(world)
    await world.served(5)
    await world.log.truncate(before=Offset(P, 8))

    assert await stopped(archivist) is Break.LOST


async def test_a_partition_made_anew_stops() -> None:
    """Its positions begin again: they would be taken for those that are archived already."""
    log = MemoryEventLog(P)
    world = World(log=log)
    archivist = await through_first(world)
    log.store[P].clear()
    log.identities[P] = "another"
    await world.served(9)

    assert await stopped(archivist) is Break.MADE_ANEW
    assert await stopped(world.archivist()) is Break.MADE_ANEW


async def test_a_log_that_was_cut_stops() -> None:
    """An unclean election, or a backup that was played back."""
    log = MemoryEventLog(P)
    world = World(log=log)
    archivist = await through_first(world)
    del log.store[P][3:]

    assert await stopped(archivist) is Break.CUT
    assert await stopped(world.archivist()) is Break.CUT


async def test_a_log_that_was_cut_and_has_grown_again_stops() -> None:
    """The positions are all there, and hold other events than those that were archived."""
    log = MemoryEventLog(P)
    world = World(log=log)
    archivist = await through_first(world)
    del log.store[P][3:]
    await world.served(9)

    assert await stopped(archivist) is Break.REWRITTEN
    assert await stopped(world.archivist()) is Break.REWRITTEN


async def test_an_operator_may_accept_a_loss() -> None:
    """It is written down, and the archive goes on behind it."""
    world = World()
    await through_first(world)
    lost = await world.served(5)
    await world.log.truncate(before=Offset(P, 8))
    archivist = world.archivist()
    await stopped(archivist)

    await mend(P, event_log=world.log, archive=world.archive(), signed=SIGNED)
    await through(archivist)

    assert archivist.obstacle is None
    assert (await world.events())[5:] == lost[3:]
    assert (await world.chain()).holes == ()


async def test_an_operator_may_accept_another_partition() -> None:
    """It is archived as a lineage of its own, beside the old one."""
    log = MemoryEventLog(P)
    world = World(log=log)
    archivist = await through_first(world)
    log.store[P].clear()
    log.identities[P] = "another"
    events = await world.served(9)

    await mend(P, event_log=log, archive=world.archive(), signed=SIGNED)
    await archivist.step()
    await through(archivist)

    found = await world.chain()
    assert await world.events() == events
    assert found.lineage in world.archive().lineages()
    assert len(world.archive().lineages()) == 2


async def test_an_operator_may_accept_a_cut() -> None:
    """What archive and log agree on stays; what the log holds behind it is archived anew."""
    log = MemoryEventLog(P)
    world = World(log=log)
    await world.served(3)
    archivist = world.archivist()
    await through(archivist)
    await world.served(3)
    await through(archivist)
    del log.store[P][4:]
    after = await world.served(4)

    (decision,) = await mend(P, event_log=log, archive=world.archive(), signed=SIGNED)
    await archivist.step()
    await through(archivist)

    archive = world.archive()
    found = archive.chain(decision.lineage, archive.ledger())
    assert (found.files[0].start, found.holes) == (3, ())
    assert [entry.event for file in found.files for entry in archive.entries(file)][1:] == after


async def test_nothing_in_the_way_needs_no_decision() -> None:
    """A command given twice, or by mistake, changes nothing."""
    world = World()
    await through_first(world)

    decided = await mend(P, event_log=world.log, archive=world.archive(), signed=SIGNED)

    assert (list(decided), world.archive().ledger().decisions) == ([], ())


async def test_a_file_that_was_deleted_is_written_again() -> None:
    """As long as the log still holds it."""
    world = World()
    archivist = world.archivist()
    events = []
    for _ in range(4):
        events += await world.served(3)
        await through(archivist)
    files = (await world.chain()).files
    world.store.remove(files[1].place.key)

    for _ in range(2):
        await through(world.archivist())

    assert await world.events() == events
    assert (await world.chain()).holes == ()


async def test_replaying_the_log_gives_the_same_rows() -> None:
    """Whatever files they are in: an archive can be checked against one that is made anew."""
    log = MemoryEventLog(P)
    world, again = World(log=log), World(log=log)
    archivist = world.archivist()
    for count in (3, 40, 11):
        await world.served(count)
        await log.append([a_completion("c1"), a_completion(f"c{count}")])
        await through(archivist)

    await through(again.archivist())

    assert await again.archived() == await world.archived()
    assert len((await again.chain()).files) != len((await world.chain()).files)


@settings(max_examples=25, deadline=None)
@given(st.integers(), st.lists(st.sampled_from([None, None, "before", "after"]), max_size=20))
async def test_whatever_fails_each_entry_is_archived_once(
    seed: int, fails: list[str | None]
) -> None:
    """Archivers that die and sleep at any point, over a store that fails before and after."""
    random = Random(seed)
    world = World(store=FlakyStore(fails))
    archivists = [world.archivist(batch_entries=3) for _ in range(3)]
    expected = []
    for _ in range(30):
        expected += await world.served(random.randint(0, 4))
        number = random.randrange(3)
        if random.random() < 0.1:
            archivists[number] = world.archivist(batch_entries=3)
        try:
            await archivists[number].step()
            if random.random() < 0.3:
                await archivists[number].publish()
        except StoreUnavailable:
            continue

    last = world.archivist()
    while len(await world.events()) < len(expected):
        try:
            await through(last)
        except StoreUnavailable:
            continue

    assert await world.events() == expected


async def test_a_survey_says_how_far_a_partition_is() -> None:
    """What `feedbackloop archive status` shows."""
    world = World()
    await through_first(world)
    await world.served(2)

    here = await survey(P, event_log=world.log, archive=world.archive())

    assert (here.standing.next, here.log.end, here.obstacle) == (5, 6, None)
