"""Hold a partition's archive against its log: where it stands, and what is in the way."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import msgspec

from feedbackloop.errors import LogUnavailable
from feedbackloop.log import continuity
from feedbackloop.log.archive import ArchiveFile, Chain, digest
from feedbackloop.log.continuity import Break, LogState, Obstacle, Standing
from feedbackloop.log.ledger import Decision, Ledger
from feedbackloop.log.port import Archive, Entry, EventLog, Offset

_REPLACED = ""
"""The digest of an entry that is not where it was, although nothing was removed there."""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """One partition, as archive and log have it.

    Attributes:
        found: The files of its lineage.
        decided: The ledger.
        standing: How far it is archived.
        log: What the log says; None if the partition is another one now.
        obstacle: Why it must not go on; None if it may.
    """

    found: Chain
    decided: Ledger
    standing: Standing
    log: LogState
    obstacle: Obstacle | None


async def survey(partition: str, *, event_log: EventLog, archive: Archive) -> Survey:
    """Hold one partition's archive against its log.

    Raises:
        UnavailableError: If either does not answer.
        ArchiveDamaged: If a file cannot be read.
    """
    identity = await event_log.identity(partition)
    decided = await asyncio.to_thread(archive.ledger)
    lineages = await asyncio.to_thread(archive.lineages)
    lineage, known = continuity.standing(partition, identity, archived=lineages, ledger=decided)
    found = await asyncio.to_thread(archive.chain, lineage, decided)
    standing = continuity.position(found, known)
    state = await look(event_log, standing)
    return Survey(
        found=found,
        decided=decided,
        standing=standing,
        log=state,
        obstacle=continuity.obstacle(standing, state),
    )


async def look(event_log: EventLog, standing: Standing) -> LogState:
    """Ask the log what it has of a partition, and whether it knows the archive's last entry."""
    partition = standing.lineage.partition
    identity = await event_log.identity(partition)
    beginning = (await event_log.beginning(partition)).position
    end = (await event_log.end(partition)).position
    digest = None
    if standing.last is not None and identity == standing.identity and end >= standing.last:
        digest = await _digest_at(event_log, Offset(partition, standing.last), beginning)
    return LogState(identity=identity, beginning=beginning, end=end, digest=digest)


async def mend(
    partition: str,
    *,
    event_log: EventLog,
    archive: Archive,
    signed: tuple[str, str, datetime],
) -> Sequence[Decision]:
    """Write into the ledger how a partition goes on past all that is in its way.

    Returns:
        What was decided; empty if nothing was in the way.
    """
    decisions: list[Decision] = []
    while True:
        here = await survey(partition, event_log=event_log, archive=archive)
        if here.obstacle is None:
            return decisions
        common = -1
        if here.obstacle.kind in {Break.CUT, Break.REWRITTEN}:
            common = await _common_end(event_log, here.found.before, here.log)
        lineages = await asyncio.to_thread(archive.lineages)
        decision = continuity.decision(
            here.obstacle,
            here.standing,
            here.log,
            taken={*lineages, *(one.lineage for one in here.decided.decisions)},
            common_end=common,
            signed=signed,
        )
        if await asyncio.to_thread(archive.decide, here.decided, decision):
            decisions.append(decision)


async def _digest_at(event_log: EventLog, last: Offset, beginning: int) -> str | None:
    """Return the digest of the entry at ``last``, or None if the log has removed it."""
    if beginning >= last.position:
        return None
    try:
        entry = await _following(event_log, Offset(last.partition, last.position - 1))
    except LogUnavailable:
        # Removed since we asked where the log begins.
        again = await event_log.beginning(last.partition)
        if again.position >= last.position:
            return None
        raise
    if entry is None or entry.offset != last:
        return _REPLACED
    return digest(entry.raw).hex()


async def _following(event_log: EventLog, after: Offset) -> Entry | None:
    reader = event_log.read(after=after)
    try:
        return await anext(reader, None)
    finally:
        close = getattr(reader, "aclose", None)
        if close is not None:
            await close()


async def _common_end(event_log: EventLog, files: Sequence[ArchiveFile], log: LogState) -> int:
    """Return the end of the last file on whose last entry archive and log agree, or -1."""
    partition = files[0].place.lineage.partition if files else ""
    for file in reversed(files):
        if file.end > log.end:
            continue
        last = Offset(partition, file.end)
        found = await _digest_at(event_log, last, log.beginning)
        if found in {None, file.contents.last}:
            return file.end
    return -1
