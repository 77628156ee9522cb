"""Turn by turn: a batch of each partition, what is due, and upkeep now and then."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import msgspec
import structlog

from feedbackloop.errors import ArchiveDamaged, UnavailableError
from feedbackloop.log.port import Archive, Offset
from feedbackloop.log.sharing import Sharing
from services import telemetry
from services.archiver.archivist import Archivist
from services.archiver.keeper import Upkeep, look_after

log = structlog.get_logger()

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How much at once, and how often.

    Attributes:
        memory_bytes: What may wait in memory over all partitions.
        poll_seconds: Pause when nothing was new.
        upkeep_seconds: Between two rounds of upkeep.
        upkeep: How the archive is looked after.
    """

    memory_bytes: int
    poll_seconds: float
    upkeep_seconds: float
    upkeep: Upkeep


class Rest(msgspec.Struct, frozen=True):
    """A partition that failed: until when it is left alone, and how long that was."""

    until: float
    wait_seconds: float


class Runner:
    """All partitions of this process.

    Args:
        sharing: Says which they are.
        archive: Looked after.
        archivist: Makes one for a partition.
        pace: How much at once, and how often.
        clock: Seconds, for waiting.
        now: The time.
    """

    def __init__(
        self,
        *,
        sharing: Sharing,
        archive: Archive,
        archivist: Callable[[str], Archivist],
        pace: Pace,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._sharing = sharing
        self._archive = archive
        self._archivist = archivist
        self._pace = pace
        self._clock = clock
        self._now = now
        self._archivists: dict[str, Archivist] = {}
        self._told: dict[str, Offset] = {}
        self._resting: dict[str, Rest] = {}
        self._kept_at: float | None = None

    @property
    def archivists(self) -> Mapping[str, Archivist]:
        """Return the partitions that this process takes care of."""
        return self._archivists

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until told to stop."""
        while not stop.is_set():
            progress = 0
            try:
                progress = await self.turn()
            except UnavailableError as error:
                self._failed("unavailable", error)
            except Exception:  # the outermost loop: the next turn tries again
                telemetry.ARCHIVE_ERRORS.labels("unexpected").inc()
                log.exception("archiver_turn_failed")
            if not progress:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._pace.poll_seconds)

    async def turn(self) -> int:
        """Take a batch of each partition; return how many entries that were.

        Raises:
            UnavailableError: If nobody says which partitions are this process'.
        """
        await self._share()
        progress = 0
        for partition, one in list(self._archivists.items()):
            if self._is_resting(partition):
                continue
            progress += await self._guarded(partition, one.step())
            telemetry.ARCHIVE_LAG_SECONDS.labels(partition).set(one.lag_seconds())
            await self._tell(one)
        await self._make_room()
        await self._look_after()
        return progress

    async def drain(self) -> None:
        """Publish what was read, and leave the partitions to others."""
        for partition, one in self._archivists.items():
            await self._guarded(partition, one.finish())
            await self._tell(one)
        await self._sharing.close()

    async def _share(self) -> None:
        mine = set(await self._sharing.mine())
        for partition in set(self._archivists) - mine:
            await self._archivists.pop(partition).drop()
            self._told.pop(partition, None)
            telemetry.forget_partition(partition)
        for partition in sorted(mine - set(self._archivists)):
            self._archivists[partition] = self._archivist(partition)

    async def _tell(self, one: Archivist) -> None:
        """Tell the others how far a partition has come, whenever it has come further."""
        archived = one.archived()
        if archived is not None and archived != self._told.get(one.partition):
            self._told[one.partition] = archived
            await self._sharing.reached(archived)

    async def _make_room(self) -> None:
        """Publish the largest files until the rest fits into memory."""
        waiting = sorted(self._archivists.items(), key=lambda pair: -pair[1].size)
        total = sum(one.size for _, one in waiting)
        for partition, one in waiting:
            if total <= self._pace.memory_bytes:
                return
            total -= one.size
            await self._guarded(partition, one.finish())

    async def _look_after(self) -> None:
        last = self._kept_at
        if last is not None and self._clock() - last < self._pace.upkeep_seconds:
            return
        self._kept_at = self._clock()
        await self._guarded("", asyncio.to_thread(self._upkeep_of_mine))

    def _upkeep_of_mine(self) -> int:
        mine = [one for one in self._archive.lineages() if one.partition in self._archivists]
        done = look_after(self._archive, mine, self._pace.upkeep, now=self._now())
        for one in done:
            if one.sealed or one.removed or one.retired_through is not None:
                log.info("archive_upkeep", **msgspec.to_builtins(one))
        return len(done)

    async def _guarded(self, partition: str, work: Awaitable[int]) -> int:
        """Do something for one partition; if it fails, leave the partition alone for a while."""
        try:
            done = await work
        except UnavailableError as error:
            self._failed("unavailable", error)
        except ArchiveDamaged as error:
            telemetry.ARCHIVE_ERRORS.labels("damaged").inc()
            log.error("archive_damaged", file=error.key, problem=error.reason)  # noqa: TRY400  # a message
        except Exception:  # one partition must not hold up the others
            telemetry.ARCHIVE_ERRORS.labels("unexpected").inc()
            log.exception("partition_failed", partition=partition)
            if partition in self._archivists:
                await self._archivists[partition].drop()
        else:
            self._resting.pop(partition, None)
            return done
        self._rest(partition)
        return 0

    def _failed(self, kind: str, error: Exception) -> None:
        telemetry.ARCHIVE_ERRORS.labels(kind).inc()
        log.warning("archiver_waits", error=str(error))

    def _rest(self, partition: str) -> None:
        before = self._resting.get(partition)
        wait = _FIRST_WAIT_SECONDS
        if before is not None:
            wait = min(before.wait_seconds * 2, _LONGEST_WAIT_SECONDS)
        self._resting[partition] = Rest(self._clock() + wait, wait)

    def _is_resting(self, partition: str) -> bool:
        rest = self._resting.get(partition)
        return rest is not None and self._clock() < rest.until
