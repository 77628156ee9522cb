"""One partition on its way into the archive: read, gather, publish, and look before going on."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime

import msgspec
import structlog

from feedbackloop.errors import LogUnavailable
from feedbackloop.log import continuity
from feedbackloop.log.continuity import Obstacle, Standing
from feedbackloop.log.port import Archive, Draft, Entry, EventLog, Offset
from services import telemetry
from services.archiver.survey import look, survey

log = structlog.get_logger()


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """When a file is published.

    Attributes:
        file_bytes: Once it has this size.
        rotate_seconds: Once its first entry is this old.
        batch_entries: How many entries are read at a time.
        batch_bytes: About how many bytes at most: three batches are in memory at once.
    """

    file_bytes: int
    rotate_seconds: float
    batch_entries: int = 2_000
    batch_bytes: int = 8 * 2**20


class Archivist:
    """The archive of one partition, written by this process and perhaps by others at once.

    Args:
        partition: Its name.
        event_log: Read.
        archive: Written to. Whoever else does so is found out by it.
        terms: When a file is published.
        clock: Seconds, for waiting.
        now: The time, for what files say of themselves.
    """

    def __init__(
        self,
        partition: str,
        *,
        event_log: EventLog,
        archive: Archive,
        terms: Terms,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self.partition = partition
        self.obstacle: Obstacle | None = None
        """Why it stands still until an operator decides; None while it goes on."""
        self._log = event_log
        self._archive = archive
        self._terms = terms
        self._clock = clock
        self._now = now
        self._draft: Draft | None = None
        self._standing: Standing | None = None
        self._opened: float | None = None
        self._read_to = -1
        self._reader: AsyncIterator[Entry] | None = None
        self._adding: asyncio.Task[None] | None = None
        self._finished = False
        self._filled = False
        self._looked = False

    @property
    def size(self) -> int:
        """Return about how many bytes of memory wait to be published."""
        return 0 if self._draft is None else self._draft.size

    def archived(self) -> Offset | None:
        """Return the place of the last entry that is in a file; None as long as it is not known."""
        known = self._standing
        return None if known is None else Offset(self.partition, known.next - 1)

    def lag_seconds(self) -> float:
        """Return how old the oldest event is that is read and not yet published."""
        first = None if self._draft is None else self._draft.first_at
        return 0.0 if first is None else max(0.0, (self._now() - first).total_seconds())

    async def step(self) -> int:
        """Take what the log has now, up to a batch; return how many entries that were.

        Raises:
            UnavailableError: If log or store does not answer: step again.
            ArchiveDamaged: If a file cannot be read.
        """
        if self._finished:
            await self.publish()
        if self._draft is None and not await self._begin():
            return 0
        try:
            count = await self._take()
        except LogUnavailable:
            # What was read is sound; what comes next has to be looked into.
            await self.publish()
            await self.drop()
            raise
        if self._is_due():
            await self.publish()
        return count

    async def publish(self) -> None:
        """Publish what was read, if anything was; what somebody else published is dropped.

        Raises:
            StoreUnavailable: If the store does not answer: what was read is kept.
        """
        await self._settle()
        draft = self._draft
        if draft is None or not draft.entries:
            return
        self._finished = True
        data = await asyncio.to_thread(draft.finish, written_at=self._now())
        if not await asyncio.to_thread(self._archive.publish, draft.place, data):
            telemetry.ARCHIVE_RACES.inc()
            log.info("archive_race_lost", partition=self.partition, start=draft.place.start)
            await self.drop()
            return
        self._count(draft, len(data))
        self._follow(draft)

    async def finish(self) -> int:
        """Take in what is being added and publish it; return how many entries that were."""
        await self._settle()
        entries = 0 if self._draft is None else self._draft.entries
        await self.publish()
        return entries

    async def drop(self) -> None:
        """Forget what was read and not published: somebody else takes care of it."""
        try:
            await self._settle()
        except Exception as error:  # noqa: BLE001  # whatever it was, nothing of it is kept
            # Not its message: that may quote an entry.
            log.warning(
                "archive_draft_failed", partition=self.partition, error=type(error).__name__
            )
        await self._stop_reading()
        self._draft, self._standing, self._opened = None, None, None
        self._finished, self._filled, self._looked = False, False, False

    async def _begin(self) -> bool:
        """Find out where to go on; say whether anything may."""
        here = await survey(self.partition, event_log=self._log, archive=self._archive)
        self._judge(here.obstacle)
        telemetry.show_archived(self.partition, archived=here.found.end, end=here.log.end)
        if here.obstacle is not None:
            return False
        self._standing, self._looked = here.standing, True
        self._draft = await asyncio.to_thread(self._archive.draft, here.found)
        self._read_to = self._draft.end
        return True

    def _follow(self, draft: Draft) -> None:
        """Go on where a file that was published ends."""
        assert self._standing is not None  # noqa: S101  # nothing is drafted before it is known
        self._opened, self._finished, self._filled = None, False, False
        if self._standing.limit is not None:
            # It filled a hole, or a part of one: what comes next has to be looked up.
            self._draft = None
            return
        self._draft, self._looked = draft.following(), False
        self._standing = msgspec.structs.replace(
            self._standing, next=draft.end + 1, last=draft.end, digest=draft.last
        )

    async def _take(self) -> int:
        entries = await self._batch()
        await self._settle()
        if not entries:
            return 0
        draft = self._draft
        assert draft is not None  # noqa: S101  # begun by step
        self._opened = self._clock() if self._opened is None else self._opened
        self._adding = asyncio.create_task(asyncio.to_thread(draft.add, entries))
        return len(entries)

    async def _batch(self) -> list[Entry]:
        """Read up to a batch, and stop at the end of a hole."""
        if self._reader is None and not await self._open():
            return []
        assert self._reader is not None  # noqa: S101  # just opened
        entries = await self._read(self._reader)
        if entries:
            await self._check_first()
            self._read_to = entries[-1].offset.position
        return entries

    async def _read(self, reader: AsyncIterator[Entry]) -> list[Entry]:
        """Take a batch; where there is no more, or a hole ends, end reading."""
        limit = None if self._standing is None else self._standing.limit
        entries: list[Entry] = []
        size = 0
        self._filled = False
        async for entry in reader:
            if limit is not None and entry.offset.position > limit:
                self._filled = True
                break
            entries.append(entry)
            size += len(entry.raw)
            if len(entries) == self._terms.batch_entries or size >= self._terms.batch_bytes:
                return entries
        await self._stop_reading()
        return entries

    async def _check_first(self) -> None:
        """Make sure that the first entry read is the first there was: a log says so only now."""
        if self._read_to >= 0:
            return
        beginning = await self._log.beginning(self.partition)
        if beginning.position >= 0:
            raise LogUnavailable(f"what followed position -1 of {self.partition} was removed")

    async def _open(self) -> bool:
        """Begin to read where the last read ended; say whether the log still goes on there."""
        if not self._looked and not await self._look():
            return False
        after = Offset(self.partition, self._read_to)
        self._reader = aiter(self._log.read(after=after))
        return True

    async def _look(self) -> bool:
        """Look whether the log still goes on where the archive ends, before another file."""
        assert self._standing is not None  # noqa: S101  # known since _begin
        state = await look(self._log, self._standing)
        telemetry.show_archived(self.partition, archived=self._standing.next - 1, end=state.end)
        if continuity.obstacle(self._standing, state) is not None:
            # Whether it is one still is for a survey to say: an operator may have decided.
            await self.drop()
            return False
        self._looked = True
        return True

    def _is_due(self) -> bool:
        if self._opened is None:
            return False
        old = self._clock() - self._opened >= self._terms.rotate_seconds
        return old or self._filled or self.size >= self._terms.file_bytes

    def _judge(self, obstacle: Obstacle | None) -> None:
        """Raise or lower the alarm."""
        if obstacle is not None and obstacle != self.obstacle:
            log.error(
                "data_gap",
                partition=self.partition,
                kind=obstacle.kind,
                problem=obstacle.explanation,
                remedy=f"feedbackloop archive resume {self.partition} --why ...",
            )
        self.obstacle = obstacle
        telemetry.show_stopped(self.partition, None if obstacle is None else obstacle.kind)

    def _count(self, draft: Draft, size: int) -> None:
        telemetry.ARCHIVED_EVENTS.inc(draft.rows)
        telemetry.ARCHIVE_REPEATS.inc(draft.entries - draft.rows)
        telemetry.ARCHIVE_UNREADABLE.inc(draft.unreadable)
        telemetry.ARCHIVE_FILES.labels("fresh").inc()
        telemetry.ARCHIVE_BYTES.inc(size)
        log.debug("archive_file", key=draft.place.key, rows=draft.rows, end=draft.end, bytes=size)

    async def _settle(self) -> None:
        adding, self._adding = self._adding, None
        if adding is not None:
            await adding

    async def _stop_reading(self) -> None:
        reader, self._reader = self._reader, None
        close = getattr(reader, "aclose", None)
        if close is not None:
            await close()
