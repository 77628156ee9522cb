"""Behind the spool: raw records become events, and events reach the log. Nobody waits for it.

It reads the spool in order, pairs what was opened with how it closed, removes personal data, looks
for retries, and lets go of the spool only up to where everything is in the log. After a crash it
repeats itself; event ids are made from what an event is about, so that a repeated event counts
once.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
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
    Event,
    PromptRetried,
    TenantId,
)
from feedbackloop.log.port import EventLog, Frame, Outlet, Spool, SpoolGap
from services import telemetry
from services.sidecar.delivery import Delivery
from services.sidecar.passage import Passage
from services.sidecar.redacting import Redacting
from services.sidecar.unanswered import Unanswered, Waiting

log = structlog.get_logger()

_Event = TypeVar("_Event", bound=Event)
_IDLE_SECONDS = 0.5
_PACE_SECONDS = 0.1
_LOOK_SECONDS = 30.0
_SHUT = frozenset({"unreachable", "credentials", "tls", "topic_missing", "no_leader"})


class Translator:
    """Records to events, in the order of the spool. Holds what was opened and not yet closed.

    Args:
        keys: Of every tenant.
        attribution: What was served lately.
        set_aside: Told the payload of each record that cannot be read.
        redacting: Removes personal data; None for all that we recognise.
        held_bytes: How much of the spool a request that is open may hold up. After that it counts
            as ended, until its end comes after all.
    """

    def __init__(
        self,
        keys: Mapping[TenantId, TenantKeys],
        attribution: Attribution,
        set_aside: Callable[[bytes, str], None],
        *,
        redacting: Redacting | None = None,
        held_bytes: int = 512 * 2**20,
    ) -> None:
        self._keys = keys
        self._attribution = attribution
        self._redacting = redacting or Redacting.of_all()
        self.keep = set_aside
        self._open = Unanswered(held_bytes=held_bytes)
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
                self._open.add(Waiting(before, frame, found))
                return []
            return self._record(entry, found)
        except (msgspec.DecodeError, RecordError) as error:
            return self.set_aside(entry, type(error).__name__)

    def abandoned(self, newest: Frame) -> list[AnyEvent]:
        """Close what nobody will close any more.

        Should its end come after all, the event that it makes outranks this one.
        """
        return self._unanswered(self._open.gone(newest))

    def left_by_the_dead(self, alive: str) -> list[AnyEvent]:
        """Close what no incarnation but ``alive`` had closed when everything of theirs was read.

        A spool has one writer: whoever else wrote to it has died.
        """
        return self._unanswered(self._open.left_by_the_dead(alive))

    def set_aside(self, entry: Frame | SpoolGap, reason: str) -> list[AnyEvent]:
        """Keep a record that cannot be used for whoever wants to know why, and declare it."""
        if isinstance(entry, SpoolGap):
            return [_gap(entry, entry.reason)]
        self.keep(entry.payload, reason)
        return [_gap(entry, "set_aside")]

    def anew(self) -> "Translator":
        """Return one for another spool, with the same keys and the same memory of conversations."""
        another = copy(self)
        another.begin()
        return another

    def begin(self) -> None:
        """Forget what was opened, and where: another spool is to be read."""
        self._open = self._open.anew()
        self._previous = -1

    def finished(self) -> int:
        """Return the position through which nothing is needed any more, -1 at first."""
        before = self._open.before_first()
        return self._previous if before is None else before

    def _unanswered(self, left: Sequence[Waiting]) -> list[AnyEvent]:
        events: list[AnyEvent] = []
        for one in left:
            events += self._completion([one.frame], one.opened, None)
        return events

    def _record(self, frame: Frame, found: Closed | Voted | Recorded) -> list[AnyEvent]:
        if isinstance(found, Recorded):
            return self._completion([frame], found.opened, found.closed)
        if isinstance(found, Closed):
            waiting = self._open.end(found.completion_id)
            if waiting is None:
                self.unmatched += 1
                # Had it come before the crash after all, the event that carries it outranks this.
                return [_gap(frame, "unmatched")]
            return self._completion([waiting.frame, frame], waiting.opened, found)
        keys = self._keys_of(found.tenant)
        given = [self._redacting.event(one, key=keys.chain) for one in votes.signals(found)]
        return [_numbered(signal, [frame]) for signal in given]

    def _completion(
        self, frames: Sequence[Frame], opened: Opened, closed: Closed | None
    ) -> list[AnyEvent]:
        try:
            keys = self._keys_of(opened.tenant)
            whole = completion_served(opened, closed, keys=keys)
            # Its hashes are of what was said: they tie it to what was and will be said.
            completion = self._redacting.event(whole, key=keys.chain)
        except RecordError as error:
            for half in (opened, closed):
                if half is not None:
                    self.keep(record.encode(half), type(error).__name__)
            return [_gap(frame, "set_aside") for frame in frames]
        # Labelling, which finds the same facts under the same ids, sees no more than this.
        implied = self._attribution.add(completion)
        numbered = _numbered(completion, frames)
        if implied is None:
            return [numbered]
        kind = implied.kind.value if isinstance(implied, PromptRetried) else "accepted"
        telemetry.IMPLIED.labels(kind).inc()
        return [numbered, implied]

    def _keys_of(self, tenant: TenantId) -> TenantKeys:
        keys = self._keys.get(tenant)
        if keys is None:
            raise MalformedEvent(f"no keys for tenant {tenant}")
        return keys


async def _nothing() -> None:
    pass


class Forwarder:
    """The thread behind the spool.

    Args:
        spool: Read, and released up to where everything is in the log.
        event_log: Written to.
        translator: Records to events.
        random: For the spread of waiting times.
        prepare: Awaited before anything is translated.
        adopt: Returns a spool that a dead process has left, to be forwarded beside ours.
    """

    def __init__(  # one for each thing that it needs
        self,
        spool: Outlet,
        event_log: EventLog,
        translator: Translator,
        *,
        random: Random,
        prepare: Callable[[], Awaitable[None]] = _nothing,
        adopt: Callable[[], Spool | None] = lambda: None,
    ) -> None:
        self._log = event_log
        self._translator = translator
        self._prepare = prepare
        self._adopt = adopt
        self._delivery = Delivery(event_log, set_aside=translator.keep, random=random)
        self._stopping = threading.Event()
        self._own = Passage(spool, translator, self._delivery)
        self._orphan: Passage | None = None
        self._look_at = 0.0
        self._thread = threading.Thread(target=self._main, name="forwarder", daemon=True)

    @property
    def forwarded(self) -> int:
        """Events appended since the start."""
        return self._delivery.delivered

    @property
    def is_alive(self) -> bool:
        """Whether anything will still be forwarded."""
        return self._thread.is_alive()

    def oldest_seconds(self) -> float:
        """Return the age of the oldest record that was read and is not confirmed, 0 if none is."""
        return self._own.oldest_seconds()

    def start(self) -> None:
        """Begin to forward, and to show how far behind the log is."""
        telemetry.SPOOL_BACKLOG_BYTES.set_function(self._own.spool.behind_bytes)
        telemetry.OLDEST_UNCONFIRMED_SECONDS.set_function(self._own.oldest_seconds)
        self._thread.start()

    def stop(self, *, drain_seconds: float) -> bool:
        """Forward what is there for at most ``drain_seconds``; say whether all of it went."""
        self._stopping.set()
        self._thread.join(drain_seconds)
        return not self._thread.is_alive()

    async def close(self) -> None:
        """Give up what is being appended, and close the log. Nothing is forwarded any more."""
        await self._log.close()

    def _main(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        await self._get_ready()
        counting = asyncio.create_task(self._count())
        try:
            await self._loop()
        finally:
            counting.cancel()

    async def _count(self) -> None:
        """Show what goes wrong in the spool, also while the log holds everything up."""
        while True:
            self._own.troubles.count()
            await asyncio.sleep(_IDLE_SECONDS)

    async def _loop(self) -> None:
        while True:
            stopping = self._stopping.is_set()
            try:
                moved = await self._forward(stopping=stopping)
            except Exception:  # the outermost loop: what is in the spool can wait
                log.exception("forwarding_failed")
                telemetry.FORWARD_ERRORS.inc()
                await asyncio.sleep(_IDLE_SECONDS)
                continue
            if stopping and not moved:
                await self._own.finish()
                return
            if not moved:
                self._own.release()
                self._own.spool.wait(after=self._own.after, timeout_seconds=_IDLE_SECONDS)
            elif not self._own.behind:
                # A batch costs a sync and a few switches of threads, however small it is.
                self._stopping.wait(_PACE_SECONDS)

    async def _get_ready(self) -> None:
        """Prepare; while the log does not let us in, nothing could be forwarded anyway."""
        while not self._stopping.is_set():
            try:
                await self._prepare()
            except LogUnavailable as error:
                telemetry.LOG_UNAVAILABLE.labels(error.reason).inc()
                log.warning("log_unavailable", error=str(error), reason=error.reason)
                if error.reason not in _SHUT:
                    return
                self._own.look()
                await asyncio.sleep(_IDLE_SECONDS)
            except Exception:  # what is recorded matters more than what is remembered
                log.exception("preparation_failed")
                return
            else:
                return

    async def _forward(self, *, stopping: bool) -> bool:
        """Move a batch of ours, and one of whoever left theirs; say whether there was any."""
        moved = await self._own.move()
        if stopping:
            # What another has left can wait for the next one who looks.
            if self._orphan is not None:
                self._put_down(self._orphan)
            return moved
        if self._orphan is None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_SECONDS
            self._take_up()
        if self._orphan is not None and not await self._orphan.move():
            self._put_down(self._orphan)
            self._look_at = 0.0  # there may be another one
        return moved or self._orphan is not None

    def _take_up(self) -> None:
        spool = self._adopt()
        if spool is not None:
            telemetry.SPOOLS_ADOPTED.inc()
            log.info("spool_adopted", bytes=spool.behind_bytes())
            self._orphan = Passage(spool, self._translator.anew(), self._delivery)

    def _put_down(self, orphan: Passage) -> None:
        self._orphan = None
        orphan.release()
        orphan.spool.close()


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
