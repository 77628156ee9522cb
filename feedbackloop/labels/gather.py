"""Bring each completion together with the signals about it."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

import msgspec

from feedbackloop.events import (
    AnyEvent,
    AnySignal,
    CaptureGap,
    CompletionId,
    CompletionServed,
    EventId,
    PromptRetried,
    Signal,
)
from feedbackloop.log.completeness import Audit


class Gathered(msgspec.Struct, frozen=True, kw_only=True):
    """One completion and what was said about it.

    Attributes:
        completion_id: What it is about.
        completion: The completion, or None while only signals arrived.
        signals: Every distinct signal, in the order of their event ids.
    """

    completion_id: CompletionId
    completion: CompletionServed | None
    signals: tuple[AnySignal, ...]


class Gathering:
    """Completions and signals joined, in whichever order and however often they arrive.

    An event counts once, by its id. The log may hold the same completion twice (a forwarder
    repeats itself after a crash, with another idea of how it ended); the record that knows
    more wins, whichever came first.
    """

    def __init__(self) -> None:
        self._completions: dict[CompletionId, CompletionServed] = {}
        self._signals: defaultdict[CompletionId, dict[EventId, AnySignal]] = defaultdict(dict)
        self._gaps: dict[EventId, CaptureGap] = {}
        self._outranked: list[CompletionServed | AnySignal] = []
        """Of two events with one id and different records the one that does not count."""

    def add(self, event: AnyEvent) -> CompletionId | None:
        """Take one event in; return the completion about which something is new, if any."""
        if isinstance(event, CompletionServed):
            known = self._completions.get(event.completion_id)
            if known is not None and not _knows_more(event, known):
                self._outrank(event, by=known)
                return None
            self._completions[event.completion_id] = event
            self._outrank(known, by=event)
            return event.completion_id
        if isinstance(event, Signal):
            signals = self._signals[event.completion_id]
            known_signal = signals.get(event.event_id)
            if known_signal is not None and _ahead(known_signal) >= _ahead(event):
                self._outrank(event, by=known_signal)
                return None
            signals[event.event_id] = event
            self._outrank(known_signal, by=event)
            return event.completion_id
        if isinstance(event, CaptureGap):
            self._gaps[event.event_id] = event
        return None

    def of(self, completion_id: CompletionId) -> Gathered:
        """Return what is known about one completion."""
        signals = self._signals.get(completion_id, {})
        return Gathered(
            completion_id=completion_id,
            completion=self._completions.get(completion_id),
            signals=tuple(signals[event_id] for event_id in sorted(signals)),
        )

    def completions(self) -> Iterator[Gathered]:
        """Yield every completion that was recorded, by the time of its acceptance."""
        order = sorted(
            self._completions.values(), key=lambda one: (one.accepted_at, one.completion_id)
        )
        for completion in order:
            yield self.of(completion.completion_id)

    def audit(self) -> Audit:
        """Hold what producers numbered against what arrived."""
        audit = Audit()
        for event in self._everything():
            audit.add(event)
        return audit

    def orphans(self) -> int:
        """Count the completions that only signals speak of: shed, or not yet arrived."""
        return sum(1 for completion_id in self._signals if completion_id not in self._completions)

    def until(self, moment: datetime) -> "Gathering":
        """Return what was known at ``moment``: later events left out."""
        past = Gathering()
        for event in self._everything():
            if _happened_at(event) <= moment:
                past.add(event)
        return past

    def _everything(self) -> Iterator[CompletionServed | AnySignal | CaptureGap]:
        yield from self._completions.values()
        for signals in self._signals.values():
            yield from signals.values()
        yield from self._gaps.values()
        yield from self._outranked

    def _outrank(
        self, event: CompletionServed | AnySignal | None, *, by: CompletionServed | AnySignal
    ) -> None:
        """Keep an event that does not count for the audit: its records arrived all the same."""
        if event is not None and (event.producer, event.seqs) != (by.producer, by.seqs):
            self._outranked.append(event)


def retried(gathered: Gathered) -> tuple[PromptRetried, ...]:
    """Return the retries of one completion, earliest first."""
    retries = (signal for signal in gathered.signals if isinstance(signal, PromptRetried))
    return tuple(sorted(retries, key=lambda retry: (retry.at, retry.event_id)))


def _happened_at(event: CompletionServed | AnySignal | CaptureGap) -> datetime:
    return event.ended_at if isinstance(event, CompletionServed) else event.at


def _ahead(signal: AnySignal) -> bytes:
    """Order signals that claim one id, so that the same one is kept in whichever order."""
    return msgspec.json.encode(signal)


def _knows_more(new: CompletionServed, known: CompletionServed) -> bool:
    """Prefer the record that saw more of the reply; at a tie, the same one in any order."""
    return _knowledge(new) > _knowledge(known)


def _knowledge(record: CompletionServed) -> tuple[int, datetime, bytes]:
    words = sum(len(reply.text) for reply in record.replies)
    return words, record.ended_at, msgspec.json.encode(record)
