"""What a spool could not take: which numbers, since when and why, until that is written down."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from feedbackloop.log.frames import Kind
from feedbackloop.log.reader import GapNote
from feedbackloop.log.thread import Pending

MIXED = "mixed"
"""Reason of a gap whose numbers had several, while there were too many notes to tell."""
_MOST = 1_000  # notes of 200 bytes, each of which is written down again after each refusal


class Shed:
    """Notes of gaps that no segment holds yet. For one thread at a time.

    However long a disk refuses, there are few: whose numbers follow each other are made one, though
    their reasons differ. What lies between others is queued, and its memory is bounded.
    """

    def __init__(self) -> None:
        self._notes: list[GapNote] = []
        self.records: Counter[str] = Counter()
        """How many were shed since the start, by reason."""

    def __bool__(self) -> bool:
        """Say whether anything is still to be written down."""
        return bool(self._notes)

    def note(self, seq: int, at_ns: int, reason: str) -> None:
        """Note that a record is shed; one after the other makes one note."""
        self.records[reason] += 1
        last = self._notes[-1] if self._notes else None
        if last is not None and last.last + 1 == seq and last.reason == reason:
            self._notes[-1] = msgspec.structs.replace(last, last=seq, last_at_ns=at_ns)
        else:
            note = GapNote(first=seq, last=seq, reason=reason, first_at_ns=at_ns, last_at_ns=at_ns)
            self._notes.append(note)
            self._bound()

    def put_back(self, records: Sequence[Pending]) -> None:
        """Note what the disk refused: records, and notes that were taken for it."""
        for one in records:
            if one.kind is Kind.RECORD:
                self.note(one.seq, one.at_ns, "disk_refused")
            else:
                self._notes.append(msgspec.json.decode(one.payload, type=GapNote))
        self._notes.sort(key=lambda note: note.first)
        self._bound()

    def take(self, through: int | None) -> Sequence[Pending]:
        """Hand over the notes of what is missing before record ``through``; None for all."""
        due = [one for one in self._notes if through is None or one.first < through]
        self._notes = [one for one in self._notes if one not in due]
        return [
            Pending(
                kind=Kind.GAP,
                seq=note.first,
                at_ns=note.first_at_ns,
                payload=msgspec.json.encode(note),
            )
            for note in due
        ]

    def _bound(self) -> None:
        if len(self._notes) <= _MOST:
            return
        self._notes.sort(key=lambda note: note.first)
        joined = self._notes[:1]
        for note in self._notes[1:]:
            if note.first == joined[-1].last + 1:
                joined[-1] = _joined(joined[-1], note)
            else:
                joined.append(note)
        self._notes = joined


def _joined(one: GapNote, other: GapNote) -> GapNote:
    return msgspec.structs.replace(
        one,
        last=other.last,
        reason=one.reason if one.reason == other.reason else MIXED,
        first_at_ns=min(one.first_at_ns, other.first_at_ns),
        last_at_ns=max(one.last_at_ns, other.last_at_ns),
    )
