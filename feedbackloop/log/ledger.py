"""What operators and retention decided about the archive: read by everybody, never changed.

Each decision is an object ``ledger/{number:08d}.json`` that is created once: whoever decides has
read all that were decided before.
"""

from datetime import datetime

import msgspec

FOLDER = "ledger"


class Lineage(msgspec.Struct, frozen=True, order=True):
    """One partition of one log, under the name that the archive has for it.

    Attributes:
        log: The partition's identity, or a name that followed on it; plain characters only.
        partition: The partition's name.
    """

    log: str
    partition: str


class GapAccepted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The log lost entries before they were archived, and the archive goes on after them.

    Attributes:
        first: First position lost.
        last: Last position lost, inclusive.
        by: Who decided.
        why: In that person's words.
    """

    lineage: Lineage
    first: int
    last: int
    by: str
    why: str
    at: datetime


class LogReplaced(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A partition was made anew or cut: from here on it is archived as another lineage.

    Attributes:
        lineage: The new one.
        identity: Of the partition in the log.
        start: Where the new lineage starts.
    """

    lineage: Lineage
    identity: str
    start: int
    by: str
    why: str
    at: datetime


class Removed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Retention: what a lineage held through a position is no longer part of the archive."""

    lineage: Lineage
    through: int
    at: datetime


Decision = GapAccepted | LogReplaced | Removed
_decoder: msgspec.json.Decoder[Decision] = msgspec.json.Decoder(Decision)


class Ledger(msgspec.Struct, frozen=True):
    """All decisions, in order."""

    decisions: tuple[Decision, ...] = ()

    def begins(self, lineage: Lineage) -> int:
        """Return where the first file of a lineage starts."""
        start = 0
        for one in self.decisions:
            if isinstance(one, LogReplaced) and one.lineage == lineage:
                start = max(start, one.start)
            if isinstance(one, Removed) and one.lineage == lineage:
                start = max(start, one.through + 1)
        return start

    def past_gaps(self, lineage: Lineage, position: int) -> int:
        """Return ``position``, or where the accepted gaps end that it lies in."""
        for one in self.decisions:
            if isinstance(one, GapAccepted) and one.lineage == lineage:
                position = one.last + 1 if one.first <= position <= one.last else position
        return position

    def current(self, partition: str) -> LogReplaced | None:
        """Return the decision by which a partition got its lineage; None if nobody decided."""
        found = [
            one
            for one in self.decisions
            if isinstance(one, LogReplaced) and one.lineage.partition == partition
        ]
        return found[-1] if found else None


def encode(decision: Decision) -> bytes:
    """Write a decision as JSON."""
    return msgspec.json.encode(decision)


def decode(raw: bytes) -> Decision:
    """Read a decision back.

    Raises:
        msgspec.DecodeError: If it is none.
    """
    return _decoder.decode(raw)


def key(number: int) -> str:
    """Name the decision that comes after ``number`` others."""
    return f"{FOLDER}/{number:08d}.json"
