"""Redaction as the forwarder uses it: what was removed is counted, and never shown."""

from typing import TypeVar

import structlog

from feedbackloop.capture.placeholders import Tally
from feedbackloop.capture.redaction import Redaction
from feedbackloop.capture.redactor import Redactor, built_in
from feedbackloop.events import Event
from services import telemetry

log = structlog.get_logger()

_Event = TypeVar("_Event", bound=Event)


class Redacting:
    """Redacts events and counts. Belongs to one thread.

    Args:
        redactor: What removes; None to remove nothing.
    """

    def __init__(self, redactor: Redactor | None) -> None:
        self._redaction = Redaction(redactor)

    @classmethod
    def of_all(cls) -> "Redacting":
        """Remove all that we recognise."""
        return cls(Redactor(built_in()))

    def event(self, event: _Event, *, key: bytes) -> _Event:
        """Return an event without personal data; raises like ``Redaction.event``."""
        redacted = self._redaction.event(event, key=key)
        tally = self._redaction.tally
        if tally.removed or tally.failed:
            _count(tally)
        return redacted


def _count(tally: Tally) -> None:
    for kind, count in tally.removed.items():
        telemetry.REDACTED.labels(kind).inc(count)
    for failure, count in tally.failed.items():
        log.error("text_withheld", failure=failure, texts=count)
        telemetry.REDACTION_FAILURES.inc(count)
    tally.removed.clear()
    tally.failed.clear()
