"""Which files count: whatever archivers, zombies and compactions do, each entry once."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from random import Random

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feedbackloop.log.archive import (
    ArchiveFile,
    Chain,
    Contents,
    Level,
    Place,
    added,
    chain,
    outlived,
    parse,
    removable,
    runs_to_seal,
    sealed,
)
from feedbackloop.log.ledger import GapAccepted, Ledger, Lineage, LogReplaced, Removed
from tests.builders import NOON

P = Lineage("log", "p")
EMPTY = Ledger()


def a_file(
    start: int,
    end: int,
    *,
    level: Level = Level.FRESH,
    written_at: datetime = NOON,
    last_at: datetime = NOON,
    size: int = 100,
) -> ArchiveFile:
    day = written_at.date() if level is Level.SEALED else None
    place = Place(level=level, lineage=P, start=start, day=day)
    contents = Contents(
        schema=1,
        columns=3,
        topic="events",
        lineage=P,
        start=start,
        end=end,
        entries=end - start + 1,
        rows=end - start + 1,
        unreadable=0,
        digest=f"{start + end:032x}",
        last=f"{end:032x}",
        first_at=last_at,
        last_at=last_at,
        written_at=written_at,
        sealed_at=written_at if level is Level.SEALED else None,
    )
    return ArchiveFile(place=place, size=size, contents=contents)


def ranges(found: Chain) -> list[tuple[int, int]]:
    return [(file.start, file.end) for file in found.files]


@pytest.mark.parametrize(
    "place",
    [
        Place(level=Level.FRESH, lineage=Lineage("0af3.1", "events-3"), start=0),
        Place(level=Level.SEALED, lineage=P, start=10**12, day=date(2026, 3, 4)),
    ],
)
def test_a_key_says_where_a_file_belongs(place: Place) -> None:
    """Everything that decides who goes on is derived from names."""
    assert parse(place.key) == place


@pytest.mark.parametrize(
    "key",
    [
        "ledger/00000000.json",
        "fresh/log=a/part=b/x.parquet",
        "fresh/log=a/00000000000000000001.parquet",
        "fresh/log=a/part=b/1.parquet",
        "elsewhere/log=a/part=b/00000000000000000001.parquet",
    ],
)
def test_other_objects_are_left_alone(key: str) -> None:
    """A store may hold more than the archive."""
    assert parse(key) is None


def test_files_follow_on_each_other() -> None:
    """Whoever comes next starts just past the last one."""
    found = chain(P, [a_file(5, 9), a_file(0, 4)], EMPTY)

    assert (ranges(found), found.next, found.limit) == ([(0, 4), (5, 9)], 10, None)


def test_nothing_archived_begins_at_the_first_position() -> None:
    """Not where the log happens to begin: what is missing before that must not be skipped."""
    assert chain(P, [], EMPTY).next == 0


def test_a_sealed_file_outranks_the_fresh_ones_in_it() -> None:
    """Between the two steps of a compaction there are both; nothing may count twice."""
    fresh = [a_file(0, 4), a_file(5, 9), a_file(10, 14)]

    found = chain(P, [*fresh, a_file(0, 9, level=Level.SEALED)], EMPTY)

    assert (ranges(found), found.next) == ([(0, 9), (10, 14)], 15)
    assert [file.start for file in found.worthless] == [0, 5]


def test_a_file_that_a_zombie_writes_again_does_not_count() -> None:
    """It slept until its place was sealed and cleared, and has read further than that."""
    files = [a_file(0, 9, level=Level.SEALED), a_file(10, 14), a_file(5, 12)]

    found = chain(P, files, EMPTY)

    assert (ranges(found), found.next) == ([(0, 9), (10, 14)], 15)


def test_a_hole_is_filled_first() -> None:
    """A file was deleted by hand: what the log still has of it comes back."""
    found = chain(P, [a_file(0, 4), a_file(10, 14)], EMPTY)

    assert (found.holes, found.next, found.limit) == (((5, 9),), 5, 9)
    assert [file.end for file in found.before] == [4]


def test_while_there_is_a_hole_nothing_is_worthless() -> None:
    """A superseded file may be all that is left of it."""
    files = [a_file(0, 4), a_file(2, 8), a_file(10, 14)]

    found = chain(P, files, EMPTY)

    assert (len(found.superseded), found.worthless) == (1, ())


def test_an_accepted_gap_is_no_hole() -> None:
    """An operator said that the archive goes on past it."""
    gap = GapAccepted(lineage=P, first=5, last=9, by="ann", why="outage", at=NOON)

    found = chain(P, [a_file(0, 4), a_file(10, 14)], Ledger((gap,)))

    assert (found.holes, found.next) == ((), 15)
    assert chain(P, [a_file(0, 4)], Ledger((gap,))).next == 10


def test_a_lineage_begins_where_an_operator_said() -> None:
    """After a log was cut, the positions before belong to the lineage before."""
    replaced = LogReplaced(lineage=P, identity="log", start=7, by="ann", why="restored", at=NOON)

    assert chain(P, [], Ledger((replaced,))).next == 7


def test_what_retention_let_go_is_no_hole() -> None:
    """The archive begins later from then on."""
    removed = Removed(lineage=P, through=4, at=NOON)

    found = chain(P, [a_file(0, 4, level=Level.SEALED), a_file(5, 9)], Ledger((removed,)))

    assert (ranges(found), found.holes) == ([(5, 9)], ())
    assert [file.start for file in found.worthless] == [0]


def test_worthless_files_stay_for_a_while() -> None:
    """A query that has just listed them still reads them."""
    files = [a_file(0, 4), a_file(0, 9, level=Level.SEALED)]
    found = chain(P, files, EMPTY)

    early = removable(found, EMPTY, before=NOON - timedelta(seconds=1))
    late = removable(found, EMPTY, before=NOON)

    assert (early, [file.end for file in late]) == ([], [4])


def test_a_day_that_is_over_is_sealed() -> None:
    """It gets no more company."""
    yesterday = NOON - timedelta(days=1)
    files = [a_file(0, 4, written_at=yesterday), a_file(5, 9, written_at=yesterday), a_file(10, 14)]

    runs = runs_to_seal(chain(P, files, EMPTY), today=NOON.date(), target_bytes=10**6)

    assert [[file.start for file in run] for run in runs] == [[0, 5]]


def test_a_run_that_is_large_enough_is_sealed_at_once() -> None:
    """Sealed files of a size keep a busy archive's footers few and its memory bounded."""
    files = [a_file(5 * n, 5 * n + 4) for n in range(5)]

    runs = runs_to_seal(chain(P, files, EMPTY), today=NOON.date(), target_bytes=200)

    assert [[file.start for file in run] for run in runs] == [[0, 5], [10, 15]]


def test_everything_can_be_sealed_on_demand() -> None:
    """An operator who asks for it does not want to wait until midnight."""
    found = chain(P, [a_file(0, 4), a_file(5, 9)], EMPTY)

    runs = runs_to_seal(found, today=NOON.date(), target_bytes=10**6, everything=True)

    assert [len(run) for run in runs] == [2]


def test_a_sealed_file_never_spans_a_hole() -> None:
    """It would claim to hold what nobody has."""
    files = [a_file(0, 4), a_file(10, 14)]

    runs = runs_to_seal(
        chain(P, files, EMPTY), today=NOON.date(), target_bytes=10**6, everything=True
    )

    assert [[file.start for file in run] for run in runs] == [[0], [10]]


def test_the_sealed_file_says_what_the_fresh_ones_said() -> None:
    """Counts and digests add up, and its place follows from its first file alone."""
    later = NOON + timedelta(hours=1)
    files = [a_file(0, 4), a_file(5, 9, written_at=later, last_at=later)]

    place, contents = sealed(files, sealed_at=later, columns=3)

    assert place == Place(level=Level.SEALED, lineage=P, start=0, day=NOON.date())
    assert (contents.start, contents.end, contents.rows, contents.entries) == (0, 9, 10, 10)
    assert contents.digest == added(file.contents.digest for file in files) == f"{18:032x}"
    assert (contents.first_at, contents.last_at, contents.last) == (NOON, later, f"{9:032x}")


def test_retention_takes_whole_days_from_the_beginning_on() -> None:
    """Only sealed files, and none whose events are younger than its day."""
    old, older = NOON - timedelta(days=40), NOON - timedelta(days=50)
    files = [
        a_file(0, 4, level=Level.SEALED, written_at=older, last_at=older),
        a_file(5, 9, level=Level.SEALED, written_at=old, last_at=old),
        a_file(10, 14, level=Level.SEALED, written_at=old, last_at=NOON),
        a_file(15, 19, level=Level.SEALED, written_at=old, last_at=old),
    ]
    found = chain(P, files, EMPTY)

    assert outlived(found, before=NOON.date() - timedelta(days=45)) == 4
    assert outlived(found, before=NOON.date() - timedelta(days=30)) == 9
    assert outlived(found, before=NOON.date() - timedelta(days=60)) is None


class Actor:
    """An archiver: it knows what it last looked up, and what it has read since."""

    def __init__(self) -> None:
        self.start: int | None = None
        self.limit: int | None = None
        self.end = -1

    def begin(self, found: Chain) -> None:
        self.start, self.limit, self.end = found.next, found.limit, found.next - 1


class World:
    """A store of files, a log of ever more positions, and time."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.files: dict[str, ArchiveFile] = {}
        self.log_end = -1
        self.now = datetime(2026, 3, 1, tzinfo=UTC)

    def chain(self) -> Chain:
        return chain(P, self.files.values(), EMPTY)

    def create(self, file: ArchiveFile) -> bool:
        return self.files.setdefault(file.place.key, file) is file

    def read(self, actor: Actor, *, all_there_is: bool = False) -> None:
        if actor.start is None:
            actor.begin(self.chain())
        last = self.log_end if actor.limit is None else min(self.log_end, actor.limit)
        last = max(actor.end, last)
        actor.end = last if all_there_is else self.random.randint(actor.end, last)

    def publish(self, actor: Actor) -> None:
        if actor.start is None or actor.end < actor.start:
            return
        made = self.create(a_file(actor.start, actor.end, written_at=self.now, last_at=self.now))
        if made and actor.limit is None:
            actor.start = actor.end + 1
        else:
            actor.start = None

    def seal(self) -> None:
        runs = runs_to_seal(self.chain(), today=self.now.date(), target_bytes=300)
        for run in runs[: self.random.randint(0, len(runs))]:
            place, contents = sealed(run, sealed_at=self.now, columns=3)
            self.create(ArchiveFile(place=place, size=100 * len(run), contents=contents))

    def clear(self) -> None:
        before = self.now - timedelta(hours=1)
        gone = removable(self.chain(), EMPTY, before=before)
        for file in gone[: self.random.randint(0, len(gone))]:
            del self.files[file.place.key]

    def lose_a_file(self) -> None:
        """Somebody deletes a file by hand."""
        del self.files[self.random.choice(sorted(self.files))]

    def step(self, actors: list[Actor], *, deletes: bool) -> None:
        self.log_end += self.random.randint(0, 8)
        self.now += timedelta(hours=self.random.choice([0, 0, 1, 30]))
        # Some are chosen rarely: they sleep for long, and go on as if nothing had happened.
        (actor,) = self.random.choices(actors, weights=[60, 25, 10, 5])
        what = self.random.choice(["read", "read", "publish", "seal", "clear", "die"])
        if what == "read":
            self.read(actor)
        elif what == "publish":
            self.publish(actor)
        elif what == "die":
            actor.start = None
        elif what == "seal":
            self.seal()
        else:
            self.clear()
        if deletes and self.files and self.random.random() < 0.05:
            self.lose_a_file()


@settings(max_examples=150, deadline=None)
@given(st.integers(), st.integers(1, 120), st.sampled_from(["kept", "deleted"]))
@example(seed=8223, steps=1, files="kept")  # ended before chance had let the last archiver read on
def test_every_entry_is_in_one_file_whatever_happens(seed: int, steps: int, files: str) -> None:
    """Archivers that race, die, sleep and wake up; compactions at any time; deleted files."""
    world = World(Random(seed))
    actors = [Actor() for _ in range(4)]
    for _ in range(steps):
        world.step(actors, deletes=files == "deleted")
        ordered = ranges(world.chain())
        assert all(last < first for (_, last), (first, _) in pairwise(ordered))

    healthy = Actor()
    for _ in range(steps * 10):
        world.read(healthy, all_there_is=True)
        world.publish(healthy)
        if world.chain().next > world.log_end:
            break
        healthy.start = None

    found = world.chain()
    seen = [n for first, last in ranges(found) for n in range(first, last + 1)]
    assert (seen, found.holes) == (list(range(world.log_end + 1)), ())


def test_contents_are_read_back_by_a_newer_version() -> None:
    """Fields are added to the footer: old files have them not, new files have more."""
    contents = a_file(0, 4).contents
    raw = msgspec.json.decode(msgspec.json.encode(contents))

    assert msgspec.convert({**raw, "added_later": 1}, Contents) == contents
