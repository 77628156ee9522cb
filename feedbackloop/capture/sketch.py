"""What retry detection keeps of one completion: small enough to remember tens of thousands."""

from datetime import datetime
from hashlib import sha256
from re import IGNORECASE
from re import compile as regex

import msgspec

from feedbackloop.capture.chain import normalised
from feedbackloop.events import (
    Alias,
    ChainHash,
    CompletionId,
    CompletionServed,
    ConversationId,
    JsonObject,
    Outcome,
    TenantId,
    UserId,
)

_FIRST_ERROR = 400
_KEPT = 2_000  # characters of a turn
_CHARACTERS_PER_TOKEN = 6  # more than any tokenizer's mean, so that estimates stay low
_LOOKED_THROUGH = 4_000  # characters of a message in which a side call's words are sought

_SIDE_CALL = regex(
    r"^\s*#{1,4}\s*task\b"
    r"|\b(?:title|tags?|emoji|follow-?\s?ups?(?: questions?)?|summary|summari[sz]e)\b"
    r"[^\n]{0,80}\b(?:th(?:is|e)|our|following|above|a)\s+"
    r"(?:chat|conversation|dialog(?:ue)?|discussion|thread|messages?)\b"
    r"|\b\d\s*(?:-|to|or|\u2013)?\s*\d?[- ]words?(?: long)? title\b"
    r"|<chat_history>"
    r"|\b(?:suggest|generate|propose|predict)\b[^\n]{0,60}\bfollow-?\s?up questions\b",
    IGNORECASE,
)
_NEEDED = ("task", "title", "tag", "emoji", "follow", "summar", "chat_history")


class Sketch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One completion, as far as a later prompt can say something about it.

    Attributes:
        prompt: Hash of the whole prompt; empty if there was none.
        before: Hash of all but the prompt's last message; empty if there was only one.
        length: Messages in the prompt.
        is_reply: Whether the prompt holds an earlier turn of the assistant.
        is_spoken: Whether the prompt's last message is a person's: no tool's result.
        said: The person's last turn, its beginning.
        instructions: Hash of the system prompts.
        reply_chains: Hashes of the prompt with each reply.
        answer: Hash of what was answered.
        is_answered: Whether there was an answer without an error.
        asks: Whether the answer ends with a question to the person.
        is_cut: Whether the answer met its length limit.
        shown_tokens: A lower bound of what the person could read.
        choices: How many answers were asked for.
        is_cold: Whether the temperature was 0.
        is_side_call: Whether an app asked on its own behalf: for a title, tags, follow-ups.
    """

    completion_id: CompletionId
    tenant: TenantId
    user: UserId | None
    conversation: ConversationId
    alias: Alias
    prompt: ChainHash
    before: ChainHash
    length: int
    is_reply: bool
    is_spoken: bool
    said: str
    instructions: str
    reply_chains: tuple[ChainHash, ...]
    answer: str
    is_answered: bool
    asks: bool
    is_cut: bool
    shown_tokens: int
    choices: int
    is_cold: bool
    is_side_call: bool
    idempotency_key: str | None
    outcome: Outcome
    accepted_at: datetime
    ended_at: datetime

    @property
    def who(self) -> tuple[str, str]:
        """Name the person: the user's pseudonym, or else the conversation."""
        return self.tenant, self.user or self.conversation


def sketch(completion: CompletionServed) -> Sketch:
    """Reduce a completion to what can be compared."""
    last = completion.messages[-1] if completion.messages else {}
    texts = [reply.text for reply in completion.replies]
    return Sketch(
        completion_id=completion.completion_id,
        tenant=completion.tenant,
        user=completion.user,
        conversation=completion.conversation,
        alias=completion.alias,
        prompt=completion.chain[-1] if completion.chain else ChainHash(""),
        before=completion.chain[-2] if len(completion.chain) > 1 else ChainHash(""),
        length=len(completion.chain),
        is_reply=any(message.get("role") == "assistant" for message in completion.messages[:-1]),
        is_spoken=last.get("role") == "user",
        said=_last_turn(completion.messages)[:_KEPT],
        instructions=_hash(_instructions(completion.messages)),
        reply_chains=completion.reply_chains,
        answer=_hash(texts),
        is_answered=completion.status < _FIRST_ERROR and bool(completion.replies),
        asks=bool(texts) and texts[0].rstrip(" \n*_)\"'").endswith(("?", "?")),
        is_cut=any(reply.finish_reason == "length" for reply in completion.replies),
        shown_tokens=_shown_tokens(completion),
        choices=_choices(completion),
        is_cold=completion.parameters.get("temperature") == 0,
        is_side_call=is_side_call(completion.messages),
        idempotency_key=completion.idempotency_key,
        outcome=completion.outcome,
        accepted_at=completion.accepted_at,
        ended_at=completion.ended_at,
    )


def is_side_call(messages: tuple[JsonObject, ...]) -> bool:
    """Say whether an app asked on its own behalf: for a title, tags or follow-up questions."""
    asked = [message for message in messages if message.get("role") != "assistant"]
    # The instruction stands first, or comes last, after the talk that it is about.
    ends = [*asked[:1], *asked[-1:]]
    texts = (normalised(message.get("content"))[:_LOOKED_THROUGH] for message in ends)
    return any(_is_side_call(text) for text in texts)


def _is_side_call(text: str) -> bool:
    # The pattern is slow, and few texts hold a word that it needs.
    folded = text.casefold()
    return any(word in folded for word in _NEEDED) and _SIDE_CALL.search(text) is not None


def _last_turn(messages: tuple[JsonObject, ...]) -> str:
    turns = (one.get("content") for one in reversed(messages) if one.get("role") == "user")
    return normalised(next(turns, None))


def _instructions(messages: tuple[JsonObject, ...]) -> list[str]:
    return [
        normalised(message.get("content"))
        for message in messages
        if message.get("role") in ("system", "developer")
    ]


def _shown_tokens(completion: CompletionServed) -> int:
    text = completion.replies[0].text if completion.replies else ""
    estimate = max(len(text.split()), len(text) // _CHARACTERS_PER_TOKEN)
    return completion.completion_tokens or estimate


def _choices(completion: CompletionServed) -> int:
    asked = completion.parameters.get("n")
    return max(asked if isinstance(asked, int) else 1, len(completion.replies))


def _hash(texts: list[str]) -> str:
    total = sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        total.update(len(encoded).to_bytes(8, "big") + encoded)
    return total.hexdigest()
