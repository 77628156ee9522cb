"""Look after what is archived: seal fresh files, let go of old ones, clear what counts no more."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import msgspec

from feedbackloop.log.archive import Level, outlived, removable, runs_to_seal
from feedbackloop.log.ledger import Lineage, Removed
from feedbackloop.log.port import Archive
from services import telemetry
from services.settings import Settings


class Upkeep(msgspec.Struct, frozen=True, kw_only=True):
    """How an archive is looked after.

    Attributes:
        sealed_bytes: Size of a sealed file that is worth no more company.
        grace_seconds: How long a file stays after it became worthless: somebody may read it.
        keep_days: Whole days that are kept; None keeps everything.
        everything: Seal today's files too.
    """

    sealed_bytes: int
    grace_seconds: float
    keep_days: int | None = None
    everything: bool = False


def upkeep(settings: Settings, *, everything: bool = False) -> Upkeep:
    """Say how the settings want the archive to be looked after."""
    return Upkeep(
        sealed_bytes=settings.archiver.sealed_bytes,
        grace_seconds=settings.archiver.grace_seconds,
        keep_days=settings.archiver.keep_days or None,
        everything=everything,
    )


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to one lineage.

    Attributes:
        sealed: Fresh files that are in a sealed one now.
        sealed_files: Sealed files made.
        retired_through: Position through which retention let go; None if it did not.
        removed: Files taken away.
        waiting: Worthless files that stay for the grace period.
    """

    lineage: Lineage
    sealed: int = 0
    sealed_files: int = 0
    retired_through: int | None = None
    removed: int = 0
    waiting: int = 0


def look_after(
    archive: Archive, lineages: Sequence[Lineage], upkeep: Upkeep, *, now: datetime
) -> list[Done]:
    """Seal, retire and clear up, lineage by lineage. Any number may do so at once.

    Raises:
        StoreUnavailable: If the store does not answer.
        ArchiveDamaged: If a file is not what it says: nothing is made of it.
    """
    return [_look_after(archive, lineage, upkeep, now) for lineage in lineages]


def _look_after(archive: Archive, lineage: Lineage, upkeep: Upkeep, now: datetime) -> Done:
    sealed, files = _seal(archive, lineage, upkeep, now)
    through = None
    if upkeep.keep_days is not None:
        first_day = now.date() - timedelta(days=upkeep.keep_days)
        through = _retire(archive, lineage, first_day, now)
    removed, waiting = _clear(archive, lineage, upkeep, now)
    return Done(
        lineage=lineage,
        sealed=sealed,
        sealed_files=files,
        retired_through=through,
        removed=removed,
        waiting=waiting,
    )


def _seal(archive: Archive, lineage: Lineage, upkeep: Upkeep, now: datetime) -> tuple[int, int]:
    runs = runs_to_seal(
        archive.chain(lineage, archive.ledger()),
        today=now.date(),
        target_bytes=upkeep.sealed_bytes,
        everything=upkeep.everything,
    )
    sealed = files = 0
    for run in runs:
        if not archive.seal(run, sealed_at=now):
            # Somebody else does the same: the rest is for them, or for the next time.
            break
        telemetry.ARCHIVE_FILES.labels(Level.SEALED).inc()
        sealed, files = sealed + len(run), files + 1
    return sealed, files


def _retire(archive: Archive, lineage: Lineage, before: date, now: datetime) -> int | None:
    decided = archive.ledger()
    through = outlived(archive.chain(lineage, decided), before=before)
    if through is None:
        return None
    decision = Removed(lineage=lineage, through=through, at=now)
    return through if archive.decide(decided, decision) else None


def _clear(archive: Archive, lineage: Lineage, upkeep: Upkeep, now: datetime) -> tuple[int, int]:
    decided = archive.ledger()
    found = archive.chain(lineage, decided)
    before = now - timedelta(seconds=upkeep.grace_seconds)
    gone = removable(found, decided, before=before)
    for file in gone:
        archive.remove(file)
        telemetry.ARCHIVE_FILES.labels("removed").inc()
    return len(gone), len(found.superseded) - len(gone)
