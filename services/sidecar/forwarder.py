"""Behind the spool: raw records become events, and events reach the log. Nobody waits for it.

It reads the spool in order, pairs what was opened with how it closed, removes personal data, looks
for retries, and lets go of the spool only up to where everything is in the log. After a crash it
repeats itself; event ids are made from what an event is about, so that a repeated event counts
once.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from random import Random

import structlog

from feedbackloop.errors import LogUnavailable
from feedbackloop.log.port import EventLog, Outlet, Spool
from services import telemetry
from services.sidecar.delivery import Delivery
from services.sidecar.passage import Passage
from services.sidecar.pulse import Pulse
from services.sidecar.translator import Translator

log = structlog.get_logger()

_IDLE_SECONDS = 0.5
_PACE_SECONDS = 0.1
_LOOK_SECONDS = 30.0
_SHUT = frozenset({"unreachable", "credentials", "tls", "topic_missing", "no_leader"})


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
        pulse: Beats with each step; None for one of its own.
    """

    def __init__(  # noqa: PLR0913  # one for each thing that it needs
        self,
        spool: Outlet,
        event_log: EventLog,
        translator: Translator,
        *,
        random: Random,
        prepare: Callable[[], Awaitable[None]] = _nothing,
        adopt: Callable[[], Spool | None] = lambda: None,
        pulse: Pulse | None = None,
    ) -> None:
        self._log = event_log
        self._translator = translator
        self._prepare = prepare
        self._adopt = adopt
        self.pulse = pulse or Pulse()
        self._delivery = Delivery(
            event_log, set_aside=translator.keep, random=random, pulse=self.pulse
        )
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
            self.pulse.beat()
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
            self.pulse.beat()
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
