"""What an archive promises, on any store."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from feedbackloop.errors import ArchiveDamaged, MalformedEvent, UnknownSchemaVersion
from feedbackloop.events import AnyEvent, CompletionServed
from feedbackloop.log import codec
from feedbackloop.log.archive import ArchiveFile, Chain, Level
from feedbackloop.log.filesystem import FolderStore
from feedbackloop.log.ledger import GapAccepted, Ledger, Lineage
from feedbackloop.log.memory import MemoryStore
from feedbackloop.log.obstore import ObjectStore
from feedbackloop.log.parquet import ParquetArchive
from feedbackloop.log.port import Archive, Entry, Offset, Store
from tests.builders import NOON, a_completion, a_thumb, an_outcome
from tests.conftest import S3Server

P = Lineage("log", "p")


@pytest.fixture(params=["memory", "folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    server: S3Server = request.getfixturevalue("s3_server")
    return ObjectStore(server.url(secrets.token_hex(8)), server.options())


@pytest.fixture
def archive(store: Store) -> Archive:
    return an_archive(store)


def an_archive(store: Store) -> Archive:
    return ParquetArchive(store, topic="events", window_entries=10)


def entries(events: Sequence[AnyEvent | bytes], *, first: int = 0, step: int = 1) -> list[Entry]:
    raws = [one if isinstance(one, bytes) else codec.encode(one) for one in events]
    return [
        Entry(offset=Offset("p", first + step * n), event=codec.read(raw), raw=raw)
        for n, raw in enumerate(raws)
    ]


def chain(archive: Archive) -> Chain:
    return archive.chain(P, archive.ledger())


def archived(archive: Archive, *batches: Sequence[Entry]) -> list[ArchiveFile]:
    """Publish one file for each batch."""
    for batch in batches:
        draft = archive.draft(chain(archive))
        draft.add(batch)
        assert archive.publish(draft.place, draft.finish(written_at=NOON))
    return list(chain(archive).files)


def read(archive: Archive) -> list[Entry]:
    return [entry for file in chain(archive).files for entry in archive.entries(file)]


def test_what_was_archived_is_read_as_the_log_had_it(archive: Archive) -> None:
    """Datasets and views of years to come rest on these bytes."""
    found = entries([a_completion("c1"), a_thumb("c1"), an_outcome("c1")], step=7)

    archived(archive, found)

    assert read(archive) == found


def test_the_next_file_follows_on_the_last_one(archive: Archive) -> None:
    """Positions may have gaps, files may not."""
    first, second = archived(
        archive,
        entries([a_completion("c1"), a_completion("c2")], step=5),
        entries([a_completion("c3")], first=10),
    )

    assert (first.start, first.end, second.start, second.end) == (0, 5, 6, 10)
    assert chain(archive).next == 11


def test_of_two_who_go_on_from_one_place_one_is_refused(store: Store) -> None:
    """Two archivers at once, or one that slept: neither doubles a row nor leaves one out."""
    one, other = an_archive(store), an_archive(store)
    drafts = [archive.draft(chain(archive)) for archive in (one, other)]
    drafts[0].add(entries([a_completion("c1")]))
    drafts[1].add(entries([a_completion("c1"), a_completion("c2")]))

    published = [
        archive.publish(draft.place, draft.finish(written_at=NOON))
        for archive, draft in zip((one, other), drafts, strict=True)
    ]

    assert published == [True, False]
    assert chain(other).next == 1


def test_repeats_are_left_out_across_files(archive: Archive) -> None:
    """A forwarder repeats itself after a crash, into the next file as like as not."""
    events = [a_completion("c1"), a_completion("c2")]

    *_, last = archived(archive, entries(events), entries([*events, a_completion("c3")], first=2))

    assert [entry.offset.position for entry in read(archive)] == [0, 1, 4]
    assert (last.contents.entries, last.contents.rows) == (3, 1)


def test_a_file_may_hold_nothing_but_repeats(archive: Archive) -> None:
    """The archive has to go on past them all the same."""
    archived(archive, entries([a_completion("c1")]), entries([a_completion("c1")], first=1))

    assert (len(read(archive)), chain(archive).next) == (1, 2)


def test_two_records_of_one_event_are_both_kept(archive: Archive) -> None:
    """One may know more of the reply than the other; readers decide which."""
    crashed = a_completion("c1", replies=())

    archived(archive, entries([a_completion("c1"), crashed]))

    assert [entry.event for entry in read(archive)] == [a_completion("c1"), crashed]


def test_what_cannot_be_read_is_kept_and_counted(archive: Archive) -> None:
    """A later version may read it; until then everybody can see that it is there."""
    strange = [
        b"\xff no event",
        b'{"v":99,"type":"CompletionServed","event_id":"e"}',
        b'{"v":1,"type":"NeverHeardOf","event_id":"e"}',
        b"",
    ]

    (file,) = archived(archive, entries([a_completion("c1"), *strange, a_thumb("c1")]))

    found = read(archive)
    assert file.contents.unreadable == 4
    assert [entry.raw for entry in found[1:5]] == strange
    assert [type(entry.event) for entry in found[1:5]] == [
        MalformedEvent,
        UnknownSchemaVersion,
        MalformedEvent,
        MalformedEvent,
    ]


@pytest.mark.parametrize(
    "odd",
    [
        codec.encode(a_completion("c1")).replace(b'"epoch":0', b'"epoch":18446744073709551616'),
        codec.encode(a_completion("c1")).replace(b'"v":1,', b'"v":1,"newer":"\xff",'),
        codec.encode(a_completion("c1", tenant="a\x00b")),
    ],
    ids=["beyond 64 bits", "no text", "a zero"],
)
def test_an_event_that_fits_no_column_is_kept_as_it_was(archive: Archive, odd: bytes) -> None:
    """One odd record must not stop a partition, nor the rows around it."""
    found = entries([a_thumb("c0"), odd, a_completion("c2")])

    archived(archive, found)

    assert read(archive) == found


def test_fields_of_a_newer_version_survive(archive: Archive) -> None:
    """Sidecars are upgraded before archivers."""
    newer = codec.encode(a_thumb("c1"))[:-1] + b',"mood":"sunny"}'

    archived(archive, entries([newer]))

    assert read(archive)[0].raw == newer


def test_sealing_keeps_every_row(archive: Archive) -> None:
    """Readers change from the small files to the large one without noticing."""
    batches = [entries([a_completion(f"c{n}"), a_thumb(f"c{n}")], first=2 * n) for n in range(4)]
    files = archived(archive, *batches)
    before = read(archive)

    assert archive.seal(files, sealed_at=NOON)

    (file,) = chain(archive).files
    assert file.place.level is Level.SEALED
    assert read(archive) == before
    archive.check(file)


def test_a_run_is_sealed_once(store: Store) -> None:
    """Two compactions at once make one file."""
    files = archived(an_archive(store), entries([a_completion("c1")]))
    one, other = an_archive(store), an_archive(store)

    assert [archive.seal(files, sealed_at=NOON) for archive in (one, other)] == [True, False]


def test_removed_files_are_no_longer_there(archive: Archive) -> None:
    """What was sealed takes its space once."""
    files = archived(archive, entries([a_completion("c1")]), entries([a_thumb("c1")], first=1))
    archive.seal(files, sealed_at=NOON)

    for file in files:
        archive.remove(file)

    assert (len(chain(archive).files), chain(archive).superseded) == (1, ())


def test_lineages_are_named(archive: Archive) -> None:
    """One partition of one log each."""
    archived(archive, entries([a_completion("c1")]))
    archive.publish(
        chain(archive)
        .files[0]
        .place.__class__(level=Level.FRESH, lineage=Lineage("other", "p"), start=0),
        b"",
    )

    assert list(archive.lineages()) == [P, Lineage("other", "p")]


def test_decisions_are_written_down_once(store: Store) -> None:
    """Who decides has read all that was decided: of two at once, one has to read again."""
    one, other = an_archive(store), an_archive(store)
    known = one.ledger()
    gap = GapAccepted(lineage=P, first=0, last=4, by="ann", why="outage", at=NOON)

    decided = [archive.decide(known, gap) for archive in (one, other)]

    assert decided == [True, False]
    assert other.ledger() == Ledger((gap,))


def test_a_damaged_file_is_named(store: Store) -> None:
    """A flipped bit on a disk must not become training data."""
    archive = an_archive(store)
    (file,) = archived(archive, entries([a_completion(f"c{n}") for n in range(50)]))
    raw = store.read(file.place.key)
    assert raw is not None
    store.remove(file.place.key)
    store.create(file.place.key, raw[:2000] + bytes([raw[2000] ^ 1]) + raw[2001:])

    with pytest.raises(ArchiveDamaged, match=file.place.key):
        an_archive(store).check(file)


def test_a_file_with_other_rows_than_it_says_is_named(store: Store) -> None:
    """Sound Parquet is not enough."""
    archive = an_archive(store)
    archived(archive, entries([a_completion("c1")]), entries([a_completion("c2")], first=1))
    first, second = chain(archive).files
    wrong = ArchiveFile(place=second.place, size=second.size, contents=first.contents)

    with pytest.raises(ArchiveDamaged, match="position"):
        archive.check(wrong)


def test_a_footer_that_cannot_be_read_is_named(store: Store) -> None:
    """Somebody else's file in our folder, or half of one of ours."""
    archive = an_archive(store)
    (file,) = archived(archive, entries([a_completion("c1")]))
    store.remove(file.place.key)
    store.create(file.place.key, b"PAR1 something else")

    with pytest.raises(ArchiveDamaged, match=file.place.key):
        chain(an_archive(store))


def test_many_rows_are_written_in_bounded_pieces(archive: Archive) -> None:
    """A file holds several row groups, and every row of them."""
    found = entries([a_completion(f"c{n}", text="word " * 2_000) for n in range(4_000)])

    (file,) = archived(archive, found)

    archive.check(file)
    assert file.contents.rows == 4_000
    assert isinstance(read(archive)[-1].event, CompletionServed)


def test_times_are_those_of_the_events(archive: Archive) -> None:
    """Queries by time leave files unread by them."""
    later = NOON + timedelta(hours=3)

    (file,) = archived(archive, entries([a_completion("c1", at=later), a_completion("c2")]))

    assert (file.contents.first_at, file.contents.last_at) == (NOON, later)
