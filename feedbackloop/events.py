"""The facts that the loop runs on, and the identities that tie them together.

Everything here is a value: frozen, compared by content, and readable as JSON. ``log/codec.py``
writes and reads them; nothing else needs to know how.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NewType

import msgspec

JsonObject = dict[str, Any]
"""A JSON object as a client or vLLM sent it: fields that we do not know survive in it."""

TenantId = NewType("TenantId", str)
"""Who owns the data: ``[a-z0-9-]{1,32}``, from the API key, ``default`` without keys."""

UserId = NewType("UserId", str)
"""A person's pseudonym: HMAC-SHA256 under the tenant's key, the first 16 bytes as hex."""

ConversationId = NewType("ConversationId", str)
"""The turns that one person sees as one conversation: 8 bytes as hex."""

ChainHash = NewType("ChainHash", str)
"""A message and all before it, hashed: 16 bytes as hex. See ``capture/chain.py``."""

CompletionId = NewType("CompletionId", str)
"""What the client sees as ``response.id``: a signed receipt. See ``capture/receipt.py``."""

EventId = NewType("EventId", str)
"""One id for one fact, however often it is seen: 16 bytes as hex, from what it is about."""

Alias = NewType("Alias", str)
"""The model name that clients use: ``[a-z0-9-]{1,40}``."""

ReleaseName = NewType("ReleaseName", str)
"""An adapter under its one name for ever: ``{alias}.{seq:05d}.{digest12}``, or ``base``."""

RunId = NewType("RunId", str)
"""One attempt to make an adapter: ``run-{utc date}-{6 base32}``."""

BASE = ReleaseName("base")
"""Release 0 of every alias, and the first stable: the base without an adapter."""


ELSEWHERE = ReleaseName("elsewhere")
"""Stands in the place of a release where a completion was not answered by one of ours."""

Endpoint = Literal["chat", "completions", "responses"]
"""OpenAI's route that a completion was asked for on."""


class Arm(StrEnum):
    """Which side of a rollout a conversation is on."""

    STABLE = "stable"
    CANARY = "canary"


class Outcome(StrEnum):
    """How a completion ended, as the sidecar saw it."""

    COMPLETE = "complete"
    CLIENT_GONE = "client_gone"
    UPSTREAM_FAILED = "upstream_failed"
    CRASHED = "crashed"
    """The sidecar died after it had accepted the request and before it had closed the record."""


class Thumb(StrEnum):
    """A person's verdict on one completion."""

    UP = "up"
    DOWN = "down"


class RetryKind(StrEnum):
    """In which way a later prompt reacts to an earlier completion (TRAINING: retries)."""

    REGENERATE = "regenerate"
    EDIT = "edit"
    REPHRASE = "rephrase"
    CORRECTION = "correction"
    STOPPED = "stopped"


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="type", gc=False):
    """Something that happened.

    Attributes:
        event_id: The same fact seen twice, by two replicas or on replay, has one id.
        tenant: Whose data this is.
        at: When it happened, in UTC.
        producer: Incarnation of the process that recorded it; empty if nobody numbered it.
        seqs: The producer's numbers of the records that it was made from. Each number comes back
            in an event or in a ``CaptureGap``: see ``log/completeness.py``.
    """

    event_id: EventId
    tenant: TenantId
    at: datetime
    producer: str = ""
    seqs: tuple[int, ...] = ()


class Reply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One choice of a completion, assembled from a whole reply or from its stream.

    Attributes:
        text: The visible content, empty if there was none.
        tool_calls: As vLLM sent them, joined over chunks.
        reasoning: The hidden reasoning, if the server separates it.
        finish_reason: OpenAI's word, or None if the stream ended without one.
        logp: Sum of the sampled tokens' log-probabilities in nats, if the client asked for them.
    """

    text: str
    tool_calls: tuple[JsonObject, ...] = ()
    reasoning: str | None = None
    finish_reason: str | None = None
    logp: float | None = None


class Unkept(msgspec.Struct, frozen=True, kw_only=True):
    """A body that was left out of its record, since the spool was nearly full and it was large.

    Attributes:
        part: Which one.
        size: Bytes that it had, as they passed.
        digest: Hash of these bytes under the tenant's key: 16 bytes as hex.
    """

    part: Literal["prompt", "reply"]
    size: int
    digest: str


class CompletionServed(Event, frozen=True, kw_only=True):
    """A prompt was answered, whole or in part.

    Attributes:
        completion_id: The id that the client saw.
        conversation: Orders events and caps their influence.
        user: Pseudonym of the person, if the request named one.
        endpoint: OpenAI's route.
        chain: The hash after each message of the prompt, in order; the last names the prompt.
        reply_chains: For each reply, the hash of the prompt and that reply: what a later
            request's ``chain`` holds if it continues from it. Empty if nothing was said.
        alias: The model name that the client used.
        assigned: The release that this conversation was routed to.
        release: The release that answered: never inferred from time.
        release_seq: Its number within the alias; 0 is the base.
        arm: Side of the rollout.
        propensity: Probability of that arm for this unit at that time, in (0, 1].
        epoch: Of the release document in force.
        messages: The prompt; for ``/v1/completions`` one user message that holds its text.
        tools: As sent by the client.
        parameters: Every other field of the request, ``model`` and ``user`` left out.
        replies: One for each choice, by index.
        prompt_tokens: As counted by the server, if it said so.
        completion_tokens: As counted by the server, if it said so.
        accepted_at: When the request was accepted, in UTC.
        first_token_at: When the first byte of content left, in UTC; None if none did.
        ended_at: When the reply ended, in UTC.
        outcome: How it ended.
        status: HTTP status that the client got.
        streamed: Whether the client asked for a stream.
        idempotency_key: The client's, if it sent one: a repeat is not a retry.
        source: ``proxy``, or what served it elsewhere.
        source_id: What its source called it, if that was not us.
        unkept: Bodies of which nobody knows more: ``[WITHHELD_1]`` stands for their texts. Without
            its prompt a completion has no ``chain``; without either it is never trained on.
    """

    completion_id: CompletionId
    conversation: ConversationId
    user: UserId | None = None
    endpoint: Endpoint = "chat"
    chain: tuple[ChainHash, ...]
    reply_chains: tuple[ChainHash, ...] = ()
    alias: Alias
    assigned: ReleaseName
    release: ReleaseName
    release_seq: int
    arm: Arm
    propensity: float
    epoch: int
    messages: tuple[JsonObject, ...]
    tools: tuple[JsonObject, ...] = ()
    parameters: JsonObject
    replies: tuple[Reply, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    accepted_at: datetime
    first_token_at: datetime | None = None
    ended_at: datetime
    outcome: Outcome
    status: int = 200
    streamed: bool = False
    idempotency_key: str | None = None
    source: str = "proxy"
    source_id: str = ""
    unkept: tuple[Unkept, ...] = ()


class Signal(Event, frozen=True, kw_only=True):
    """A fact that says something about one completion. ``at`` is when it was given.

    Attributes:
        completion_id: What it is about.
        conversation: Read from the completion id, so that both are in one partition.
        user: The person who gave it, as a pseudonym; from the completion id.
        client_key: The client's idempotency key, or empty.
    """

    completion_id: CompletionId
    conversation: ConversationId
    user: UserId | None = None
    client_key: str = ""


class ThumbGiven(Signal, frozen=True, kw_only=True):
    """A person voted; the latest of a user's votes on a completion counts."""

    thumb: Thumb
    reasons: tuple[str, ...] = ()


class ThumbWithdrawn(Signal, frozen=True, kw_only=True):
    """A person took the vote back: as if it had not been given."""


class SignalWithdrawn(Signal, frozen=True, kw_only=True):
    """A person took back something else than a vote: as if it had not been given.

    Attributes:
        signal: Which kind: all of it that this person gave on this completion until then.
    """

    signal: Literal["rating", "correction", "comment", "outcome", "choice"]


class RatingGiven(Signal, frozen=True, kw_only=True):
    """A person rated a completion from 1 (worst) to 5 (best)."""

    rating: int


class CorrectionGiven(Signal, frozen=True, kw_only=True):
    """A person wrote what the completion should have been: chosen, against the completion."""

    correction: str


class ChoiceMade(Signal, frozen=True, kw_only=True):
    """A person picked one of several choices of a completion, by its index from 0."""

    choice: int


class CommentGiven(Signal, frozen=True, kw_only=True):
    """A person said something about a completion in words."""

    comment: str
    reasons: tuple[str, ...] = ()


class OutcomeReported(Signal, frozen=True, kw_only=True):
    """The app says what became of a completion: accepted, copied, inserted, abandoned, ..."""

    outcome: str


class PromptRetried(Signal, frozen=True, kw_only=True):
    """A person asked again, which suggests that the completion failed them.

    Attributes:
        completion_id: The completion that was asked again, not the new one.
        retry_id: The completion that answered the second prompt.
        kind: In which way the second prompt reacts to the first.
        similarity: How alike the two user turns are, from 0 (unrelated) to 1 (identical).
        gap_seconds: From the end of the first completion to the second prompt.
    """

    retry_id: CompletionId
    kind: RetryKind
    similarity: float
    gap_seconds: float


class CaptureGap(Event, frozen=True, kw_only=True):
    """Records that a producer numbered and then had to shed: loss is never silent.

    Attributes:
        producer: Incarnation of the producer that numbered them.
        first: Sequence number of the first record lost.
        last: Sequence number of the last record lost, inclusive.
        count: How many are gone; ``last - first + 1`` unless the range is an estimate.
        reason: Why, from a closed set.
        until: When the last of them happened; ``at`` is when the first did.
    """

    producer: str
    first: int
    last: int
    count: int
    reason: str
    until: datetime


class UserErased(Event, frozen=True, kw_only=True):
    """A person's data is to be removed from everything derived from it."""

    user: UserId
    asked_by: str


class RunChanged(Event, frozen=True, kw_only=True):
    """A run moved from one state to another, under a leader's epoch."""

    run: RunId
    before: str
    after: str
    epoch: int
    by: str
    why: str


class ReleaseChanged(Event, frozen=True, kw_only=True):
    """An alias' release document changed; ``epoch`` is the new document's."""

    alias: Alias
    before: ReleaseName
    after: ReleaseName
    epoch: int
    by: str
    why: str


AnySignal = (
    ThumbGiven
    | ThumbWithdrawn
    | SignalWithdrawn
    | RatingGiven
    | CorrectionGiven
    | ChoiceMade
    | CommentGiven
    | OutcomeReported
    | PromptRetried
)
AnyEvent = CompletionServed | AnySignal | CaptureGap | UserErased | RunChanged | ReleaseChanged
"""Every event there is: what the codec reads."""
