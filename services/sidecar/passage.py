"""One spool's way into the log: read, translated, delivered, and let go of."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import structlog

from feedbackloop.events import AnyEvent
from feedbackloop.log.port import Frame, Outlet, SpoolGap
from services import telemetry
from services.sidecar.delivery import Delivery
from services.sidecar.troubles import Troubles

log = structlog.get_logger()

_BATCH = 500
_BATCH_BYTES = 8 * 2**20
_RELEASE_SECONDS = 1.0


class Translates(Protocol):
    """Records to events; see ``translator.Translator``."""

    def events(self, entries: Sequence[Frame | SpoolGap]) -> Sequence[AnyEvent]: ...
    def left_by_the_dead(self, alive: str) -> Sequence[AnyEvent]: ...
    def finished(self) -> int: ...


class Passage:
    """Moves one spool's records into the log, a batch at a time.

    Args:
        spool: Read, and released up to where everything is in the log.
        translator: Records to events.
        delivery: Events into the log.
    """

    def __init__(self, spool: Outlet, translator: Translates, delivery: Delivery) -> None:
        self.spool = spool
        self.after = spool.released()
        """Everything up to this position is in the log."""
        self.behind = False
        """Whether there was more to read than the last batch."""
        self._translator = translator
        self._delivery = delivery
        self._events: list[AnyEvent] = []
        self._through = self.after
        self._released_at = time.monotonic()
        self._oldest: datetime | None = None
        self.troubles = Troubles(spool)

    def oldest_seconds(self) -> float:
        """Return the age of the oldest record that was read and is not confirmed, 0 if none is."""
        oldest = self._oldest
        return 0.0 if oldest is None else (datetime.now(UTC) - oldest).total_seconds()

    def look(self) -> None:
        """Learn how old the first record is that waits, though nothing can be moved yet."""
        first = next(iter(self.spool.read(after=self.after)), None)
        if first is not None:
            self._oldest = first.at if isinstance(first, Frame) else first.first_at

    async def move(self) -> bool:
        """Move one batch from the spool to the log; say whether there was any."""
        # Translated once: what was opened and then closed cannot be paired a second time.
        if self._through == self.after:
            self._translate()
        if self._through == self.after and not self._events:
            return False
        await self._delivery.deliver(self._events)
        self._events, self.after, self._oldest = [], self._through, None
        if time.monotonic() > self._released_at + _RELEASE_SECONDS:
            self.release()
        return True

    async def finish(self) -> None:
        """Close what is still open, once nothing is written any more: its end was shed."""
        await self._delivery.deliver(self._translator.left_by_the_dead(alive=""))
        self.release()

    def release(self) -> None:
        """Let the spool go of what is in the log; it costs a sync, too.

        What was opened and has not closed is kept: after a crash it is evidence.
        """
        self._released_at = time.monotonic()
        self.troubles.count()
        try:
            self.spool.release(through=self._translator.finished())
        except OSError as error:
            # It is in the log, and will be released when the disk takes it.
            telemetry.FORWARD_ERRORS.inc()
            log.warning("spool_not_released", error=str(error))

    def _translate(self) -> None:
        entries = self._batch()
        if entries:
            first = entries[0]
            self._oldest = first.at if isinstance(first, Frame) else first.first_at
            self._events += self._translator.events(entries)
            self._through = entries[-1].position
        if not self.behind:
            self._events += self._translator.left_by_the_dead(self.spool.producer)

    def _batch(self) -> list[Frame | SpoolGap]:
        """Read what is next, as much as is worth a sync."""
        entries: list[Frame | SpoolGap] = []
        size = 0
        self.behind = True
        for entry in self.spool.read(after=self.after):
            entries.append(entry)
            size += len(entry.payload) if isinstance(entry, Frame) else 0
            if size >= _BATCH_BYTES or len(entries) == _BATCH:
                return entries
        self.behind = False
        return entries
