"""The archive's files as other engines read them: a table partitioned by folders."""

from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow.dataset as ds
import pytest

from feedbackloop.log.archive import Level, runs_to_seal
from feedbackloop.log.filesystem import FolderStore
from feedbackloop.log.ledger import Ledger
from feedbackloop.log.parquet import ParquetArchive
from tests.archives import P, archived, rows, views_of
from tests.builders import NOON, a_completion, a_thumb

TOMORROW = NOON + timedelta(days=1)
TABLE = "read_parquet('{root}/sealed/**/*.parquet', hive_partitioning = true)"
ONCE = """
SELECT event_id, raw FROM (
    SELECT *, row_number() OVER (
        PARTITION BY event_id ORDER BY reply_characters DESC, ended_at DESC, raw DESC
    ) AS place FROM {table} WHERE unreadable IS NULL
) WHERE place = 1 ORDER BY event_id
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with three fresh files that were sealed into one, and one that was not."""
    store = FolderStore(tmp_path / "archive")
    archived(store, [a_completion("c1"), a_thumb("c1")], [a_completion("c2")], [a_completion("c1")])
    archive = ParquetArchive(store, topic="events", window_entries=0)
    for run in runs_to_seal(archive.chain(P, Ledger()), today=TOMORROW.date(), target_bytes=2**30):
        assert archive.seal(run, sealed_at=TOMORROW)
    archived(store, [a_completion("c3")])
    return tmp_path / "archive"


def test_sealed_files_are_a_table_partitioned_by_log_partition_and_day(root: Path) -> None:
    """As Spark and Trino find it: the folders are columns, and a day is not opened in vain."""
    found = ds.dataset(root / "sealed", format="parquet", partitioning="hive")

    table = found.to_table(columns=["position", "log", "part", "day"])
    elsewhere = found.get_fragments(filter=ds.field("day") == "1999-01-01")

    assert table.to_pylist() == [
        {"position": n, "log": "log", "part": "p", "day": "2026-03-04"} for n in range(4)
    ]
    assert list(elsewhere) == []


def test_the_folders_have_the_days_that_the_files_say(root: Path) -> None:
    """An engine that trusts the folder must not leave out a row."""
    days = "SELECT day::VARCHAR, count(*) FROM {table} WHERE day = '2026-03-04' GROUP BY day"

    found = duckdb.execute(days.format(table=TABLE.format(root=root))).fetchall()

    assert found == [("2026-03-04", 4)]


def test_events_are_counted_once_by_the_rule_that_the_docs_give(root: Path, tmp_path: Path) -> None:
    """A repeat beyond the window has two rows: all have to agree on which one counts."""
    files = ParquetArchive(FolderStore(root), topic="events", window_entries=0).chain(P, Ledger())
    sealed = [one for one in files.files if one.place.level is Level.SEALED]
    views = views_of(FolderStore(root), sealed, tmp_path, root=root)

    ours = rows(views, "SELECT event_id, raw FROM events ORDER BY event_id")
    theirs = duckdb.execute(ONCE.format(table=TABLE.format(root=root))).fetchall()

    assert len(theirs) == 3
    assert [(name, str(raw)) for name, raw in ours] == theirs
