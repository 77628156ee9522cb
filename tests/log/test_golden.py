"""Files that earlier versions wrote are read as they were meant, for ever.

``golden/format-1.parquet`` was written by format 1 with schema 1 and is never written again. A new
format or schema adds a file and its expectation; it does not touch the old ones.
"""

import json
from pathlib import Path

import pytest

from feedbackloop.log.archive import Level, Place
from feedbackloop.log.ledger import Ledger, Lineage
from feedbackloop.log.memory import MemoryStore
from feedbackloop.log.parquet import ParquetArchive
from feedbackloop.log.port import Archive
from tests.archives import rows, views_of

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.parquet"))
LINEAGE = Lineage("golden", "p")


def opened(name: str) -> tuple[MemoryStore, Archive]:
    place = Place(level=Level.FRESH, lineage=LINEAGE, start=0)
    store = MemoryStore({place.key: (GOLDEN / f"{name}.parquet").read_bytes()})
    return store, ParquetArchive(store, topic="feedbackloop.events", window_entries=10)


def expected(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((GOLDEN / f"{name}.json").read_text())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_events_of_an_old_file_are_read(name: str) -> None:
    """Each as the class that it is today, or with its error if nobody ever knew it."""
    _, archive = opened(name)
    (file,) = archive.chain(LINEAGE, Ledger()).files

    archive.check(file)

    found = [type(entry.event).__name__ for entry in archive.entries(file)]
    assert found == expected(name)["types"]


@pytest.mark.parametrize("name", NAMES)
def test_an_old_file_is_sealed_with_all_its_rows(name: str) -> None:
    """It gets the columns of today, and loses none of its bytes."""
    _, archive = opened(name)
    (file,) = archive.chain(LINEAGE, Ledger()).files

    archive.seal([file], sealed_at=file.contents.written_at)

    (sealed,) = archive.chain(LINEAGE, Ledger()).files
    assert sealed.contents.digest == file.contents.digest == expected(name)["digest"]
    assert list(archive.rows(sealed)) == list(archive.rows(file))


@pytest.mark.parametrize("name", NAMES)
def test_an_old_file_answers_queries(name: str, tmp_path: Path) -> None:
    """Beside those of today."""
    store, archive = opened(name)
    views = views_of(store, archive.chain(LINEAGE, Ledger()).files, tmp_path)

    completions = rows(views, "SELECT completion_id, reply FROM completions ORDER BY position")
    signals = rows(views, "SELECT kind, value FROM signals ORDER BY position")

    assert [list(row) for row in completions] == expected(name)["completions"]
    assert [list(row) for row in signals] == expected(name)["signals"]


def test_there_is_a_file_of_every_format() -> None:
    """A new one comes with its own."""
    assert "format-1" in NAMES
