"""Archives for tests of those that read them: events in, files out."""

from collections.abc import Sequence
from pathlib import Path

from feedbackloop.events import AnyEvent
from feedbackloop.log import codec
from feedbackloop.log.archive import ArchiveFile
from feedbackloop.log.duckdb import ArchiveViews
from feedbackloop.log.ledger import Lineage
from feedbackloop.log.memory import MemoryStore
from feedbackloop.log.parquet import ParquetArchive
from feedbackloop.log.port import Entry, Offset, Store
from tests.builders import NOON

P = Lineage("log", "p")


def archived(
    store: Store, *batches: Sequence[AnyEvent | bytes], lineage: Lineage = P
) -> list[ArchiveFile]:
    """Archive one file for each batch; the window is too small to find a repeat."""
    archive = ParquetArchive(store, topic="events", window_entries=0)
    for batch in batches:
        draft = archive.draft(archive.chain(lineage, archive.ledger()))
        raws = [one if isinstance(one, bytes) else codec.encode(one) for one in batch]
        draft.add(
            [
                Entry(offset=Offset("p", draft.end + 1 + n), event=codec.read(raw), raw=raw)
                for n, raw in enumerate(raws)
            ]
        )
        assert archive.publish(draft.place, draft.finish(written_at=NOON))
    return list(archive.chain(lineage, archive.ledger()).files)


def views_of(
    store: Store, files: Sequence[ArchiveFile], scratch: Path, *, root: Path | None = None
) -> ArchiveViews:
    """Open an archive to be asked."""
    return ArchiveViews(store, files, root=root, memory_bytes=2**28, scratch=scratch)


def views(events: Sequence[AnyEvent | bytes], scratch: Path) -> ArchiveViews:
    """Archive events and open the archive."""
    store = MemoryStore()
    files = archived(store, events) if events else []
    return views_of(store, files, scratch)


def rows(opened: ArchiveViews, sql: str) -> list[tuple[object, ...]]:
    """Ask for all rows at once."""
    return [row for batch in opened.query(sql).batches for row in batch]
