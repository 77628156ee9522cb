"""Spools, translators and a log around a forwarder."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

from feedbackloop.capture import record
from feedbackloop.capture.attribution import Attribution
from feedbackloop.capture.record import AnyRecord
from feedbackloop.events import AnyEvent
from feedbackloop.log.memory import MemoryEventLog, MemorySpool
from feedbackloop.log.port import Frame, Offset, SpoolGap
from services.sidecar.forwarder import Forwarder
from services.sidecar.translator import Translator
from tests.capture.records import KEYS, TENANT

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
PATIENT_SECONDS = 10.0


class Shelf:
    """Where records are set aside."""

    def __init__(self) -> None:
        self.found: list[tuple[bytes, str]] = []

    def __call__(self, payload: bytes, reason: str) -> None:
        self.found.append((payload, reason))


class Frames:
    """Numbers records as a spool does."""

    def __init__(self, producer: str = "one", start: int = 0) -> None:
        self.producer = producer
        self._position = start

    def __call__(self, item: AnyRecord | bytes, *, at: datetime = NOON) -> Frame:
        payload = item if isinstance(item, bytes) else record.encode(item)
        self._position += 10
        return Frame(position=self._position, producer=self.producer, seq=0, at=at, payload=payload)


def a_translator(shelf: Shelf | None = None) -> Translator:
    return Translator({TENANT: KEYS}, Attribution(), shelf or Shelf())


def translated(translator: Translator, *entries: Frame | SpoolGap) -> list[AnyEvent]:
    return translator.events(entries)


def run(spool: MemorySpool, event_log: MemoryEventLog, shelf: Shelf | None = None) -> Forwarder:
    """Forward everything that the spool holds."""
    forwarder = Forwarder(spool, event_log, a_translator(shelf), random=Random(1))
    forwarder.start()
    assert forwarder.stop(drain_seconds=PATIENT_SECONDS)
    return forwarder


async def events_of(event_log: MemoryEventLog) -> list[Any]:
    return [entry.event async for entry in event_log.read(after=Offset("memory", -1))]


def offered(*items: AnyRecord | bytes) -> MemorySpool:
    spool = MemorySpool()
    for item in items:
        spool.offer(item if isinstance(item, bytes) else record.encode(item), durable=False)
    return spool


async def until(happened: Callable[[], bool]) -> None:
    """Wait for another thread; the test's own time limit ends it."""
    while not happened():  # noqa: ASYNC110  # a thread sets no event of ours
        await asyncio.sleep(0.01)
