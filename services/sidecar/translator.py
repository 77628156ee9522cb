"""Records to events: pairs are made whole, rid of personal data, and searched for retries.

One step is taken with all records of a batch before the next one: a processor that does one thing
at a time finds the instructions for it at hand.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import NamedTuple

import msgspec
import structlog

from feedbackloop.capture import record, votes
from feedbackloop.capture.attribution import Attribution
from feedbackloop.capture.exchange import completion_served
from feedbackloop.capture.identity import TenantKeys, event_id
from feedbackloop.capture.record import AnyRecord, Closed, Opened, Recorded, Voted
from feedbackloop.errors import MalformedEvent, RecordError
from feedbackloop.events import (
    AnyEvent,
    CaptureGap,
    CompletionServed,
    PromptRetried,
    TenantId,
)
from feedbackloop.log.port import Frame, SpoolGap
from services import logs, telemetry
from services.sidecar.redacting import Redacting
from services.sidecar.unanswered import Unanswered, Waiting

log = structlog.get_logger()

_STEPS = 8  # about a quarter of a millisecond


class _Exchange(NamedTuple):
    """A request, and how it ended; None if nobody will say."""

    opened: Opened
    closed: Closed | None


class _Whole(NamedTuple):
    """What an event can be made of, and the frames that it lay in."""

    frames: tuple[Frame, ...]
    said: _Exchange | Voted


class _Draft:
    """What becomes of one record, or of two that belong together.

    Attributes:
        whole: What it is made of; None if that cannot be used.
        events: What follows, so far.
    """

    __slots__ = ("events", "keys", "whole")

    def __init__(self, whole: _Whole | None, events: list[AnyEvent]) -> None:
        self.whole = whole
        self.events = events
        self.keys: TenantKeys


class Translator:
    """Translates what a spool holds, in order; remembers what is open, and what was said lately.

    Args:
        keys: Of every tenant.
        attribution: What was served lately.
        set_aside: Told the payload of each record that cannot be read.
        redacting: Removes personal data; None for all that we recognise.
        held_bytes: How much of the spool a request that is open may hold up.
        breathe: Called after every few steps: others may need the processor.
    """

    def __init__(
        self,
        keys: Mapping[TenantId, TenantKeys],
        attribution: Attribution,
        set_aside: Callable[[bytes, str], None],
        *,
        redacting: Redacting | None = None,
        held_bytes: int = 512 * 2**20,
        # Linux lets whoever computes go on for 3 ms, though one who answers has woken up.
        breathe: Callable[[], None] = os.sched_yield,
    ) -> None:
        self._keys = keys
        self._attribution = attribution
        self._redacting = redacting or Redacting.of_all()
        self.keep = set_aside
        self._breathe = breathe
        self._open = Unanswered(held_bytes=held_bytes)
        self._previous = -1
        self.unmatched = 0
        """Replies whose request is known no more: it went to the log before a crash, or was shed
        and is declared as a gap."""

    def events(self, entries: Iterable[Frame | SpoolGap]) -> list[AnyEvent]:
        """Return what follows from entries; what cannot be used is set aside and declared."""
        drafts: list[_Draft] = []
        for number, entry in enumerate(entries, 1):
            drafts += self._read(entry)
            if number % _STEPS == 0:
                self._breathe()
        return self._translated(drafts)

    def left_by_the_dead(self, alive: str) -> list[AnyEvent]:
        """Close what no incarnation but ``alive`` had closed when everything of theirs was read.

        A spool has one writer: whoever else wrote to it has died.
        """
        return self._translated([_unended(one) for one in self._open.left_by_the_dead(alive)])

    def finished(self) -> int:
        """Return the position through which nothing is needed any more, -1 at first."""
        before = self._open.before_first()
        return self._previous if before is None else before

    def anew(self) -> "Translator":
        """Return one for another spool, with the same keys and the same memory of conversations."""
        another = copy(self)
        another.begin()
        return another

    def begin(self) -> None:
        """Forget what was opened, and where: another spool is to be read."""
        self._open = self._open.anew()
        self._previous = -1

    def _read(self, entry: Frame | SpoolGap) -> list[_Draft]:
        """Read one entry; return what is whole now, and what nobody will close any more."""
        before, self._previous = self._previous, entry.position
        if isinstance(entry, SpoolGap):
            return [_Draft(None, [gap(entry, entry.reason)])]
        try:
            found = record.decode(entry.payload)
        except Exception as error:  # noqa: BLE001  # anything may be in a record
            self.keep(entry.payload, type(error).__name__)
            drafts = [_Draft(None, [gap(entry, "set_aside")])]
        else:
            drafts = self._paired(entry, found, before)
        # Should an end come after all, the event that it makes outranks this one.
        return drafts + [_unended(one) for one in self._open.gone(entry)]

    def _paired(self, frame: Frame, found: AnyRecord, before: int) -> list[_Draft]:
        if isinstance(found, Opened):
            # Its payload is in ``found`` once more.
            bare = msgspec.structs.replace(frame, payload=b"")
            self._open.add(Waiting(before, bare, found))
            return []
        if isinstance(found, Recorded):
            return [_Draft(_Whole((frame,), _Exchange(found.opened, found.closed)), [])]
        if isinstance(found, Voted):
            return [_Draft(_Whole((frame,), found), [])]
        waiting = self._open.end(found.completion_id)
        if waiting is None:
            self.unmatched += 1
            # Had it come before the crash after all, the event that carries it outranks this.
            return [_Draft(None, [gap(frame, "unmatched")])]
        return [_Draft(_Whole((waiting.frame, frame), _Exchange(waiting.opened, found)), [])]

    def _translated(self, drafts: Sequence[_Draft]) -> list[AnyEvent]:
        for step in (self._assemble, self._redact, self._attribute):
            for number, draft in enumerate(drafts, 1):
                if draft.whole is not None:
                    self._take(step, draft, draft.whole)
                if number % _STEPS == 0:
                    self._breathe()
        return [event for draft in drafts for event in draft.events]

    def _take(self, step: Callable[[_Draft, _Whole], None], draft: _Draft, whole: _Whole) -> None:
        """Take a step; a record with which that fails must not hold up all that come after it."""
        try:
            step(draft, whole)
        except RecordError as error:
            self._give_up(draft, whole, type(error).__name__)
        except Exception as error:  # noqa: BLE001  # anything may be in a record
            # Not the whole traceback: its last line may hold what people wrote.
            what, where = type(error).__name__, logs.places(error)
            log.error("record_not_translated", error=what, places=where)  # noqa: TRY400
            self._give_up(draft, whole, "unexpected")

    def _give_up(self, draft: _Draft, whole: _Whole, reason: str) -> None:
        """Keep records that cannot be used for whoever wants to know why, and declare them."""
        for one in _records(whole):
            self.keep(record.encode(one), reason)
        draft.whole = None
        draft.events = [gap(frame, "set_aside") for frame in whole.frames]

    def _assemble(self, draft: _Draft, whole: _Whole) -> None:
        said = whole.said
        tenant = said.tenant if isinstance(said, Voted) else said.opened.tenant
        keys = self._keys.get(tenant)
        if keys is None:
            raise MalformedEvent(f"no keys for tenant {tenant}")
        draft.keys = keys
        producer, seqs = whole.frames[0].producer, tuple([frame.seq for frame in whole.frames])
        if isinstance(said, _Exchange):
            served = completion_served(said.opened, said.closed, keys)
            draft.events = [msgspec.structs.replace(served, producer=producer, seqs=seqs)]
        else:
            draft.events = [
                msgspec.structs.replace(signal, producer=producer, seqs=seqs)
                for signal in votes.signals(said)
            ]

    def _redact(self, draft: _Draft, _whole: _Whole) -> None:
        # Its hashes are of what was said: they tie it to what was and will be said.
        key = draft.keys.chain
        draft.events = [self._redacting.event(event, key=key) for event in draft.events]

    def _attribute(self, draft: _Draft, _whole: _Whole) -> None:
        completion = draft.events[0] if draft.events else None
        if not isinstance(completion, CompletionServed):
            return
        # Labelling, which finds the same facts under the same ids, sees no more than this.
        implied = self._attribution.add(completion)
        if implied is not None:
            kind = implied.kind.value if isinstance(implied, PromptRetried) else "accepted"
            telemetry.IMPLIED.labels(kind).inc()
            draft.events.append(implied)


def _unended(waiting: Waiting) -> _Draft:
    return _Draft(_Whole((waiting.frame,), _Exchange(waiting.opened, None)), [])


def gap(lost: Frame | SpoolGap, reason: str) -> CaptureGap:
    """Declare that nothing will come of a record, or of a range that the spool shed."""
    first, last = (lost.seq, lost.seq) if isinstance(lost, Frame) else (lost.first, lost.last)
    began, ended = (lost.at, lost.at) if isinstance(lost, Frame) else (lost.first_at, lost.last_at)
    return CaptureGap(
        event_id=event_id("gap", lost.producer, str(first), str(last)),
        tenant=TenantId("default"),
        at=began,
        producer=lost.producer,
        first=first,
        last=last,
        count=last - first + 1,
        reason=reason,
        until=ended,
    )


def _records(whole: _Whole) -> list[AnyRecord]:
    said = whole.said
    if isinstance(said, Voted):
        return [said]
    if said.closed is None:
        return [said.opened]
    if len(whole.frames) == 1:
        return [Recorded(opened=said.opened, closed=said.closed)]
    return [said.opened, said.closed]
