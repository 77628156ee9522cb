"""Behind the spool: raw records become events, and events reach the log. Nobody waits for it.

It reads the spool in order, pairs what was opened with how it closed, looks for retries, and lets
go of the spool only up to where everything is in the log. After a crash it repeats itself; event
ids are made from what an event is about, so that a repeated event counts once.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

import msgspec
import structlog

from feedbackloop.capture import record, votes
from feedbackloop.capture.attribution import Attribution
from feedbackloop.capture.exchange import completion_served
from feedbackloop.capture.identity import TenantKeys, event_id
from feedbackloop.capture.record import Closed, Opened, Voted
from feedbackloop.errors import LogUnavailable, MalformedEvent, RecordError
from feedbackloop.events import AnyEvent, CaptureGap, CompletionId, CompletionServed, TenantId
from feedbackloop.log.port import EventLog, Frame, Offset, Spool, SpoolGap
from services import telemetry

log = structlog.get_logger()

_BATCH = 500
_IDLE_SECONDS = 0.5
_MAX_WAIT_SECONDS = 10.0
_REMEMBERED = 2_000  # completions of the last talks that are known again after a start
_LOOK_BACK = 16 * 2**20  # how far back in the log those are looked for


class _Waiting(msgspec.Struct, frozen=True):
    """An opened request whose end was not yet read, and the entry just before it."""

    before: int
    producer: str
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

    def events(self, entry: Frame | SpoolGap) -> list[AnyEvent]:
        """Return what follows from one entry; what cannot be read is set aside."""
        before, self._previous = self._previous, entry.position
        if isinstance(entry, SpoolGap):
            return [_gap(entry)]
        try:
            found = record.decode(entry.payload)
            if isinstance(found, Opened):
                self._open[found.completion_id] = _Waiting(before, entry.producer, found)
                return []
            return self._record(found)
        except (msgspec.DecodeError, RecordError) as error:
            self._set_aside(entry.payload, type(error).__name__)
            return []

    def abandoned(self, *, by_others_than: str) -> list[AnyEvent]:
        """Close what an earlier incarnation opened and, having died, cannot close any more."""
        gone = [w for w in self._open.values() if w.producer != by_others_than]
        events: list[AnyEvent] = []
        for waiting in gone:
            del self._open[waiting.opened.completion_id]
            events += self._completion(waiting.opened, None)
        return events

    def finished(self) -> int:
        """Return the position through which nothing is needed any more, -1 at first."""
        return min((waiting.before for waiting in self._open.values()), default=self._previous)

    def _record(self, found: Closed | Voted) -> list[AnyEvent]:
        if isinstance(found, Closed):
            waiting = self._open.pop(found.completion_id, None)
            if waiting is None:
                raise MalformedEvent("a reply without its request")
            return self._completion(waiting.opened, found)
        return list(votes.signals(found))

    def _completion(self, opened: Opened, closed: Closed | None) -> list[AnyEvent]:
        completion = completion_served(opened, closed, keys=self._keys[opened.tenant])
        implied = self._attribution.add(completion)
        return [completion] if implied is None else [completion, implied]


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
                return
            if not moved:
                self._spool.wait(after=self._after, timeout_seconds=_IDLE_SECONDS)

    async def _forward(self) -> bool:
        """Move one batch from the spool to the log; say whether there was any."""
        batch = [
            entry
            for entry, _ in zip(self._spool.read(after=self._after), range(_BATCH), strict=False)
        ]
        if not batch:
            return False
        events: list[AnyEvent] = []
        for entry in batch:
            events += self._translator.events(entry)
        newest = batch[-1]
        if isinstance(newest, Frame):
            events += self._translator.abandoned(by_others_than=newest.producer)
        await self._append(events)
        self._after = newest.position
        # What was opened and has not closed is kept: after a crash it is evidence.
        self._spool.release(through=self._translator.finished())
        return True

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
    """Records that nobody can read, kept in a file for whoever wants to know why."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, payload: bytes, reason: str) -> None:
        telemetry.DEAD_LETTERS.labels(reason=reason).inc()
        log.error("record_set_aside", reason=reason, file=str(self._file))
        line = msgspec.json.encode({"reason": reason, "payload": payload}) + b"\n"
        with contextlib.suppress(OSError), self._file.open("ab") as file:
            file.write(line)


async def remember(event_log: EventLog, partition: str, attribution: Attribution) -> None:
    """Teach ``attribution`` what this sidecar served last, from its own end of the log."""
    recent: list[CompletionServed] = []
    end = await event_log.end(partition)
    # Positions grow by at least 1 an entry, whatever they count: this bounds what is read.
    start = Offset(partition, max(-1, end.position - _LOOK_BACK))
    async for entry in event_log.read(after=start):
        if isinstance(entry.event, CompletionServed):
            recent.append(entry.event)
            del recent[:-_REMEMBERED]
    for completion in recent:
        attribution.add(completion)


def _gap(gap: SpoolGap) -> CaptureGap:
    return CaptureGap(
        event_id=event_id("gap", gap.producer, str(gap.first), str(gap.last)),
        tenant=TenantId("default"),
        at=gap.first_at,
        producer=gap.producer,
        first=gap.first,
        last=gap.last,
        count=gap.last - gap.first + 1,
        reason=gap.reason,
        until=gap.last_at,
    )
