"""Does the log go on where the archive ends? If not, nobody skips anything: an operator decides."""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum

import msgspec

from feedbackloop.log.archive import Chain
from feedbackloop.log.ledger import Decision, GapAccepted, Ledger, Lineage, LogReplaced

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class Break(StrEnum):
    """Why a partition cannot be archived any further."""

    MADE_ANEW = "made_anew"
    """The partition is another one than the one that was archived under its name."""
    CUT = "cut"
    """The log ends before the archive does."""
    REWRITTEN = "rewritten"
    """The log holds another entry where the archive ends."""
    LOST = "lost"
    """The log has removed entries that were not archived yet."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a partition is archived.

    Attributes:
        lineage: Under which it is archived now.
        identity: Of the partition, as far as the archive knows.
        next: Where the next file starts.
        limit: Last position that it may stand for; None if there is no file behind it.
        last: Position of the last entry that is in a file of the lineage; None if none is.
        digest: Of that entry's bytes; empty if there is none.
    """

    lineage: Lineage
    identity: str
    next: int
    limit: int | None = None
    last: int | None = None
    digest: str = ""


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of the same partition.

    Attributes:
        beginning: Position just before its oldest entry.
        end: Position of its last entry.
        digest: Of the entry at the archive's last position; None if it was removed.
    """

    identity: str
    beginning: int
    end: int
    digest: str | None


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the way, in words for an operator."""

    partition: str
    kind: Break
    explanation: str


def lineage_of(identity: str, partition: str) -> Lineage:
    """Name the lineage of a partition that nobody decided anything about."""
    return Lineage(log=_plain(identity), partition=partition)


def standing(
    partition: str, identity: str, *, archived: Collection[Lineage], ledger: Ledger
) -> tuple[Lineage, str]:
    """Say under which lineage a partition is archived, and whose it is.

    Args:
        partition: Its name.
        identity: As the log has it now.
        archived: Lineages of which there are files.
        ledger: What was decided.

    Returns:
        The lineage, and the identity that belongs to it: another one than ``identity`` if the
        partition was made anew.
    """
    decided = ledger.current(partition)
    if decided is not None:
        return decided.lineage, decided.identity
    own = lineage_of(identity, partition)
    others = sorted(one for one in archived if one.partition == partition and one != own)
    return (others[-1], others[-1].log) if others and own not in archived else (own, identity)


def position(found: Chain, identity: str) -> Standing:
    """Say how far a lineage is archived."""
    last = found.before[-1] if found.before else None
    return Standing(
        lineage=found.lineage,
        identity=identity,
        next=found.next,
        limit=found.limit,
        last=None if last is None else last.end,
        digest="" if last is None else last.contents.last,
    )


def obstacle(archived: Standing, log: LogState) -> Obstacle | None:
    """Say why the archive must not go on; None if it may."""
    partition, last = archived.lineage.partition, archived.last

    def because(kind: Break, explanation: str) -> Obstacle:
        return Obstacle(partition=partition, kind=kind, explanation=explanation)

    if log.identity != archived.identity:
        return because(
            Break.MADE_ANEW,
            f"it is {log.identity} now, and {archived.identity} was archived: it was made anew",
        )
    if last is not None and log.end < last:
        return because(
            Break.CUT, f"the log ends at position {log.end}, and {last} was archived: it was cut"
        )
    if last is not None and log.digest not in {None, archived.digest}:
        return because(
            Break.REWRITTEN,
            f"the log's entry at position {last} is not the one that was archived:"
            " what followed on some earlier position was replaced",
        )
    if log.beginning >= archived.next:
        return because(
            Break.LOST,
            f"the log holds nothing up to position {log.beginning}, and the archive goes on at"
            f" {archived.next}: what is between was removed before it was archived",
        )
    return None


def decision(
    found: Obstacle,
    archived: Standing,
    log: LogState,
    *,
    taken: Collection[Lineage],
    common_end: int,
    signed: tuple[str, str, datetime],
) -> Decision:
    """Put into words of the ledger how the archive goes on past an obstacle.

    Args:
        found: The obstacle.
        archived: How far the partition is archived.
        log: What the log says of it.
        taken: Lineages that are in use.
        common_end: Last position up to which archive and log agree; for a log that was cut.
        signed: Who decided, why, and when.
    """
    by, why, at = signed
    partition = archived.lineage.partition
    if found.kind is Break.LOST:
        # What is archived behind a hole is not given up with it.
        last = log.beginning if archived.limit is None else min(log.beginning, archived.limit)
        return GapAccepted(
            lineage=archived.lineage,
            first=archived.next,
            last=last,
            by=by,
            why=why,
            at=at,
        )
    lineage, start = lineage_of(log.identity, partition), 0
    if found.kind is not Break.MADE_ANEW:
        lineage, start = _another(lineage, taken), common_end + 1
    return LogReplaced(lineage=lineage, identity=log.identity, start=start, by=by, why=why, at=at)


def _another(lineage: Lineage, taken: Collection[Lineage]) -> Lineage:
    names = {one.log for one in taken}
    number = next(n for n in range(1, len(names) + 2) if f"{lineage.log}.{n}" not in names)
    return Lineage(log=f"{lineage.log}.{number}", partition=lineage.partition)


def _plain(name: str) -> str:
    return "".join(letter if letter in _PLAIN else "_" for letter in name)
