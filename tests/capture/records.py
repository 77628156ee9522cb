"""Records as the sidecar's hot path makes them, with one thing changed."""

from typing import Any

import msgspec

from feedbackloop.capture.identity import TenantKeys
from feedbackloop.capture.record import Closed, Opened, Voted
from feedbackloop.events import (
    BASE,
    Alias,
    Arm,
    CompletionId,
    ConversationId,
    Outcome,
    TenantId,
    UserId,
)

TENANT = TenantId("default")
CONVERSATION = ConversationId("0011223344556677")
NOON_NS = 1_772_625_600_000_000_000
SECOND_NS = 1_000_000_000
KEYS = TenantKeys(
    current="k001",
    receipts={"k001": b"r" * 32, "k000": b"q" * 32},
    pseudonym=b"p" * 32,
    chain=b"c" * 32,
    holdout=b"h" * 32,
)


def encoded(body: object) -> bytes:
    return msgspec.json.encode(body)


def an_opening(name: str = "c1", *, body: object = None, **changed: Any) -> Opened:
    """A chat request of one user turn, accepted at noon."""
    asked = {"model": "assistant", "messages": [{"role": "user", "content": "2 + 2?"}]}
    fields: dict[str, Any] = {
        "completion_id": CompletionId(name),
        "tenant": TENANT,
        "conversation": CONVERSATION,
        "user": UserId("00" * 15 + "01"),
        "endpoint": "chat",
        "alias": Alias("assistant"),
        "assigned": BASE,
        "release": BASE,
        "release_seq": 0,
        "arm": Arm.STABLE,
        "propensity": 1.0,
        "epoch": 0,
        "body": body if isinstance(body, bytes) else encoded(asked if body is None else body),
        "headers": {},
        "accepted_ns": NOON_NS,
    }
    return Opened(**(fields | changed))


def a_closing(name: str = "c1", *, body: object = None, **changed: Any) -> Closed:
    """A whole reply, two seconds later."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}
    fields: dict[str, Any] = {
        "completion_id": CompletionId(name),
        "release": BASE,
        "release_seq": 0,
        "status": 200,
        "streamed": False,
        "body": body
        if isinstance(body, bytes)
        else encoded({"choices": [choice]} if body is None else body),
        "first_token_ns": NOON_NS + SECOND_NS,
        "ended_ns": NOON_NS + 2 * SECOND_NS,
        "outcome": Outcome.COMPLETE,
    }
    return Closed(**(fields | changed))


def a_vote(name: str = "c1", *, body: object = None, **changed: Any) -> Voted:
    """A thumb up, half a minute later."""
    fields: dict[str, Any] = {
        "completion_id": CompletionId(name),
        "tenant": TENANT,
        "conversation": CONVERSATION,
        "user": UserId("00" * 15 + "01"),
        "body": encoded({"completion_id": name, "thumb": "up"} | dict(body or {})),  # type: ignore[call-overload]  # tests give dictionaries
        "received_ns": NOON_NS + 30 * SECOND_NS,
    }
    return Voted(**(fields | changed))


def a_stream(*chunks: object) -> bytes:
    """Server-sent events as vLLM writes them, the end included."""
    lines = [b"data: " + encoded(chunk) for chunk in chunks]
    return b"\n\n".join([*lines, b"data: [DONE]", b""])


def a_delta(text: str, *, index: int = 0, **more: object) -> dict[str, object]:
    """A chunk of one choice."""
    return {"choices": [{"index": index, "delta": {"content": text}, **more}]}
