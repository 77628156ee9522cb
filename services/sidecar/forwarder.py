"""Behind the spool: raw records become events, and events reach the log. Nobody waits for it.

It reads the spool in order, pairs what was opened with how it closed, looks for retries, and lets
go of the spool only up to where everything is in the log. After a crash it repeats itself; event
ids are made from what an event is about, so that a repeated event counts once.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec
import structlog

from feedbackloop.capture import record, votes
from feedbackloop.capture.attribution import Attribution
from feedbackloop.capture.exchange import completion_served
from feedbackloop.capture.identity import TenantKeys, event_id
from feedbackloop.capture.record import Closed, Opened, Recorded, Voted
from feedbackloop.errors import LogUnavailable, MalformedEvent, RecordError
from feedbackloop.events import (
    AnyEvent,
    CaptureGap,
    CompletionId,
    CompletionServed,
    Event,
    TenantId,
)
from feedbackloop.log.port import EventLog, Frame, Offset, Spool, SpoolGap
from services import telemetry

log = structlog.get_logger()

_Event = TypeVar("_Event", bound=Event)
_BATCH = 500
_BATCH_BYTES = 8 * 2**20
_PATIENCE = timedelta(hours=1)  # longer than a reply takes: after that its end was shed
_IDLE_SECONDS = 0.5
_PACE_SECONDS = 0.1
_RELEASE_SECONDS = 1.0
_MAX_WAIT_SECONDS = 10.0
_REMEMBERED = 2_000  # completions of the last talks that are known again after a start
_LOOK_BACK = 16 * 2**20  # how far back in the log those are looked for


class _Waiting(msgspec.Struct, frozen=True):
    """An opened request whose end was not yet read, and the entry just before it."""

    before: int
    frame: Frame
    opened: Opened


class Translator:
    """Records to events, in the order of the spool. Holds what was opened and not yet closed.

    Args:
        keys: Of every tenant.
        attribution: What was served lately.
        set_aside: Told the payload of each record that cannot be read.
    """

    def __init__(
        self,
        keys: Mapping[TenantId, TenantKeys],
        attribution: Attribution,
        set_aside: Callable[[bytes, str], None],
    ) -> None:
        self._keys = keys
        self._attribution = attribution
        self._set_aside = set_aside
        self._open: dict[CompletionId, _Waiting] = {}
        self._previous = -1
        self.unmatched = 0
        """Replies whose request is known no more: it went to the log before a crash, or was shed
        and is declared as a gap."""

    def events(self, entry: Frame | SpoolGap) -> list[AnyEvent]:
        """Return what follows from one entry; what cannot be read is set aside."""
        before, self._previous = self._previous, entry.position
        if isinstance(entry, SpoolGap):
            return [_gap(entry, entry.reason)]
        try:
            found = record.decode(entry.payload)
            if isinstance(found, Opened):
                # Its payload is in ``found`` once more.
                frame = msgspec.structs.replace(entry, payload=b"")
                self._open[found.completion_id] = _Waiting(before, frame, found)
                return []
            return self._record(entry, found)
        except (msgspec.DecodeError, RecordError) as error:
            return self.set_aside(entry, type(error).__name__)

    def abandoned(self, newest: Frame) -> list[AnyEvent]:
        """Close what nobody will close any more.

        Its incarnation has died, since a younger one wrote ``newest``; or its end was shed, and
        it would keep the spool from letting go for ever.
        """
        events: list[AnyEvent] = []
        for waiting in self._gone(newest):
            del self._open[waiting.opened.completion_id]
            events += self._completion([waiting.frame], waiting.opened, None)
        return events

    def set_aside(self, entry: Frame | SpoolGap, reason: str) -> list[AnyEvent]:
        """Keep a record that cannot be used for whoever wants to know why, and declare it."""
        if isinstance(entry, SpoolGap):
            return [_gap(entry, entry.reason)]
        self._set_aside(entry.payload, reason)
        return [_gap(entry, "set_aside")]

    def finished(self) -> int:
        """Return the position through which nothing is needed any more, -1 at first."""
        # They were opened in the order of the spool.
        return next((waiting.before for waiting in self._open.values()), self._previous)

    def _gone(self, newest: Frame) -> list[_Waiting]:
        """List what died or was given up. It was opened in order: the oldest stand first."""
        return list(
            takewhile(
                lambda one: (
                    one.frame.producer != newest.producer or newest.at - one.frame.at > _PATIENCE
                ),
                self._open.values(),
            )
        )

    def _record(self, frame: Frame, found: Closed | Voted | Recorded) -> list[AnyEvent]:
        if isinstance(found, Recorded):
            return self._completion([frame], found.opened, found.closed)
        if isinstance(found, Closed):
            waiting = self._open.pop(found.completion_id, None)
            if waiting is None:
                self.unmatched += 1
                # Had it come before the crash after all, the event that carries it outranks this.
                return [_gap(frame, "unmatched")]
            return self._completion([waiting.frame, frame], waiting.opened, found)
        return [_numbered(signal, [frame]) for signal in votes.signals(found)]

    def _completion(
        self, frames: Sequence[Frame], opened: Opened, closed: Closed | None
    ) -> list[AnyEvent]:
        try:
            keys = self._keys.get(opened.tenant)
            if keys is None:
                raise MalformedEvent(f"no keys for tenant {opened.tenant}")
            completion = completion_served(opened, closed, keys=keys)
        except RecordError as error:
            for half in (opened, closed):
                if half is not None:
                    self._set_aside(record.encode(half), type(error).__name__)
            return [_gap(frame, "set_aside") for frame in frames]
        implied = self._attribution.add(completion)
        numbered = _numbered(completion, frames)
        return [numbered] if implied is None else [numbered, implied]


class Forwarder:
    """The thread behind the spool.

    Args:
        spool: Read, and released up to where everything is in the log.
        event_log: Written to.
        translator: Records to events.
        random: For the spread of waiting times.
    """

    def __init__(
        self, spool: Spool, event_log: EventLog, translator: Translator, *, random: Random
    ) -> None:
        self._spool = spool
        self._log = event_log
        self._translator = translator
        self._random = random
        self._stopping = threading.Event()
        self._after = spool.released()
        self._events: list[AnyEvent] = []
        self._through = self._after
        self._behind = False
        self._released_at = time.monotonic()
        self._thread = threading.Thread(target=self._main, name="forwarder", daemon=True)
        self.forwarded = 0
        """Events appended since the start."""

    def start(self) -> None:
        """Begin to forward."""
        self._thread.start()

    def stop(self, *, drain_seconds: float) -> bool:
        """Forward what is there for at most ``drain_seconds``; say whether all of it went."""
        self._stopping.set()
        self._thread.join(drain_seconds)
        return not self._thread.is_alive()

    def _main(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        while True:
            stopping = self._stopping.is_set()
            try:
                moved = await self._forward()
            except Exception:  # the outermost loop: what is in the spool can wait
                log.exception("forwarding_failed")
                telemetry.FORWARD_ERRORS.inc()
                await asyncio.sleep(_IDLE_SECONDS)
                continue
            if stopping and not moved:
                self._release()
                return
            if not moved:
                self._release()
                self._spool.wait(after=self._after, timeout_seconds=_IDLE_SECONDS)
            elif not self._behind:
                # A batch costs a sync and a few switches of threads, however small it is.
                self._stopping.wait(_PACE_SECONDS)

    async def _forward(self) -> bool:
        """Move one batch from the spool to the log; say whether there was any."""
        # Translated once: what was opened and then closed cannot be paired a second time.
        if self._through == self._after:
            self._translate()
        if self._through == self._after:
            return False
        await self._append(self._events)
        self._events, self._after = [], self._through
        if time.monotonic() > self._released_at + _RELEASE_SECONDS:
            self._release()
        return True

    def _release(self) -> None:
        """Let the spool go of what is in the log; it costs a sync, too.

        What was opened and has not closed is kept: after a crash it is evidence.
        """
        self._released_at = time.monotonic()
        self._spool.release(through=self._translator.finished())

    def _translate(self) -> None:
        size = 0
        self._behind = True
        for number, entry in enumerate(self._spool.read(after=self._after), 1):
            try:
                self._events += self._translator.events(entry)
                if isinstance(entry, Frame):
                    size += len(entry.payload)
                    self._events += self._translator.abandoned(entry)
            except Exception:  # one record must not hold up all that come after it
                log.exception("record_not_translated")
                self._events += self._translator.set_aside(entry, "unexpected")
            self._through = entry.position
            if size >= _BATCH_BYTES or number == _BATCH:
                return
        self._behind = False

    async def _append(self, events: Sequence[AnyEvent]) -> None:
        """Append, for as long as it takes: the spool is bounded for it."""
        wait = 0.1
        while events:
            try:
                await self._log.append(events)
            except LogUnavailable as error:
                log.warning("log_unavailable", error=str(error), retry_seconds=round(wait, 1))
                telemetry.LOG_UNAVAILABLE.inc()
                await asyncio.sleep(wait * self._random.uniform(0.5, 1.5))
                wait = min(wait * 2, _MAX_WAIT_SECONDS)
                continue
            self.forwarded += len(events)
            telemetry.EVENTS_FORWARDED.inc(len(events))
            return


class DeadLetters:
    """Records that nobody can read, kept in a file for whoever wants to know why.

    They hold what people wrote: only the file's owner can read it. It stops growing at
    ``max_bytes``; what is left out is counted all the same.
    """

    def __init__(self, file: Path, *, max_bytes: int = 64 * 2**20) -> None:
        self._file = file
        self._max_bytes = max_bytes

    def __call__(self, payload: bytes, reason: str) -> None:
        telemetry.DEAD_LETTERS.labels(reason=reason).inc()
        log.error("record_set_aside", reason=reason, file=str(self._file))
        line = msgspec.json.encode({"reason": reason, "payload": payload}) + b"\n"
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "ab") as file:
                if file.tell() + len(line) <= self._max_bytes:
                    file.write(line)


async def remember(event_log: EventLog, partition: str, attribution: Attribution) -> None:
    """Teach ``attribution`` what this sidecar served last, from its own end of the log."""
    recent: deque[CompletionServed] = deque(maxlen=_REMEMBERED)
    end = await event_log.end(partition)
    # Positions grow by at least 1 an entry, whatever they count: this bounds what is read.
    start = Offset(partition, max(-1, end.position - _LOOK_BACK))
    # Retention took the older part: what it left is enough to remember.
    with contextlib.suppress(LogUnavailable):
        start = await _oldest(event_log, start)
        async for entry in event_log.read(after=start):
            if isinstance(entry.event, CompletionServed):
                recent.append(entry.event)
    for completion in recent:
        attribution.add(completion)


async def _oldest(event_log: EventLog, start: Offset) -> Offset:
    """Return ``start``, or the beginning if retention took what follows ``start``."""
    try:
        await anext(event_log.read(after=start), None)
    except LogUnavailable:
        return Offset(start.partition, -1)
    return start


def _numbered(event: _Event, frames: Sequence[Frame]) -> _Event:
    return msgspec.structs.replace(
        event, producer=frames[0].producer, seqs=tuple(frame.seq for frame in frames)
    )


def _gap(lost: Frame | SpoolGap, reason: str) -> CaptureGap:
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
