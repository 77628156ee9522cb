"""Events on their way into the log, and those that it will never take."""

from collections.abc import Sequence
from random import Random

import msgspec

from feedbackloop.errors import LogUnavailable
from feedbackloop.events import AnyEvent, CaptureGap, CompletionServed
from feedbackloop.log import codec
from feedbackloop.log.memory import MemoryEventLog
from feedbackloop.log.port import Offset
from services.sidecar.delivery import Delivery
from services.sidecar.pulse import Pulse
from tests.builders import a_completion


class Halting(MemoryEventLog):
    """Takes a few events, and then confirms no more until it is asked again."""

    def __init__(self, taken: int) -> None:
        super().__init__()
        self._taken = taken

    async def append(self, events: Sequence[AnyEvent]) -> Sequence[Offset]:
        if self._taken:
            taken, self._taken = self._taken, 0
            await super().append(events[:taken])
            raise LogUnavailable("no more now", stored=taken)
        return await super().append(events)


class Shelf:
    def __init__(self) -> None:
        self.found: list[tuple[bytes, str]] = []

    def __call__(self, payload: bytes, reason: str) -> None:
        self.found.append((payload, reason))


def a_delivery(event_log: MemoryEventLog, shelf: Shelf | None = None) -> Delivery:
    return Delivery(event_log, set_aside=shelf or Shelf(), random=Random(1), pulse=Pulse())


async def events_of(event_log: MemoryEventLog) -> list[object]:
    return [entry.event async for entry in event_log.read(after=Offset("memory", -1))]


async def test_what_is_stored_is_not_sent_again() -> None:
    """After an outage everything behind the first lost answer would come twice."""
    events: list[AnyEvent] = [a_completion(f"c{n}") for n in range(5)]
    event_log = Halting(3)
    delivery = a_delivery(event_log)

    await delivery.deliver(events)

    assert await events_of(event_log) == events
    assert delivery.delivered == 5


async def test_who_waits_for_the_next_attempt_does_not_stand_still() -> None:
    """However long an outage lasts: another process would do no better."""
    pulse = Pulse()
    delivery = Delivery(Halting(1), set_aside=Shelf(), random=Random(1), pulse=pulse)

    await delivery.deliver([a_completion("c1"), a_completion("c2")])

    attempts, waits = 2, 1
    assert pulse.beats == attempts + waits


async def test_what_is_refused_is_set_aside_whole() -> None:
    """Whoever looks into it needs the event, and why nobody took it."""
    large = a_completion("large", text="x" * 5_000)
    shelf, event_log = Shelf(), MemoryEventLog(max_event_bytes=4_000)

    await a_delivery(event_log, shelf).deliver([a_completion("c1"), large, a_completion("c2")])

    assert shelf.found == [(codec.encode(large), "too_large")]
    assert await events_of(event_log) == [a_completion("c1"), a_completion("c2")]


async def test_what_is_refused_is_declared_lost() -> None:
    """Its records were numbered: without a word they would be missing for ever."""
    large = msgspec.structs.replace(
        a_completion("large", text="x" * 5_000), producer="one", seqs=(3, 7)
    )
    event_log = MemoryEventLog(max_event_bytes=4_000)

    await a_delivery(event_log).deliver([large])

    gaps = await events_of(event_log)
    assert all(isinstance(gap, CaptureGap) for gap in gaps)
    assert [(gap.producer, gap.first, gap.last, gap.reason) for gap in gaps] == [  # type: ignore[attr-defined]  # all are gaps
        ("one", 3, 3, "too_large"),
        ("one", 7, 7, "too_large"),
    ]


async def test_a_refusal_does_not_repeat_the_others() -> None:
    """They were stored before the log said so."""
    large = a_completion("large", text="x" * 5_000)
    event_log = MemoryEventLog(max_event_bytes=4_000)
    delivery = a_delivery(event_log)

    await delivery.deliver([a_completion("c1"), large])

    (event,) = await events_of(event_log)
    assert isinstance(event, CompletionServed)
    assert delivery.delivered == 1
