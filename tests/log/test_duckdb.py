"""The archive as tables: each event once, whatever the files hold."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedbackloop.errors import QueryFailed
from feedbackloop.events import (
    BASE,
    AnyEvent,
    CaptureGap,
    ChoiceMade,
    CommentGiven,
    CompletionId,
    EventId,
    Outcome,
    RatingGiven,
    ReleaseChanged,
    ReleaseName,
    Reply,
    SignalWithdrawn,
)
from feedbackloop.labels.gather import Gathering
from feedbackloop.log import codec
from feedbackloop.log.completeness import Audit
from feedbackloop.log.filesystem import FolderStore
from feedbackloop.log.ledger import Lineage
from feedbackloop.log.memory import MemoryStore
from feedbackloop.log.obstore import ObjectStore
from feedbackloop.log.parquet import ParquetArchive
from tests.archives import P, archived, rows, views, views_of
from tests.builders import (
    ALIAS,
    NOON,
    TENANT,
    a_completion,
    a_correction,
    a_retry,
    a_thumb,
    a_withdrawal,
    an_outcome,
)
from tests.conftest import S3Server

several_examples = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def signal(kind: type, **fields: object) -> AnyEvent:
    thumb = msgspec.structs.asdict(a_thumb("c1"))
    for name in ("thumb", "reasons"):
        thumb.pop(name)
    made: AnyEvent = kind(**{**thumb, "event_id": EventId(repr((kind, fields))), **fields})
    return made


def test_a_completion_is_a_row_that_an_analyst_can_read(tmp_path: Path) -> None:
    """Without a look into our code."""
    event = a_completion("c1", ended_at=NOON + timedelta(seconds=2), prompt_tokens=7)
    opened = views([event], tmp_path)

    found = rows(
        opened,
        "SELECT completion_id, alias, user_id, seconds, prompt_tokens, reply,"
        " messages ->> '$[0].content', outcome, accepted_at FROM completions",
    )

    assert found == [("c1", "assistant", "ann", 2.0, 7, "4", "2 + 2?", "complete", NOON)]


@pytest.mark.parametrize(
    ("event", "kind", "value"),
    [
        (a_thumb("c1"), "thumb", "up"),
        (a_withdrawal("c1"), "withdrawn", "thumb"),
        (a_correction("c1"), "correction", "four"),
        (a_retry("c1"), "retry", "regenerate"),
        (an_outcome("c1"), "outcome", "copied"),
        (signal(RatingGiven, rating=4), "rating", "4"),
        (signal(ChoiceMade, choice=1), "choice", "1"),
        (signal(CommentGiven, comment="fine"), "comment", "fine"),
        (signal(SignalWithdrawn, signal="rating"), "withdrawn", "rating"),
    ],
)
def test_every_kind_of_signal_has_its_word(
    event: AnyEvent, kind: str, value: str, tmp_path: Path
) -> None:
    """One view for all that people said and did."""
    opened = views([event], tmp_path)

    assert rows(opened, "SELECT completion_id, kind, value FROM signals") == [("c1", kind, value)]


def test_releases_tell_what_was_served_when(tmp_path: Path) -> None:
    """To compare satisfaction before and after."""
    changed = ReleaseChanged(
        event_id=EventId("r"),
        tenant=TENANT,
        at=NOON,
        alias=ALIAS,
        before=BASE,
        after=ReleaseName("assistant.00001.abc"),
        epoch=3,
        by="scheduler",
        why="promoted",
    )
    opened = views([changed], tmp_path)

    found = rows(opened, "SELECT alias, epoch, before, after, changed_at FROM releases")

    assert found == [("assistant", 3, "base", "assistant.00001.abc", NOON)]


def test_what_cannot_be_read_is_no_event(tmp_path: Path) -> None:
    """It is in a view of its own, so that nobody takes it for nothing."""
    opened = views([a_thumb("c1"), b"{}", b'{"v":9}'], tmp_path)

    assert rows(opened, "SELECT count(*) FROM events") == [(1,)]
    assert rows(opened, "SELECT reason FROM unreadable ORDER BY position") == [
        ("MalformedEvent",),
        ("UnknownSchemaVersion",),
    ]


def test_an_archive_without_files_is_empty(tmp_path: Path) -> None:
    """On its first day a query is answered, too."""
    opened = views([], tmp_path)

    assert rows(opened, "SELECT count(*) FROM completions") == [(0,)]
    assert opened.audit(now=NOON)[0].expected == 0


def test_a_wrong_query_says_what_is_wrong(tmp_path: Path) -> None:
    """In the database's words, which name the place."""
    with pytest.raises(QueryFailed, match="no_such_column"):
        views([], tmp_path).query("SELECT no_such_column FROM completions")


EVENTS: list[AnyEvent] = [
    a_completion("c1"),
    a_completion("c1", outcome=Outcome.CRASHED, replies=()),
    a_completion("c1", ended_at=NOON + timedelta(seconds=1)),
    a_completion("c1", replies=(Reply(text="a longer reply"),)),
    a_completion("c2"),
    a_thumb("c1"),
    msgspec.structs.replace(a_thumb("c1"), client_key="x"),
    a_thumb("c2", producer="one", seqs=(3,)),
]


@several_examples
@given(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=12), st.integers(1, 4))
def test_events_are_counted_as_the_dataset_counts_them(
    tmp_path: Path, events: list[AnyEvent], files: int
) -> None:
    """Across files, in any order, however often: the record that knows more counts, once."""
    gathering = Gathering()
    for event in events:
        gathering.add(event)
    store = MemoryStore()
    size = -(-len(events) // files)
    parts = [events[start : start + size] for start in range(0, len(events), size)]
    opened = views_of(store, archived(store, *parts), tmp_path)

    found = sorted(str(raw).encode() for (raw,) in rows(opened, "SELECT raw FROM events"))

    known = [gathering.of(CompletionId(name)) for name in ("c1", "c2")]
    expected: list[AnyEvent] = [one.completion for one in known if one.completion is not None]
    expected += [signal for one in known for signal in one.signals]
    assert found == sorted(map(codec.encode, expected))
    opened.close()


def test_events_of_two_lineages_are_counted_once(tmp_path: Path) -> None:
    """A log that was cut was archived twice in part."""
    store = MemoryStore()
    files = archived(store, [a_completion("c1"), a_completion("c2")])
    files += archived(
        store, [a_completion("c2"), a_completion("c3")], lineage=Lineage("log.1", "p")
    )
    opened = views_of(store, files, tmp_path)

    found = rows(opened, "SELECT completion_id FROM completions ORDER BY 1")

    assert found == [("c1",), ("c2",), ("c3",)]


def test_sealed_and_fresh_files_are_read_as_one(tmp_path: Path) -> None:
    """Compaction is nobody's business but ours."""
    store = MemoryStore()
    files = archived(store, [a_completion("c1")], [a_completion("c2")], [a_completion("c3")])
    archive = ParquetArchive(store, topic="events", window_entries=0)
    archive.seal(files[:2], sealed_at=NOON)
    found = archive.chain(P, archive.ledger()).files
    opened = views_of(store, found, tmp_path)

    names = rows(opened, "SELECT completion_id, log, part, position FROM completions ORDER BY 1")

    assert len(found) == 2
    assert names == [(f"c{n + 1}", "log", "p", n) for n in range(3)]


def test_a_folder_is_read_without_a_detour(tmp_path: Path) -> None:
    """DuckDB opens the files itself, also where the path holds what SQL does not like."""
    root = tmp_path / "it's an archive"
    store = FolderStore(root)
    files = archived(store, [a_completion("c1")])

    opened = views_of(store, files, tmp_path / "scratch", root=root)

    assert rows(opened, "SELECT completion_id FROM completions") == [("c1",)]


def test_a_bucket_is_read_where_it_is(s3_server: S3Server, tmp_path: Path) -> None:
    """Only the parts of files that a query asks for."""
    store = ObjectStore(s3_server.url(secrets.token_hex(8)), s3_server.options())
    files = archived(store, [a_completion(f"c{n}") for n in range(100)], [a_thumb("c1")])

    opened = views_of(store, files, tmp_path)

    found = rows(opened, "SELECT count(*) FROM completions JOIN signals USING (completion_id)")
    assert found == [(1,)]


def a_gap(first: int, last: int, reason: str) -> CaptureGap:
    return CaptureGap(
        event_id=EventId(f"{first}-{last}-{reason}"),
        tenant=TENANT,
        at=NOON,
        producer="one",
        first=first,
        last=last,
        count=last - first + 1,
        reason=reason,
        until=NOON,
    )


numbered = st.builds(
    lambda seq: a_thumb(f"c{seq}", producer="one", seqs=(seq,)), st.integers(0, 20)
)
completed = st.builds(
    lambda first, second: a_completion(f"d{first}-{second}", producer="two", seqs=(first, second)),
    st.integers(0, 10),
    st.integers(11, 20),
)
lost = st.builds(
    lambda first, more, reason: a_gap(first, first + more, reason),
    st.integers(0, 20),
    st.integers(0, 4),
    st.sampled_from(["disk_full", "damaged"]),
)


@several_examples
@given(st.lists(numbered | completed | lost, min_size=1, max_size=15), st.integers(0, 3))
def test_the_audit_in_sql_is_the_audit(
    tmp_path: Path, events: Sequence[AnyEvent], hours: int
) -> None:
    """A dataset's manifest and `archive status` must not tell two stories."""
    audit = Audit()
    for event in events:
        audit.add(event)
    shuffled = [*events, *events]
    Random(1).shuffle(shuffled)
    opened = views(shuffled, tmp_path)
    now = NOON + timedelta(hours=hours)

    report, producers = opened.audit(now=now)

    assert report == audit.report(now=now)
    assert producers == audit.producers(now=now)
    opened.close()


def test_a_part_of_the_archive_is_audited_from_its_first_number_on(tmp_path: Path) -> None:
    """What was recorded before is in files that nobody looked at."""
    events = [a_thumb(f"c{seq}", producer="one", seqs=(seq,)) for seq in (10, 11, 13)]
    opened = views(events, tmp_path)

    report, _ = opened.audit(now=NOON + timedelta(days=1), whole=False)

    assert (report.expected, report.seen, report.missing) == (4, 3, {"one": 1})
