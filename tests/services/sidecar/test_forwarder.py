import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import msgspec
import pytest
from prometheus_client import REGISTRY

from feedbackloop.capture import record
from feedbackloop.capture.attribution import Attribution
from feedbackloop.capture.record import AnyRecord
from feedbackloop.errors import LogUnavailable
from feedbackloop.events import (
    AnyEvent,
    CaptureGap,
    CompletionServed,
    Outcome,
    PromptRetried,
    ThumbGiven,
)
from feedbackloop.log.completeness import Audit, Completeness
from feedbackloop.log.memory import MemoryEventLog
from feedbackloop.log.port import Offset
from services.sidecar.forwarder import Forwarder
from services.sidecar.letters import DeadLetters
from services.sidecar.recall import remember
from services.sidecar.translator import Translator
from tests.capture.records import KEYS, NOON_NS, SECOND_NS, TENANT, a_closing, a_vote, an_opening
from tests.services.sidecar.forwarding import (
    PATIENT_SECONDS,
    Frames,
    Shelf,
    a_translator,
    events_of,
    offered,
    run,
    translated,
    until,
)


class FlakyLog(MemoryEventLog):
    """Fails a few times before it works: each time with the next of ``failures``."""

    def __init__(self, failures: Sequence[Exception]) -> None:
        super().__init__()
        self._failures = list(failures)

    async def append(self, events: Sequence[AnyEvent]) -> Sequence[Offset]:
        if self._failures:
            raise self._failures.pop()
        return await super().append(events)


def shown(metric: str) -> float:
    return REGISTRY.get_sample_value(metric) or 0.0


async def test_what_was_recorded_reaches_the_log() -> None:
    """This is all that labelling ever sees."""
    spool, event_log = offered(an_opening(), a_closing(), a_vote()), MemoryEventLog()

    forwarder = run(spool, event_log)

    completion, thumb = await events_of(event_log)
    assert isinstance(completion, CompletionServed)
    assert isinstance(thumb, ThumbGiven)
    assert (completion.completion_id, forwarder.forwarded) == (thumb.completion_id, 2)


async def test_a_retry_is_found_on_the_way() -> None:
    """The sidecar reports what it can see itself, seconds after it happened."""
    later = {"accepted_ns": NOON_NS + 20 * SECOND_NS}
    end = {"ended_ns": NOON_NS + 22 * SECOND_NS}
    spool = offered(
        an_opening("c1"), a_closing("c1"), an_opening("c2", **later), a_closing("c2", **end)
    )
    event_log = MemoryEventLog()

    run(spool, event_log)

    *_, last = await events_of(event_log)
    assert isinstance(last, PromptRetried)
    assert (last.completion_id, last.retry_id) == ("c1", "c2")


async def test_a_crash_is_in_the_log_though_nothing_follows_it() -> None:
    """The restarted sidecar knows at once that nobody will close what another one opened."""
    spool, event_log = offered(an_opening("c1")), MemoryEventLog()
    spool.producer = "restarted"

    run(spool, event_log)

    (crashed,) = await events_of(event_log)
    assert (crashed.completion_id, crashed.outcome) == ("c1", Outcome.CRASHED)
    assert not list(spool.read(after=spool.released()))


async def test_a_request_whose_end_was_shed_is_in_the_log_when_the_sidecar_has_ended() -> None:
    """It may never start again, and the log would lack a record that nobody declared lost."""
    spool, event_log = offered(an_opening("c1"), a_vote("c9")), MemoryEventLog()

    run(spool, event_log)

    ended = [one for one in await events_of(event_log) if isinstance(one, CompletionServed)]
    assert [one.completion_id for one in ended] == ["c1"]
    assert not list(spool.read(after=-1))


async def test_what_a_dead_sidecar_left_is_forwarded_beside_our_own() -> None:
    """Nobody else would: its pod will not come back under that name."""
    orphan, event_log = offered(an_opening("c8"), a_vote("c9")), MemoryEventLog()
    orphan.producer = "adopted"
    left = [orphan]
    forwarder = Forwarder(
        offered(an_opening("c1"), a_closing("c1")),
        event_log,
        a_translator(),
        random=Random(1),
        adopt=lambda: left.pop() if left else None,
    )
    forwarder.start()
    await until(lambda: forwarder.forwarded == 3)
    forwarder.stop(drain_seconds=PATIENT_SECONDS)

    found = {type(one): one for one in await events_of(event_log) if one.completion_id != "c1"}
    assert found[ThumbGiven].completion_id == "c9"
    assert found[CompletionServed].outcome == Outcome.CRASHED
    assert not list(orphan.read(after=-1))


async def test_every_number_of_a_producer_comes_back() -> None:
    """Whatever became of a record, the audit finds it in an event or a declared gap."""
    spool = offered(an_opening(), b"junk", a_vote(), a_closing(), a_closing("c9"))
    event_log = MemoryEventLog()

    run(spool, event_log)

    events = await events_of(event_log)
    (completion,) = (event for event in events if isinstance(event, CompletionServed))
    assert (completion.producer, completion.seqs) == ("memory", (0, 3))
    audit = Audit()
    for event in events:
        audit.add(event)
    report = audit.report(now=datetime.max.replace(tzinfo=UTC))
    assert report == Completeness(
        producers=1, expected=5, seen=3, declared={"set_aside": 1, "unmatched": 1}, ratio=0.6
    )


JUNK = {
    "no record": b"\xc1 junk",
    "an event": msgspec.json.encode({"type": "thumb"}),
    "nothing": b"",
    "a vote without body": record.encode(msgspec.structs.replace(a_vote(), body=b"{")),
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
async def test_a_record_that_cannot_be_read_is_set_aside(junk: bytes) -> None:
    """It must neither stop those behind it nor vanish."""
    shelf, event_log = Shelf(), MemoryEventLog()
    spool = offered(junk, an_opening(), a_closing())

    run(spool, event_log, shelf)

    assert [payload for payload, _ in shelf.found] == [junk]
    assert [type(one) for one in await events_of(event_log)] == [CaptureGap, CompletionServed]
    assert spool.released() == 2


@pytest.mark.parametrize(
    "failures", [[LogUnavailable("away")], [LogUnavailable("away")] * 2, [OSError("surprise")]]
)
async def test_a_log_that_fails_loses_nothing(failures: list[Exception]) -> None:
    """What was taken apart already cannot be paired again: the very same events are retried."""
    spool, event_log = offered(an_opening(), a_closing(), a_vote()), FlakyLog(failures)

    run(spool, event_log)

    assert [type(one) for one in await events_of(event_log)] == [CompletionServed, ThumbGiven]
    assert spool.released() == 2


async def test_the_spool_is_let_go_only_of_what_is_in_the_log() -> None:
    """The promise to whoever voted was given on the spool's word."""
    spool, event_log = offered(an_opening(), a_closing()), MemoryEventLog()
    event_log.away = True
    forwarder = Forwarder(spool, event_log, a_translator(), random=Random(1))

    forwarder.start()
    ended = forwarder.stop(drain_seconds=0.3)

    assert not ended
    assert (spool.released(), await events_of(event_log)) == (-1, [])
    event_log.away = False
    assert forwarder.stop(drain_seconds=PATIENT_SECONDS)
    assert spool.released() == 1


async def test_who_tries_a_log_again_that_is_away_does_not_stand_still() -> None:
    """However long it is away: another process would do no better."""
    spool, event_log = offered(an_opening(), a_closing()), MemoryEventLog()
    event_log.away = True
    forwarder = Forwarder(spool, event_log, a_translator(), random=Random(1))
    forwarder.start()
    await until(lambda: forwarder.oldest_seconds() > 0)

    waiting = forwarder.pulse.beats
    await until(lambda: forwarder.pulse.beats > waiting + 1)

    assert forwarder.forwarded == 0
    event_log.away = False
    assert forwarder.stop(drain_seconds=PATIENT_SECONDS)


async def test_a_restart_repeats_itself_under_the_same_ids() -> None:
    """It may have died between the log's word and the spool's: labelling counts by id."""
    items: list[AnyRecord | bytes] = [
        an_opening("c1"),
        a_closing("c1"),
        an_opening("c2", accepted_ns=NOON_NS + 20 * SECOND_NS),
        a_closing("c2", ended_ns=NOON_NS + 22 * SECOND_NS),
        a_vote("c2"),
    ]
    event_log = MemoryEventLog()

    run(offered(*items), event_log)
    once = await events_of(event_log)
    run(offered(*items), event_log)

    assert await events_of(event_log) == once * 2


async def test_a_restarted_sidecar_remembers_its_last_talks() -> None:
    """People go on talking while it restarts, and their next turn is about the last answer."""
    event_log = MemoryEventLog()
    run(offered(an_opening("c1"), a_closing("c1")), event_log)
    attribution = Attribution()
    await remember(event_log, "memory", attribution)
    translator = Translator({TENANT: KEYS}, attribution, Shelf())
    frames = Frames()
    later = an_opening("c2", accepted_ns=NOON_NS + 20 * SECOND_NS)

    events = translated(translator, frames(later), frames(a_closing("c2")))

    assert [type(event) for event in events] == [CompletionServed, PromptRetried]


async def test_nothing_is_translated_before_the_last_talks_are_known() -> None:
    """While the log is away nothing could be forwarded, and a retry would not be recognised."""
    order: list[str] = []
    failures = [LogUnavailable("away", reason="unreachable")]
    event_log = MemoryEventLog()

    async def prepare() -> None:
        order.append("asked")
        if failures:
            raise failures.pop()
        order.append(f"known, {len(await events_of(event_log))} forwarded")

    spool = offered(an_opening(), a_closing())
    forwarder = Forwarder(spool, event_log, a_translator(), random=Random(1), prepare=prepare)
    forwarder.start()
    await until(lambda: forwarder.forwarded == 1)

    assert order == ["asked", "asked", "known, 0 forwarded"]
    assert forwarder.stop(drain_seconds=PATIENT_SECONDS)


async def test_a_log_that_may_not_be_read_does_not_hold_up_what_is_recorded() -> None:
    """An operator may let sidecars write and nothing else."""

    async def prepare() -> None:
        raise LogUnavailable("not for you", reason="not_authorized")

    spool, event_log = offered(an_opening(), a_closing()), MemoryEventLog()
    forwarder = Forwarder(spool, event_log, a_translator(), random=Random(1), prepare=prepare)

    forwarder.start()

    assert forwarder.stop(drain_seconds=PATIENT_SECONDS)
    assert len(await events_of(event_log)) == 1


async def test_how_far_behind_the_log_is_can_be_seen() -> None:
    """The age of the oldest record that waits is the one alarm that an operator needs."""
    spool, event_log = offered(an_opening(), a_closing()), MemoryEventLog()
    event_log.away = True
    forwarder = Forwarder(spool, event_log, a_translator(), random=Random(1))
    forwarder.start()
    await until(lambda: shown("feedbackloop_oldest_unconfirmed_seconds") > 0)

    waiting = shown("feedbackloop_spool_backlog_bytes")
    event_log.away = False
    drained = forwarder.stop(drain_seconds=PATIENT_SECONDS)

    assert (waiting > 0, drained) == (True, True)
    assert shown("feedbackloop_spool_backlog_bytes") == 0
    assert shown("feedbackloop_oldest_unconfirmed_seconds") == 0


async def test_what_waits_for_a_log_that_was_never_there_grows_old() -> None:
    """A sidecar that starts while the brokers are away reads nothing, and the alarm must ring."""

    async def prepare() -> None:
        raise LogUnavailable("away", reason="unreachable")

    spool = offered(an_opening(), a_closing())
    forwarder = Forwarder(
        spool, MemoryEventLog(), a_translator(), random=Random(1), prepare=prepare
    )
    forwarder.start()

    await until(lambda: forwarder.oldest_seconds() > 0)

    forwarder.stop(drain_seconds=PATIENT_SECONDS)


async def test_a_log_that_was_cut_short_is_remembered_as_far_as_it_goes() -> None:
    """Retention must not keep a sidecar from starting."""
    event_log = MemoryEventLog()
    items: list[AnyRecord | bytes] = []
    for name in ("c1", "c2", "c3", "c4", "c5"):
        items += [an_opening(name), a_closing(name)]
    run(offered(*items), event_log)
    await event_log.truncate(before=Offset("memory", 3))
    attribution = Attribution()

    await remember(event_log, "memory", attribution)

    assert len(attribution) == 2


def test_what_is_set_aside_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    """It holds prompts."""
    file = tmp_path / "spool" / "dead-letters.jsonl"
    letters = DeadLetters(file, max_bytes=100)

    letters(b"one", "MalformedEvent")
    letters(b"x" * 100, "MalformedEvent")

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (line,) = file.read_bytes().splitlines()
    assert msgspec.json.decode(line) == {"reason": "MalformedEvent", "payload": "b25l"}
