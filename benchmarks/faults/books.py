"""What clients saw against what the log holds, number by number."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.faults.clients import Seen
from feedbackloop.events import CaptureGap, CompletionServed, ThumbGiven
from feedbackloop.log.completeness import Audit, Completeness
from feedbackloop.log.port import EventLog, Offset
from services import wiring
from services.settings import Settings


@dataclass(kw_only=True)
class Logged:
    """What the log holds.

    Attributes:
        completions: Ids of completions.
        votes: Ids that were voted on.
        events: Entries, repeats counted.
        unreadable: Entries that are no event.
        audit: Numbers that producers gave: expected, seen, declared lost, and missing.
        reasons: Numbers declared lost, by why.
    """

    completions: set[str] = field(default_factory=set)
    votes: set[str] = field(default_factory=set)
    events: int = 0
    unreadable: int = 0
    audit: Completeness = field(default_factory=Completeness)
    reasons: Counter[str] = field(default_factory=Counter)
    first_missing: list[tuple[str, int, int]] = field(default_factory=list)


def logged(home: Path) -> Logged:
    """Read everything in the embedded log under a home folder."""
    event_log = wiring.open_log(Settings(home=home), partition=None)
    return asyncio.run(read(event_log))


async def read(event_log: EventLog) -> Logged:
    """Read everything in a log."""
    found, audit = Logged(), Audit()
    for partition in await event_log.partitions():
        async for entry in event_log.read(after=Offset(partition, -1)):
            found.events += 1
            if isinstance(entry.event, Exception):
                found.unreadable += 1
                continue
            audit.add(entry.event)
            if isinstance(entry.event, CompletionServed):
                found.completions.add(entry.event.completion_id)
            elif isinstance(entry.event, ThumbGiven):
                found.votes.add(entry.event.completion_id)
            elif isinstance(entry.event, CaptureGap):
                found.reasons[entry.event.reason] += entry.event.count
    now = datetime.now(UTC)
    found.audit = audit.report(now=now, patience=timedelta(0))
    for name, producer in audit.producers(now=now, patience=timedelta(0)).items():
        found.first_missing += [(name[:8], first, last) for first, last in producer.first_missing]
    return found


def broken(seen: Seen, found: Logged, *, may_shed: bool) -> list[str]:
    """Name the promises that were not kept.

    Args:
        seen: By clients.
        found: In the log.
        may_shed: Whether completions may be missing, as long as that is declared.
    """
    declared = sum(found.audit.declared.values())
    lost = seen.completed - found.completions
    problems = {
        "completions failed": seen.failed,
        "accepted votes are not in the log": len(seen.accepted - found.votes),
        "votes are in the log that nobody gave": len(found.votes - seen.voted),
        "more completions are in the log than were asked for": max(
            0, len(found.completions) - seen.asked
        ),
        f"records are missing without a word {found.first_missing}": sum(
            found.audit.missing.values()
        ),
        "entries of the log cannot be read": found.unreadable,
        "votes were answered with neither 202 nor 503": seen.odd.total(),
    }
    if not may_shed:
        problems["completions whose end was seen are not in the log"] = len(lost)
    elif len(lost) > declared:
        problems["completions are missing and not declared"] = len(lost) - declared
    return [f"{count} {what}" for what, count in problems.items() if count]


@dataclass(kw_only=True)
class Totals:
    """Sums over many homes."""

    completed: int = 0
    accepted: int = 0
    expected: int = 0
    seen: int = 0
    declared: int = 0
    lost: int = 0
    shed: int = 0
    failed: int = 0
    refused: int = 0

    def add(self, seen: Seen, found: Logged, *, may_shed: bool) -> None:
        """Take one home in."""
        declared = sum(found.audit.declared.values())
        gone = len(seen.completed - found.completions)
        shed = min(gone, declared) if may_shed else 0
        self.completed += len(seen.completed)
        self.accepted += len(seen.accepted)
        self.failed += seen.failed
        self.refused += seen.refused
        self.shed += shed
        self.lost += len(seen.accepted - found.votes) + gone - shed
        self.expected += found.audit.expected
        self.seen += found.audit.seen
        self.declared += declared

    def figures(self) -> dict[str, int | float | None]:
        """Return columns for the table."""
        return {
            "completed": self.completed,
            "failed": self.failed,
            "votes 202": self.accepted,
            "votes 503": self.refused,
            "lost": self.lost,
            "shed": self.shed,
            "expected": self.expected,
            "seen": self.seen,
            "declared": self.declared,
        }
