"""Events into the log, for as long as it takes, and what the log refuses set aside."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random

import structlog

from feedbackloop.capture.identity import event_id
from feedbackloop.errors import EventsRefused, LogUnavailable
from feedbackloop.events import AnyEvent, CaptureGap
from feedbackloop.log import codec
from feedbackloop.log.port import EventLog
from services import telemetry
from services.sidecar.pulse import Pulse

log = structlog.get_logger()

_FIRST_WAIT_SECONDS = 0.1
_MAX_WAIT_SECONDS = 10.0
_BEAT_SECONDS = 0.5


class Delivery:
    """Appends to the log; nobody waits for it but the spool, which is bounded for it.

    Args:
        event_log: Where events go.
        set_aside: Told what the log will never take, and why.
        random: For the spread of waiting times.
        pulse: Beats with each attempt that has ended, and while the next one is waited for.
    """

    def __init__(
        self,
        event_log: EventLog,
        *,
        set_aside: Callable[[bytes, str], None],
        random: Random,
        pulse: Pulse,
    ) -> None:
        self._log = event_log
        self._set_aside = set_aside
        self._random = random
        self._pulse = pulse
        self.delivered = 0
        """Events that the log confirmed since the start."""

    async def deliver(self, events: Sequence[AnyEvent]) -> None:
        """Append all of them, in order; those that are refused are declared lost."""
        wait = _FIRST_WAIT_SECONDS
        while events:
            try:
                await self._attempt(events)
            except EventsRefused as error:
                self._count(len(events) - len(error.refused))
                events = self._declared(events, error)
            except LogUnavailable as error:
                self._count(error.stored)
                events = events[error.stored :]
                wait = _FIRST_WAIT_SECONDS if error.stored else wait
                await self._wait(error, wait)
                wait = min(wait * 2, _MAX_WAIT_SECONDS)
            else:
                self._count(len(events))
                return

    async def _attempt(self, events: Sequence[AnyEvent]) -> None:
        try:
            await self._log.append(events)
        finally:
            self._pulse.beat()

    async def _wait(self, error: LogUnavailable, seconds: float) -> None:
        telemetry.LOG_UNAVAILABLE.labels(error.reason).inc()
        log.warning(
            "log_unavailable",
            error=str(error),
            reason=error.reason,
            retry_seconds=round(seconds, 1),
        )
        left = seconds * self._random.uniform(0.5, 1.5)
        while left > 0:
            await asyncio.sleep(min(left, _BEAT_SECONDS))
            self._pulse.beat()
            left -= _BEAT_SECONDS

    def _count(self, events: int) -> None:
        self.delivered += events
        telemetry.EVENTS_FORWARDED.inc(events)

    def _declared(self, events: Sequence[AnyEvent], error: EventsRefused) -> list[AnyEvent]:
        """Set aside what is refused; return what is to be told the log instead."""
        gaps: list[AnyEvent] = []
        for place, reason in error.refused.items():
            event = events[place]
            self._set_aside(codec.encode(event), reason)
            gaps += [_gap(event, seq, reason) for seq in event.seqs]
        return gaps


def _gap(event: AnyEvent, seq: int, reason: str) -> CaptureGap:
    return CaptureGap(
        event_id=event_id("gap", event.producer, str(seq), str(seq)),
        tenant=event.tenant,
        at=event.at,
        producer=event.producer,
        first=seq,
        last=seq,
        count=1,
        reason=reason,
        until=event.at,
    )
