"""Events of about 1.5 kB, made from records as the sidecar's hot path writes them."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

import msgspec

from feedbackloop.capture import record
from feedbackloop.capture.attribution import Attribution
from feedbackloop.capture.identity import TenantKeys
from feedbackloop.capture.record import Closed, Opened
from feedbackloop.events import (
    BASE,
    Alias,
    AnyEvent,
    Arm,
    CompletionId,
    CompletionServed,
    ConversationId,
    EventId,
    Outcome,
    TenantId,
    UserId,
)
from feedbackloop.log.port import Frame
from services.sidecar.redacting import Redacting
from services.sidecar.translator import Translator

TURNS = 4  # of a conversation
TENANT = TenantId("default")
KEYS = TenantKeys(
    current="k001",
    receipts={"k001": b"r" * 32},
    pseudonym=b"p" * 32,
    chain=b"c" * 32,
    holdout=b"h" * 32,
)
WORDS = (
    "the model answers a question about orders that were shipped to another address and asks"
    " whether to send the parcel again or to pay the price back within a few days"
)


def exchange(random: Random, number: int) -> tuple[Opened, Closed]:
    """Make both records of one completion; four numbers in a row are one conversation."""
    at_ns = (1_772_625_600 + number) * 10**9
    name = CompletionId(f"chatcmpl-{number:024d}")
    asked = " ".join(random.choices(WORDS.split(), k=60))
    said = " ".join(random.choices(WORDS.split(), k=70))
    user = UserId(f"{number // TURNS:032x}")
    body = {"model": "assistant", "messages": [{"role": "user", "content": asked}]}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": said},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 70, "completion_tokens": 80, "total_tokens": 150}
    opened = Opened(
        completion_id=name,
        tenant=TENANT,
        conversation=ConversationId(f"{number // TURNS:016x}"),
        user=user,
        endpoint="chat",
        alias=Alias("assistant"),
        assigned=BASE,
        release=BASE,
        release_seq=0,
        arm=Arm.STABLE,
        propensity=1.0,
        epoch=0,
        body=msgspec.json.encode(body),
        headers={},
        accepted_ns=at_ns,
    )
    closed = Closed(
        completion_id=name,
        release=BASE,
        release_seq=0,
        status=200,
        streamed=False,
        body=msgspec.json.encode({"choices": [choice], "usage": usage}),
        first_token_ns=at_ns + 10**8,
        ended_ns=at_ns + 10**9,
        outcome=Outcome.COMPLETE,
    )
    return opened, closed


def frames(count: int) -> list[Frame]:
    """Make records as the sidecar's hot path writes them, two for each event."""
    random = Random(1)
    made: list[Frame] = []
    for number in range(count):
        opened, closed = exchange(random, number)
        for half in (opened, closed):
            made.append(
                Frame(
                    position=len(made),
                    producer="bench",
                    seq=len(made),
                    at=_moment(number),
                    payload=record.encode(half),
                )
            )
    return made


def translated(given: Sequence[Frame], *, redacted: bool = True) -> list[AnyEvent]:
    """Do what the forwarder does before it appends."""
    redacting = Redacting.of_all() if redacted else Redacting(None)
    translator = Translator(
        {TENANT: KEYS}, Attribution(), lambda _payload, _reason: None, redacting=redacting
    )
    return translator.events(given)


def translation_us(count: int, *, redacted: bool) -> float:
    """Return the CPU microseconds an event that are spent before it is appended: best of three."""
    given = frames(count)
    translated(given[:200], redacted=redacted)
    taken = []
    for _ in range(3):
        began = time.process_time()
        translated(given, redacted=redacted)
        taken.append(time.process_time() - began)
    return min(taken) / count * 1e6


def many(count: int) -> list[AnyEvent]:
    """Make as many events out of a thousand: only ids and talks differ from one thousand on."""
    made = translated(frames(1_000))
    originals = [event for event in made if isinstance(event, CompletionServed)]
    return [_renamed(originals[number % len(originals)], number) for number in range(count)]


def _renamed(event: CompletionServed, number: int) -> AnyEvent:
    return msgspec.structs.replace(
        event,
        event_id=EventId(f"{number:032x}"),
        completion_id=CompletionId(f"chatcmpl-{number:024d}"),
        conversation=ConversationId(f"{number // TURNS:016x}"),
    )


def _moment(number: int) -> datetime:
    return datetime.fromtimestamp(1_772_625_600 + number, UTC)
