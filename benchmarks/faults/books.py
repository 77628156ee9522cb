"""What clients saw against what the log holds, number by number."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.faults.clients import Seen
from feedbackloop.events import AnyEvent, CaptureGap, CompletionServed, Outcome, ThumbGiven
from feedbackloop.log.completeness import Audit, Completeness
from feedbackloop.log.killed import KILLED
from feedbackloop.log.port import EventLog, Offset
from services import wiring
from services.settings import Settings


@dataclass(kw_only=True)
class Logged:
    """What the log holds.

    Attributes:
        completions: Ids of completions.
        ended: Of these, the ones whose end was recorded, too.
        votes: Ids that were voted on.
        events: Entries, repeats counted.
        unreadable: Entries that are no event.
        audit: Numbers that producers gave: expected, seen, declared lost, and missing.
        reasons: Numbers declared lost, by why.
    """

    completions: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
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
            _take(found, entry.event)
    now = datetime.now(UTC)
    found.audit = audit.report(now=now, patience=timedelta(0))
    for name, producer in audit.producers(now=now, patience=timedelta(0)).items():
        found.first_missing += [(name[:8], first, last) for first, last in producer.first_missing]
    return found


def _take(found: Logged, event: AnyEvent) -> None:
    if isinstance(event, CompletionServed):
        found.completions.add(event.completion_id)
        if event.outcome is not Outcome.CRASHED:
            found.ended.add(event.completion_id)
    elif isinstance(event, ThumbGiven):
        found.votes.add(event.completion_id)
    elif isinstance(event, CaptureGap):
        found.reasons[event.reason] += event.count


def broken(seen: Seen, found: Logged, *, may_shed: bool) -> list[str]:
    """Name the promises that were not kept.

    Args:
        seen: By clients.
        found: In the log.
        may_shed: Whether completions may be missing, as long as that is declared. What was on its
            way when the sidecar was killed may always be, as long as that is declared.
    """
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
        "completions whose end was seen are not in the log, and not declared": _lost(
            seen, found, may_shed=may_shed
        ).silent,
    }
    return [f"{count} {what}" for what, count in problems.items() if count]


@dataclass(frozen=True, kw_only=True)
class _Lost:
    """Completions whose end was seen, and not recorded.

    Attributes:
        late: Covered by a gap that says that a kill took them: their answers went out late.
        shed: Covered by other gaps.
        silent: Covered by none.
    """

    late: int
    shed: int
    silent: int


def _lost(seen: Seen, found: Logged, *, may_shed: bool) -> _Lost:
    gone = len(seen.completed - found.ended)
    killed = found.audit.declared.get(KILLED, 0)
    late = min(gone, killed)
    shed = min(gone - late, sum(found.audit.declared.values()) - killed) if may_shed else 0
    return _Lost(late=late, shed=shed, silent=gone - late - shed)


@dataclass(kw_only=True)
class Totals:
    """Sums over many homes."""

    completed: int = 0
    accepted: int = 0
    expected: int = 0
    seen: int = 0
    declared: int = 0
    lost: int = 0
    late: int = 0
    shed: int = 0
    failed: int = 0
    refused: int = 0

    def add(self, seen: Seen, found: Logged, *, may_shed: bool) -> None:
        """Take one home in."""
        lost = _lost(seen, found, may_shed=may_shed)
        self.completed += len(seen.completed)
        self.accepted += len(seen.accepted)
        self.failed += seen.failed
        self.refused += seen.refused
        self.shed += lost.shed
        self.late += lost.late
        self.lost += len(seen.accepted - found.votes) + lost.silent
        self.expected += found.audit.expected
        self.seen += found.audit.seen
        self.declared += sum(found.audit.declared.values())

    def figures(self) -> dict[str, int | float | None]:
        """Return columns for the table."""
        return {
            "completed": self.completed,
            "failed": self.failed,
            "votes 202": self.accepted,
            "votes 503": self.refused,
            "lost": self.lost,
            "lost late": self.late,
            "shed": self.shed,
            "expected": self.expected,
            "seen": self.seen,
            "declared": self.declared,
        }
