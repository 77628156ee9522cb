"""A prompt and its completion, streamed or whole, complete or cut -> CompletionServed."""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Literal

import msgspec

from feedbackloop.capture import responses
from feedbackloop.capture.chain import chain, extend, start_after
from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.capture.identity import TenantKeys, event_id
from feedbackloop.capture.placeholders import WITHHELD
from feedbackloop.capture.record import Closed, LeftOut, Opened, without_body
from feedbackloop.capture.reply import Said, read
from feedbackloop.errors import MalformedEvent
from feedbackloop.events import (
    ChainHash,
    CompletionServed,
    Endpoint,
    JsonObject,
    Outcome,
    Reply,
    Unkept,
)

_object = msgspec.json.Decoder(JsonObject)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_ERROR = 400
_NOT_KEPT = f"[{WITHHELD}_1]"
_APART = frozenset(
    {"messages", "prompt", "tools", "model", "user", "safety_identifier", "input", "instructions"}
)


def completion_served(opened: Opened, closed: Closed | None, keys: TenantKeys) -> CompletionServed:
    """Assemble what was asked and what was answered.

    Args:
        opened: The accepted request.
        closed: How it ended; None if the sidecar died before it could say.
        keys: Of the request's tenant.

    Raises:
        MalformedEvent: If the request's body is no JSON object.
    """
    body, said = _body(opened), _said(opened, closed)
    messages, hashes = _asked(opened, body, keys.chain)
    unkept = _unkept(opened, closed, keys.chain)
    accepted_at = moment(opened.accepted_ns)
    served = closed or opened
    return CompletionServed(
        event_id=event_id("completion", opened.completion_id),
        tenant=opened.tenant,
        at=accepted_at,
        completion_id=opened.completion_id,
        conversation=opened.conversation,
        user=opened.user,
        endpoint=opened.endpoint,
        chain=hashes,
        reply_chains=() if unkept else _reply_chains(hashes, said.replies, keys.chain),
        alias=opened.alias,
        assigned=opened.assigned,
        release=served.release,
        release_seq=served.release_seq,
        arm=opened.arm,
        propensity=opened.propensity,
        epoch=opened.epoch,
        messages=messages,
        tools=_tools(body, opened),
        parameters={name: value for name, value in body.items() if name not in _APART},
        replies=_scored(said.replies, body),
        prompt_tokens=said.usage.prompt_tokens,
        completion_tokens=said.usage.completion_tokens,
        accepted_at=accepted_at,
        first_token_at=_first_token_at(closed),
        ended_at=moment(closed.ended_ns) if closed is not None else accepted_at,
        outcome=_outcome(closed, said),
        status=0 if closed is None else closed.status,
        streamed=_streamed(opened, closed, body),
        idempotency_key=opened.headers.get("idempotency-key"),
        source=opened.source,
        source_id=opened.source_id,
        unkept=unkept,
    )


def prompt(body: JsonObject, *, endpoint: Endpoint = "chat") -> tuple[JsonObject, ...]:
    """Return a request's messages; a bare prompt becomes one user message that holds it."""
    if endpoint == "responses":
        return responses.messages(body)
    messages = body.get("messages")
    if isinstance(messages, list):
        return _objects(messages)
    return ({"role": "user", "content": body.get("prompt")},)


def moment(nanoseconds: int) -> datetime:
    """Turn nanoseconds since 1970 into a time, to the microsecond."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return _EPOCH + timedelta(0, seconds, rest // 1000)


def _first_token_at(closed: Closed | None) -> datetime | None:
    if closed is None or closed.first_token_ns is None:
        return None
    return moment(closed.first_token_ns)


def _body(opened: Opened) -> JsonObject:
    if opened.left_out is not None:
        return {}
    try:
        return _object.decode(opened.body)
    except UNREADABLE as error:
        raise MalformedEvent(f"request of {opened.completion_id}: {error}") from error


def _asked(
    opened: Opened, body: JsonObject, key: bytes
) -> tuple[tuple[JsonObject, ...], tuple[ChainHash, ...]]:
    """Return the messages and their hashes; of what was not kept nobody knows a hash."""
    if opened.left_out is not None:
        return ({"role": "user", "content": _NOT_KEPT},), ()
    messages = prompt(body, endpoint=opened.endpoint)
    return messages, chain(messages, key=key, start=_start(body, key))


def _streamed(opened: Opened, closed: Closed | None, body: JsonObject) -> bool:
    if opened.left_out is None:
        return body.get("stream") is True
    return closed is not None and closed.streamed


def _start(body: JsonObject, key: bytes) -> ChainHash:
    """Name what came before the request's messages: nothing, or what vLLM remembers."""
    previous = body.get("previous_response_id")
    return start_after(previous, key=key) if isinstance(previous, str) else ChainHash("")


def _said(opened: Opened, closed: Closed | None) -> Said:
    if closed is None:
        return Said()
    if closed.left_out is not None:
        answered = closed.status < _FIRST_ERROR
        return Said(replies=(Reply(text=_NOT_KEPT),) if answered else ())
    reader = responses.read if opened.endpoint == "responses" else read
    said = reader(closed.body, streamed=closed.streamed)
    if opened.left_out is None:
        return said
    # An answer to nobody knows what teaches nobody.
    return msgspec.structs.replace(said, replies=tuple(Reply(text=_NOT_KEPT) for _ in said.replies))


def _unkept(opened: Opened, closed: Closed | None, key: bytes) -> tuple[Unkept, ...]:
    """Say which texts are not there: an answer goes with its prompt."""
    found = [] if opened.left_out is None else [_named("prompt", opened.left_out, key)]
    reply = None if closed is None else closed.left_out
    if reply is None and found and closed is not None:
        reply = without_body(closed).left_out
    return (*found, *([] if reply is None else [_named("reply", reply, key)]))


def _named(part: Literal["prompt", "reply"], left_out: LeftOut, key: bytes) -> Unkept:
    digest = blake2b(left_out.digest, key=key[:64], digest_size=16, person=b"body").hexdigest()
    return Unkept(part=part, size=left_out.size, digest=digest)


def _tools(body: JsonObject, opened: Opened) -> tuple[JsonObject, ...]:
    if opened.endpoint == "responses":
        return responses.tools(body)
    return _objects(body.get("tools"))


def _objects(value: object) -> tuple[JsonObject, ...]:
    """Keep what can be a message or a tool; vLLM refuses a request with anything else in it."""
    return tuple([one for one in value if isinstance(one, dict)]) if isinstance(value, list) else ()


def _outcome(closed: Closed | None, said: Said) -> Outcome:
    """Say how it ended: an error in the middle of a stream has the status of a success."""
    if closed is None:
        return Outcome.CRASHED
    success = closed.outcome is Outcome.COMPLETE and closed.status < _FIRST_ERROR
    return Outcome.UPSTREAM_FAILED if success and not said.sound else closed.outcome


def _scored(replies: tuple[Reply, ...], body: JsonObject) -> tuple[Reply, ...]:
    """Drop log-probabilities that are partly the prompt's."""
    if body.get("echo") is not True:
        return replies
    return tuple(msgspec.structs.replace(reply, logp=None) for reply in replies)


def _reply_chains(
    hashes: tuple[ChainHash, ...], replies: tuple[Reply, ...], key: bytes
) -> tuple[ChainHash, ...]:
    """Hash the prompt with each reply; nothing if there is no prompt or nothing was said."""
    if not hashes or not any(reply.text or reply.tool_calls for reply in replies):
        return ()
    return tuple([_answered(hashes, reply, key) for reply in replies])


def _answered(hashes: tuple[ChainHash, ...], reply: Reply, key: bytes) -> ChainHash:
    """Hash a reply just as the client will send it back."""
    message: JsonObject = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = list(reply.tool_calls)
    return extend(hashes[-1], message, key=key)
