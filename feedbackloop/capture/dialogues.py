"""A labelled fragment of a dialogue, completed to what the sidecar would have recorded of it.

People leave out what they think is plain: parameters, the conversation so far, the instructions.
What one half of a fragment lacks is taken from the other.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from feedbackloop.capture.chain import chain, extend, normalised
from feedbackloop.capture.identity import event_id
from feedbackloop.capture.retries import Implied
from feedbackloop.capture.subject import words
from feedbackloop.events import (
    BASE,
    Alias,
    Arm,
    CompletionId,
    CompletionServed,
    ConversationId,
    JsonObject,
    Outcome,
    Reply,
    TenantId,
    UserId,
)

_KEY = b"fragments"
_START = datetime(2000, 1, 1, tzinfo=UTC)
_FAILED = frozenset({"error", "timeout", "failed", "upstream_failed", "server_error"})
_STOPPED = frozenset(
    {"abort", "aborted", "cancelled", "canceled", "client_gone", "stopped", "disconnect"}
)
_INSTRUCTING = ("system", "developer")
_READ_TOKENS = 30
_ENDS = (".", "!", "?", "\u3002", "\uff01", "\uff1f", "\u2026", "\u061f", "\u0964", "```", '"', ")")
_USER = "x-feedbackloop-user"
_SAME_WORDS = 0.75  # of the words in order: what was edited, and not said anew


class Half(msgspec.Struct, frozen=True):
    """One prompt, and for the first of the two its answer."""

    messages: list[JsonObject]
    at: float
    response: Any = None
    finish_reason: str | None = "stop"
    params: JsonObject | None = None
    headers: dict[str, str] | None = None


class Fragment(msgspec.Struct, frozen=True):
    """Two prompts of one person, and what a reader says that the second implies."""

    first: Half
    second: Half
    id: str | int = ""
    kind: str | None = None
    implied: Implied | None = None


def completions(first: Half, second: Half) -> tuple[CompletionServed, CompletionServed]:
    """Turn two prompts into the completions that the sidecar would have recorded."""
    return _completion("first", first), _completion("second", second)


def completed(fragment: Fragment) -> tuple[Half, Half]:
    """Give each half what it leaves out and the other has.

    A second half without instructions has the first one's; one that holds a new turn alone, after
    a conversation of several turns, goes on from that conversation.
    """
    first, second = fragment.first, fragment.second
    headers = _headers(first) | _headers(second)
    params = {**(first.params or {}), **(second.params or {})}
    shared = {name: params[name] for name in ("model", "user") if name in params}
    names = {name: headers[name] for name in (_USER,) if name in headers}
    return (
        msgspec.structs.replace(
            first, params=shared | (first.params or {}), headers=names | _headers(first)
        ),
        msgspec.structs.replace(
            second,
            messages=_talk(first, second.messages),
            params=shared | (second.params or {}),
            headers=names | _headers(second),
        ),
    )


def continuation(first: Half, second: Half) -> Half | None:
    """Read a second half that is one new turn as going on from the first's answer.

    None if it cannot be read so: the first is no single turn either, or both are the same.
    """
    said, again = _spoken(first.messages), _spoken(second.messages)
    if len(said) != 1 or len(again) != 1 or _text(said[0]) == _text(again[0]):
        return None
    return msgspec.structs.replace(second, messages=[*_answered(first), *again])


def _talk(first: Half, messages: list[JsonObject]) -> list[JsonObject]:
    """Return the whole conversation of which ``messages`` are all or the end."""
    before, said = _spoken(first.messages), _spoken(messages)
    instructions = (
        messages[: len(messages) - len(said)] or first.messages[: len(first.messages) - len(before)]
    )
    roles = [one.get("role") for one in said]
    if len(before) > 1 and roles == ["user"]:
        # One turn after a longer conversation: its last turn once more, or the next.
        said = before if _text(said[0]) == _text(before[-1]) else [*_answered(first), *said]
        return [*instructions, *_spoken(said)]
    if roles == ["assistant", "user"]:
        return [*instructions, *_spoken(_answered(first)), said[-1]]
    whole = len(said) == len(before) + 2 and said[: len(before)] == before
    if whole and roles[-2] == "assistant" and _texts(first.response):
        # People shorten what the assistant said; it is the answer all the same.
        return [*instructions, *_spoken(_answered(first)), said[-1]]
    return [*instructions, *said]


def _spoken(messages: Sequence[JsonObject]) -> list[JsonObject]:
    """Leave out the instructions that come first."""
    start = next(
        (n for n, one in enumerate(messages) if one.get("role") not in _INSTRUCTING), len(messages)
    )
    return list(messages[start:])


def _answered(first: Half) -> list[JsonObject]:
    texts = _texts(first.response)
    return [*first.messages, {"role": "assistant", "content": texts[0] if texts else ""}]


def _text(message: JsonObject) -> str:
    return normalised(message.get("content"))


def _texts(response: object) -> list[str]:
    """Return the answers: a text, several, a message, or parts of one."""
    if response is None:
        return []
    if isinstance(response, list):
        if response and all(isinstance(one, str) for one in response):
            return [str(one) for one in response]
        return [normalised(response)]
    if isinstance(response, dict):
        return [normalised(response.get("content"))]
    return [str(response)]


def _headers(half: Half) -> dict[str, str]:
    return {name.lower(): value for name, value in (half.headers or {}).items()}


def _completion(name: str, half: Half) -> CompletionServed:
    hashes = chain(half.messages, key=_KEY)
    texts = _texts(half.response)
    at = _START + timedelta(seconds=half.at)
    params, headers = half.params or {}, _headers(half)
    user = headers.get(_USER) or params.get("user")
    answers = [{"role": "assistant", "content": text} for text in texts]
    return CompletionServed(
        event_id=event_id(name),
        tenant=TenantId("default"),
        at=at,
        completion_id=CompletionId(name),
        conversation=ConversationId(""),
        user=UserId(str(user)) if user else None,
        chain=hashes,
        reply_chains=tuple(extend(hashes[-1], one, key=_KEY) for one in answers if hashes),
        alias=Alias(str(params.get("model", ""))),
        assigned=BASE,
        release=BASE,
        release_seq=0,
        arm=Arm.STABLE,
        propensity=1.0,
        epoch=0,
        messages=tuple(half.messages),
        parameters=params,
        replies=tuple(Reply(text=text, finish_reason=half.finish_reason) for text in texts),
        accepted_at=at,
        ended_at=at,
        outcome=_outcome(half.finish_reason, texts),
        idempotency_key=headers.get("idempotency-key"),
    )


def _outcome(finish_reason: str | None, texts: Sequence[str]) -> Outcome:
    """Say how an answer ended. Without a reason it was stopped, unless it is short and whole."""
    if finish_reason in _FAILED:
        return Outcome.UPSTREAM_FAILED
    if finish_reason in _STOPPED:
        return Outcome.CLIENT_GONE
    if finish_reason is None and not _is_whole("".join(texts[:1])):
        return Outcome.CLIENT_GONE
    return Outcome.COMPLETE


def _is_whole(text: str) -> bool:
    return len(words(text)) < _READ_TOKENS and text.rstrip().endswith(_ENDS)
