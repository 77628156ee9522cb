"""What the sidecar's hot path hands to the spool: raw bytes, and the few facts beside them.

Everything costly (parsing, hashing, retry detection) happens later, when the forwarder turns
these records into events. The request and the reply are kept as the bytes that passed.
"""

from hashlib import blake2b
from typing import TypeVar

import msgspec

from feedbackloop.events import (
    Alias,
    Arm,
    CompletionId,
    ConversationId,
    Endpoint,
    Outcome,
    ReleaseName,
    TenantId,
    UserId,
)

LARGE_BYTES = 4_096
"""Of a body that may be left out; a smaller one takes little more than what stays."""


class LeftOut(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Stands for a body that there was no room for.

    Attributes:
        size: Its bytes.
        digest: Their hash: it stays in the pod, and the event has a keyed one.
    """

    size: int
    digest: bytes


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="opened", gc=False, omit_defaults=True):
    """A request was accepted and routed; nothing was answered yet.

    Attributes:
        endpoint: OpenAI's route.
        body: The client's request, as received.
        headers: The few request headers that recording reads, lower-case names.
        accepted_ns: Nanoseconds since the epoch, UTC.
        source: ``proxy``, or what served it elsewhere.
        source_id: What its source called it, if that was not us.
        left_out: Stands for ``body``, which is then empty.
    """

    completion_id: CompletionId
    tenant: TenantId
    conversation: ConversationId
    user: UserId | None
    endpoint: Endpoint
    alias: Alias
    assigned: ReleaseName
    release: ReleaseName
    release_seq: int
    arm: Arm
    propensity: float
    epoch: int
    body: bytes
    headers: dict[str, str]
    accepted_ns: int
    source: str = "proxy"
    source_id: str = ""
    left_out: LeftOut | None = None


class Closed(msgspec.Struct, frozen=True, kw_only=True, tag="closed", gc=False, omit_defaults=True):
    """The reply to an opened request ended, one way or another.

    Attributes:
        release: The release that answered: may differ from the one assigned.
        status: What the client got.
        streamed: Whether ``body`` is a stream of server-sent events.
        body: The reply's bytes as vLLM sent them, as far as they were passed on.
        first_token_ns: When the first byte of the body left, or None.
        left_out: Stands for ``body``, which is then empty.
    """

    completion_id: CompletionId
    release: ReleaseName
    release_seq: int
    status: int
    streamed: bool
    body: bytes
    first_token_ns: int | None
    ended_ns: int
    outcome: Outcome
    left_out: LeftOut | None = None


class Voted(msgspec.Struct, frozen=True, kw_only=True, tag="voted"):
    """A feedback call was accepted: its receipt checked and its fields valid.

    Attributes:
        body: The feedback body as accepted, JSON.
        withdraw: The signal to withdraw, for a DELETE; ``body`` is then empty.
        client_key: The ``Idempotency-Key`` header, or empty.
        given_ns: When it counts as given; None means when it was received.
    """

    completion_id: CompletionId
    tenant: TenantId
    conversation: ConversationId
    user: UserId | None
    body: bytes
    withdraw: str | None = None
    client_key: str = ""
    received_ns: int
    given_ns: int | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True, tag="recorded"):
    """A completion that something else served, told to us as a whole."""

    opened: Opened
    closed: Closed


_Half = TypeVar("_Half", bound=Opened | Closed)


def without_body(half: _Half) -> _Half:
    """Keep of a request or reply who, when and how, and what its body would be known by."""
    digest = blake2b(half.body, digest_size=16).digest()
    left_out = LeftOut(size=len(half.body), digest=digest)
    return msgspec.structs.replace(half, body=b"", left_out=left_out)


AnyRecord = Opened | Closed | Voted | Recorded

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyRecord] = msgspec.msgpack.Decoder(AnyRecord)


def encode(record: AnyRecord) -> bytes:
    """Write a record as MessagePack."""
    return _encoder.encode(record)


def decode(payload: bytes) -> AnyRecord:
    """Read a record back.

    Raises:
        msgspec.DecodeError: If the bytes are no record of ours.
    """
    return _decoder.decode(payload)
