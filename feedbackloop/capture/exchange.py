"""A prompt and its completion, streamed or whole, complete or cut -> CompletionServed."""

from datetime import UTC, datetime, timedelta

import msgspec

from feedbackloop.capture.chain import chain, extend
from feedbackloop.capture.identity import TenantKeys, event_id
from feedbackloop.capture.record import Closed, Opened
from feedbackloop.capture.reply import Usage, replies
from feedbackloop.errors import MalformedEvent
from feedbackloop.events import ChainHash, CompletionServed, JsonObject, Outcome, Reply

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_APART = frozenset({"messages", "prompt", "tools", "model", "user", "safety_identifier"})


def completion_served(
    opened: Opened, closed: Closed | None, *, keys: TenantKeys
) -> CompletionServed:
    """Assemble what was asked and what was answered.

    Args:
        opened: The accepted request.
        closed: How it ended; None if the sidecar died before it could say.
        keys: Of the request's tenant.

    Raises:
        MalformedEvent: If the request's body is no JSON object.
    """
    body = _body(opened)
    messages = prompt(body)
    hashes = chain(messages, key=keys.chain)
    said: tuple[Reply, ...] = ()
    usage = Usage()
    if closed is not None:
        said, usage = replies(closed.body, streamed=closed.streamed)
    accepted_at = moment(opened.accepted_ns)
    first_ns = closed.first_token_ns if closed is not None else None
    return CompletionServed(
        event_id=event_id("completion", opened.completion_id),
        tenant=opened.tenant,
        at=accepted_at,
        completion_id=opened.completion_id,
        conversation=opened.conversation,
        user=opened.user,
        endpoint=opened.endpoint,
        chain=hashes,
        reply_chains=tuple(_answered(hashes, reply, keys.chain) for reply in said),
        alias=opened.alias,
        assigned=opened.assigned,
        release=closed.release if closed is not None else opened.release,
        release_seq=closed.release_seq if closed is not None else opened.release_seq,
        arm=opened.arm,
        propensity=opened.propensity,
        epoch=opened.epoch,
        messages=messages,
        tools=tuple(body.get("tools") or ()),
        parameters={name: value for name, value in body.items() if name not in _APART},
        replies=said,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        accepted_at=accepted_at,
        first_token_at=moment(first_ns) if first_ns is not None else None,
        ended_at=moment(closed.ended_ns) if closed is not None else accepted_at,
        outcome=closed.outcome if closed is not None else Outcome.CRASHED,
        status=closed.status if closed is not None else 0,
        streamed=body.get("stream") is True,
        idempotency_key=opened.headers.get("idempotency-key"),
    )


def prompt(body: JsonObject) -> tuple[JsonObject, ...]:
    """Return a request's messages; a bare prompt becomes one user message that holds it."""
    messages = body.get("messages")
    if isinstance(messages, list):
        return tuple(message for message in messages if isinstance(message, dict))
    return ({"role": "user", "content": body.get("prompt")},)


def moment(nanoseconds: int) -> datetime:
    """Turn nanoseconds since 1970 into a time, to the microsecond."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def _body(opened: Opened) -> JsonObject:
    try:
        return msgspec.json.decode(opened.body, type=JsonObject)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedEvent(f"request of {opened.completion_id}: {error}") from error


def _answered(hashes: tuple[ChainHash, ...], reply: Reply, key: bytes) -> ChainHash:
    """Hash a reply just as the client will send it back."""
    message: JsonObject = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = list(reply.tool_calls)
    return extend(hashes[-1] if hashes else ChainHash(""), message, key=key)
