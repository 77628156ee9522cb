"""What producers recorded against what the archive holds, event by event."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from feedbackloop.errors import RecordError
from feedbackloop.events import CompletionServed
from feedbackloop.log.archive import Chain, added
from feedbackloop.log.completeness import Audit, Completeness
from feedbackloop.log.ledger import Lineage
from feedbackloop.log.port import Archive
from services import wiring
from services.archiver.verify import chains, differences
from services.settings import Settings


@dataclass(kw_only=True)
class Archived:
    """What the files that count hold.

    Attributes:
        completions: Ids, in the order of their rows, by conversation.
        ids: How many rows each event id has.
        rows: Rows in all.
        entries: Entries of the log that they stand for; more than rows where the log had repeats.
        unreadable: Rows that are no event.
        audit: Numbers that producers gave: expected, seen, declared lost, and missing.
        digest: Of all rows, their places and their bytes.
    """

    completions: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    ids: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    entries: int = 0
    unreadable: int = 0
    audit: Completeness = field(default_factory=Completeness)
    digest: str = ""


def opened(settings: Settings) -> Archive:
    """Open the archive that settings name."""
    return wiring.open_archive(settings, wiring.open_store(settings))


def reach(settings: Settings) -> Callable[[], bool]:
    """Return a question: is all that the log has now in files?"""
    ends, archive = asyncio.run(_ends(settings)), opened(settings)

    def is_reached() -> bool:
        found = {lineage.partition: one.end for lineage, one in chains(archive).items()}
        return all(found.get(partition, -1) >= end for partition, end in ends.items())

    return is_reached


def read(settings: Settings) -> Archived:
    """Read all rows of an archive."""
    archive, found, audit = opened(settings), Archived(), Audit()
    everything = chains(archive)
    for one in everything.values():
        for file in one.files:
            found.rows += file.contents.rows
            found.entries += file.contents.entries
            for entry in archive.entries(file):
                if isinstance(entry.event, RecordError):
                    found.unreadable += 1
                    continue
                found.ids[entry.event.event_id] += 1
                audit.add(entry.event)
                if isinstance(entry.event, CompletionServed):
                    event = entry.event
                    found.completions[event.conversation].append(event.completion_id)
    found.audit = audit.report(now=datetime.now(UTC), patience=timedelta(0))
    found.digest = added(f.contents.digest for one in everything.values() for f in one.files)
    return found


def broken(recorded: set[str], found: Archived) -> list[str]:
    """Name the promises that were not kept."""
    held = {name for names in found.completions.values() for name in names}
    audit = found.audit
    problems = {
        "completions are lost": len(recorded - held),
        "completions are there that nobody recorded": len(held - recorded),
        "events are there twice": doubled(found),
        "conversations are out of order": disordered(found),
        "rows cannot be read": found.unreadable,
        "records are missing or declared lost": audit.expected + audit.pending - audit.seen,
    }
    return [f"{count} {what}" for what, count in problems.items() if count]


def doubled(found: Archived) -> int:
    """Count the events that have more than one row."""
    return sum(1 for times in found.ids.values() if times > 1)


def disordered(found: Archived) -> int:
    """Count the conversations that do not read as they were recorded."""
    return sum(1 for names in found.completions.values() if names != sorted(names))


def replays(one: Settings, other: Settings) -> list[str]:
    """Compare two archives of one log; name the partitions that do not have the same rows."""
    here, there = opened(one), opened(other)
    reached = _reached(chains(here)), _reached(chains(there))
    if reached[0] != reached[1]:
        return ["the replayed archive reaches to another place"]
    different = [found.lineage.partition for found in differences(here, there) if not found.same]
    return [f"{name} was replayed with other rows" for name in different]


def _reached(found: dict[Lineage, Chain]) -> Sequence[tuple[Lineage, int]]:
    return sorted((lineage, one.end) for lineage, one in found.items())


async def _ends(settings: Settings) -> dict[str, int]:
    event_log = wiring.open_log(settings, partition=None)
    try:
        names = await event_log.partitions()
        return {name: (await event_log.end(name)).position for name in names}
    finally:
        await event_log.close()
