"""Valid events with one thing changed: what a test does not name does not matter to it."""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from feedbackloop.events import (
    BASE,
    Alias,
    AnyEvent,
    Arm,
    ChainHash,
    ChoiceMade,
    CompletionId,
    CompletionServed,
    ConversationId,
    CorrectionGiven,
    EventId,
    Outcome,
    OutcomeReported,
    PromptRetried,
    RatingGiven,
    Reply,
    RetryKind,
    SignalWithdrawn,
    TenantId,
    Thumb,
    ThumbGiven,
    ThumbWithdrawn,
    UserId,
)

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TENANT = TenantId("default")
ALIAS = Alias("assistant")


def _id(*parts: object) -> EventId:
    return EventId(blake2b(repr(parts).encode(), digest_size=16).hexdigest())


def a_completion(
    name: str = "c1", *, prompt: str = "2 + 2?", text: str = "4", **changed: Any
) -> CompletionServed:
    """A whole reply to one user turn, recorded at noon."""
    chain = ChainHash(blake2b(prompt.encode(), digest_size=16).hexdigest())
    fields: dict[str, Any] = {
        "event_id": _id("completion", name),
        "tenant": TENANT,
        "at": NOON,
        "completion_id": CompletionId(name),
        "conversation": ConversationId("0011223344556677"),
        "user": UserId("ann"),
        "chain": (chain,),
        "alias": ALIAS,
        "assigned": BASE,
        "release": BASE,
        "release_seq": 0,
        "arm": Arm.STABLE,
        "propensity": 1.0,
        "epoch": 0,
        "messages": ({"role": "user", "content": prompt},),
        "parameters": {},
        "replies": (Reply(text=text, finish_reason="stop"),),
        "accepted_at": NOON,
        "ended_at": NOON,
        "outcome": Outcome.COMPLETE,
    }
    return CompletionServed(**(fields | changed))


def _signal(kind: str, name: str, value: object, changed: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "event_id": _id(kind, name, value, sorted(changed.items(), key=str)),
        "tenant": TENANT,
        "at": NOON + timedelta(seconds=30),
        "completion_id": CompletionId(name),
        "conversation": ConversationId("0011223344556677"),
        "user": UserId("ann"),
    }
    return fields | changed


def a_thumb(name: str = "c1", thumb: Thumb = Thumb.UP, **changed: Any) -> ThumbGiven:
    """A vote half a minute after the completion."""
    return ThumbGiven(thumb=thumb, **_signal("thumb", name, thumb, changed))


def a_rating(name: str = "c1", rating: int = 5, **changed: Any) -> RatingGiven:
    """A vote in five steps."""
    return RatingGiven(rating=rating, **_signal("rating", name, rating, changed))


def a_choice(name: str = "c1", choice: int = 0, **changed: Any) -> ChoiceMade:
    """One of several choices, picked."""
    return ChoiceMade(choice=choice, **_signal("choice", name, choice, changed))


def a_withdrawal(
    name: str = "c1", signal: str = "thumb", **changed: Any
) -> ThumbWithdrawn | SignalWithdrawn:
    """Something taken back."""
    fields = _signal("withdrawn", name, signal, changed)
    if signal == "thumb":
        return ThumbWithdrawn(**fields)
    return SignalWithdrawn(signal=signal, **fields)  # type: ignore[arg-type]  # tests name it


def a_retry(
    name: str = "c1",
    retry: str = "c2",
    kind: RetryKind = RetryKind.REGENERATE,
    **changed: Any,
) -> PromptRetried:
    """The same prompt once more, ten seconds after the completion."""
    fields = _signal("retry", name, (retry, kind), changed)
    return PromptRetried(
        retry_id=CompletionId(retry), kind=kind, similarity=1.0, gap_seconds=10.0, **fields
    )


def an_outcome(name: str = "c1", outcome: str = "copied", **changed: Any) -> OutcomeReported:
    """What the app says became of the completion."""
    return OutcomeReported(outcome=outcome, **_signal("outcome", name, outcome, changed))


def a_correction(name: str = "c1", correction: str = "four", **changed: Any) -> CorrectionGiven:
    """What the person wanted to read instead."""
    return CorrectionGiven(correction=correction, **_signal("correct", name, correction, changed))


def voted(people: int) -> list[AnyEvent]:
    """People who ask one thing each, and vote: every other one is content, and heard w1."""
    events: list[AnyEvent] = []
    for number in range(people):
        name, who, content = f"c{number}", UserId(f"user-{number}"), number % 2 == 0
        events.append(
            a_completion(
                name,
                prompt=f"w{number % 40} w{number // 40}",
                text="w1 w3" if content else "w2 w4",
                user=who,
                conversation=ConversationId(f"{number:016x}"),
            )
        )
        events.append(a_thumb(name, Thumb.UP if content else Thumb.DOWN, user=who))
    return events
