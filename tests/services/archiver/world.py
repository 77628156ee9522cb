"""A log, a store and time, and archivers over them that can die, sleep and race."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from feedbackloop.errors import StoreUnavailable
from feedbackloop.events import AnyEvent
from feedbackloop.log.archive import Chain
from feedbackloop.log.continuity import lineage_of
from feedbackloop.log.ledger import Lineage
from feedbackloop.log.memory import MemoryEventLog, MemoryStore
from feedbackloop.log.parquet import ParquetArchive, ParquetDraft
from feedbackloop.log.port import Archive, Entry, EventLog, Store
from feedbackloop.log.window import Window
from services.archiver.archivist import Archivist, Terms
from tests.builders import NOON, a_completion

P = "p"
ROTATE_SECONDS = 60.0


class World:
    """What archivers share, and a clock that a test turns."""

    def __init__(self, log: EventLog | None = None, store: Store | None = None) -> None:
        self.log = MemoryEventLog(P) if log is None else log
        self.store = MemoryStore() if store is None else store
        self.seconds = 0.0
        self._next = 0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def archive(self) -> ParquetArchive:
        return ParquetArchive(self.store, topic="events", window_entries=100)

    def archivist(
        self, *, file_bytes: int = 2**30, batch_entries: int = 10, archive: Archive | None = None
    ) -> Archivist:
        return Archivist(
            P,
            event_log=self.log,
            archive=self.archive() if archive is None else archive,
            terms=Terms(
                file_bytes=file_bytes, rotate_seconds=ROTATE_SECONDS, batch_entries=batch_entries
            ),
            clock=lambda: self.seconds,
            now=self.now,
        )

    async def served(self, count: int) -> list[AnyEvent]:
        """Append completions that nobody has seen before."""
        events: list[AnyEvent] = [a_completion(f"c{self._next + n}") for n in range(count)]
        self._next += count
        await self.log.append(events)
        return events

    async def lineage(self) -> Lineage:
        return lineage_of(await self.log.identity(P), P)

    async def chain(self) -> Chain:
        archive = self.archive()
        return archive.chain(await self.lineage(), archive.ledger())

    async def archived(self) -> list[Entry]:
        """Return every entry that is in a file."""
        archive = self.archive()
        return [entry for file in (await self.chain()).files for entry in archive.entries(file)]

    async def events(self) -> list[object]:
        return [entry.event for entry in await self.archived()]


async def advance(archivist: Archivist) -> None:
    """Step until there is nothing more to read."""
    while await archivist.step():
        pass


async def through(archivist: Archivist) -> None:
    """Archive all that the log has now."""
    await advance(archivist)
    await archivist.publish()


class FullDraft(ParquetDraft):
    """Takes nothing, and quotes what it was given."""

    def add(self, entries: Sequence[Entry]) -> None:
        raise MemoryError(repr(entries[0].event))


class FullArchive(ParquetArchive):
    """Has no memory left for what is read."""

    def draft(self, archived: Chain) -> ParquetDraft:
        place = super().draft(archived).place
        return FullDraft(place, topic="events", window=Window(100, ()))


class FlakyStore(MemoryStore):
    """Fails each time that ``fails`` says so, before or after it has done what was asked."""

    def __init__(self, fails: Sequence[str | None]) -> None:
        super().__init__()
        self._fails = list(fails)

    def create(self, key: str, data: bytes) -> bool:
        how = self._fails.pop(0) if self._fails else None
        if how == "before":
            raise StoreUnavailable("no answer")
        created = super().create(key, data)
        if how == "after":
            raise StoreUnavailable("the answer was lost")
        return created
