"""What retry detection keeps of one completion: small enough to remember tens of thousands.

Its own hashes are Python's: 64 bits, good in this process alone, at a tenth of the cost of those
that tie events together.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from re import compile as regex
from sys import getsizeof

import msgspec

from feedbackloop.capture.chain import normalised
from feedbackloop.capture.placeholders import PLACEHOLDER, unnumbered
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
_FEW_TOKENS = 5  # no answer to a person is as short as that
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_KEPT_TURN = 1_000  # characters of a person's turn, from its beginning
_KEPT_TURN_END = 300  # and from its end, where a long instruction has what it is about
_KEPT_ANSWER = 300  # of an answer's beginning, and of each end of what may be an app's instruction
_HASHED = 4_000  # characters of instructions that tell them apart
_HASHED_END = 150  # of either end of a message that names a place
_CHARACTERS_PER_TOKEN = 6  # more than any tokenizer's mean, so that estimates stay low
_CHARACTERS_PER_TOKEN_UNSPACED = 2  # likewise, where a character is a syllable or a word
_UNSPACED = regex(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+")
_DIGITS = regex(r"\d+")
_FIXED_BYTES = 1_700  # of a sketch beside its texts: names, hashes, times
_REPLY_BYTES = 170  # of the hashes for each reply
_MARKUP = b"*_`#>~|- \t\r\n\f\v"
_THOUGHT = "</think>"
_ASKING = ("?", "\uff1f", "\u061f")  # question marks: Latin, wide, Arabic


class Sketch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One completion, as far as a later prompt can say something about it.

    Attributes:
        prompt: Hash of the whole prompt; empty if there was none.
        before: Hash of all but the prompt's last message; empty if there was only one.
        length: Messages in the prompt.
        tail: Hash of the last two messages before the prompt's last, or of the instructions if
            there are none; white space, markup and numbers in instructions do not count.
        is_reply: Whether the prompt holds an earlier turn of the assistant.
        is_spoken: Whether the prompt's last message is a person's: no tool's result.
        said: The text of the person's last turn, its beginning.
        said_last: Its end, if that is not in ``said``.
        turn: Hash of the whole of it, with what it holds beside text.
        is_redacted: Whether something was removed from that turn.
        ends: Beginnings and ends of the messages in which an app would say what it wants.
        instructions: Hash of the system prompts, numbers left out: they may hold the time.
        reply_chains: Hashes of the prompt with each reply.
        reply_tails: Hashes of the last turn with each reply, as ``tail`` has them.
        answered: The answer's beginning.
        answer: Hash of what was answered.
        is_answered: Whether there was an answer without an error.
        asks: Whether the answer ends with a question to the person.
        is_cut: Whether the answer met its length limit.
        shown_tokens: A lower bound of what the person could read.
        choices: How many answers were asked for.
        is_cold: Whether the temperature was 0.
        is_probe: Whether it was also asked for a token or few, or for a seed: as machines do
            that look whether somebody answers, or measure.
    """

    completion_id: CompletionId
    tenant: TenantId
    user: UserId | None
    conversation: ConversationId
    alias: Alias
    prompt: ChainHash
    before: ChainHash
    length: int
    tail: int
    is_reply: bool
    is_spoken: bool
    said: str
    said_last: str
    turn: int
    is_redacted: bool
    ends: tuple[str, ...]
    instructions: int
    reply_chains: tuple[ChainHash, ...]
    reply_tails: tuple[int, ...]
    answered: str
    answer: int
    is_answered: bool
    asks: bool
    is_cut: bool
    shown_tokens: int
    choices: int
    is_cold: bool
    is_probe: bool
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
    messages = completion.messages
    texts = [reply.text for reply in completion.replies]
    content = _last_turn(messages)
    turn, said = normalised(content), _text(content)
    instructions = _instructions(messages)
    return Sketch(
        completion_id=completion.completion_id,
        tenant=completion.tenant,
        user=completion.user,
        conversation=completion.conversation,
        alias=completion.alias,
        prompt=completion.chain[-1] if completion.chain else ChainHash(""),
        before=completion.chain[-2] if len(completion.chain) > 1 else ChainHash(""),
        length=len(completion.chain),
        tail=_tail(messages, instructions),
        is_reply=any(message.get("role") == "assistant" for message in messages[:-1]),
        is_spoken=bool(messages) and messages[-1].get("role") == "user",
        said=said[:_KEPT_TURN],
        said_last=said[_KEPT_TURN:][-_KEPT_TURN_END:],
        turn=hash(turn),
        is_redacted="[" in turn and PLACEHOLDER.search(turn) is not None,
        ends=_ends(messages),
        instructions=instructions,
        reply_chains=completion.reply_chains,
        reply_tails=_reply_tails(turn, texts),
        answered=texts[0][:_KEPT_ANSWER] if texts else "",
        answer=hash(tuple(texts)),
        is_answered=completion.status < _FIRST_ERROR and bool(texts),
        asks=bool(texts) and texts[0][-20:].rstrip(" \n*_)\"'").endswith(_ASKING),
        is_cut=any(reply.finish_reason == "length" for reply in completion.replies),
        shown_tokens=_shown_tokens(completion),
        choices=_choices(completion),
        is_cold=_is_cold(completion.parameters),
        is_probe=_is_cold(completion.parameters) and _is_probe(completion.parameters),
        idempotency_key=completion.idempotency_key,
        outcome=completion.outcome,
        accepted_at=completion.accepted_at,
        ended_at=completion.ended_at,
    )


def held_bytes(one: Sketch) -> int:
    """Estimate the memory that a sketch takes: a character takes one byte, two or four."""
    texts = (one.said, one.said_last, one.answered, *one.ends)
    return _FIXED_BYTES + _REPLY_BYTES * len(one.reply_chains) + sum(map(getsizeof, texts))


def _last_turn(messages: Sequence[JsonObject]) -> object:
    for one in reversed(messages):
        if one.get("role") == "user":
            return one.get("content")
    return None


def _text(content: object) -> str:
    """Leave out what is no text: the bytes of a picture say nothing to a reader of words."""
    if isinstance(content, list):
        return normalised([p for p in content if isinstance(p, dict) and p.get("type") == "text"])
    return normalised(content)


def _ends(messages: Sequence[JsonObject]) -> tuple[str, ...]:
    """Return where an app's own wish stands: it comes first, or last, after the conversation."""
    asked = [message for message in messages if message.get("role") != "assistant"]
    parts = []
    for message in (*asked[:1], *asked[1:][-1:]):
        if text := normalised(message.get("content")):
            parts.append(text[:_KEPT_ANSWER])
        if len(text) > _KEPT_ANSWER:
            parts.append(text[_KEPT_ANSWER:][-_KEPT_ANSWER:])
    return tuple(parts)


def _tail(messages: Sequence[JsonObject], instructions: int) -> int:
    """Name the place of the last turn by what stands just before it."""
    if len(messages) > 2 and messages[-2].get("role") == "assistant":  # noqa: PLR2004  # a turn
        turn, answer = (_loosely(normalised(one.get("content"))) for one in messages[-3:-1])
        return hash((turn, answer))
    return hash(("", instructions))


def _reply_tails(turn: str, texts: Sequence[str]) -> tuple[int, ...]:
    if not texts:
        return ()
    loosely = _loosely(turn)
    return tuple([hash((loosely, _loosely(text))) for text in texts])


def _loosely(text: str) -> bytes:
    """Leave out what clients change in what they send back: markup, white space, thoughts."""
    # A conversation that was cut at its beginning numbers what was removed anew.
    text = unnumbered(text)
    if _THOUGHT in text:
        text = text.rpartition(_THOUGHT)[2]
    if len(text) > 2 * _HASHED_END:
        text = f"{text[:_HASHED_END]} {text[-_HASHED_END:]}"
    return text.encode("utf-8", "surrogatepass").translate(None, _MARKUP)


def _instructions(messages: Sequence[JsonObject]) -> int:
    texts = [
        normalised(message.get("content"))[:_HASHED]
        for message in messages
        if message.get("role") in ("system", "developer")
    ]
    return _numberless(*texts)


@lru_cache(maxsize=256)
def _numberless(*texts: str) -> int:
    """Name instructions: most traffic is under a few."""
    return hash(tuple([_DIGITS.sub("0", text) for text in texts]))


def _shown_tokens(completion: CompletionServed) -> int:
    if completion.completion_tokens:
        return completion.completion_tokens
    text = completion.replies[0].text if completion.replies else ""
    unspaced = sum(map(len, _UNSPACED.findall(text)))
    by_length = (
        unspaced // _CHARACTERS_PER_TOKEN_UNSPACED + (len(text) - unspaced) // _CHARACTERS_PER_TOKEN
    )
    return max(len(text.split()), by_length)


def _choices(completion: CompletionServed) -> int:
    asked = completion.parameters.get("n")
    return max(asked if isinstance(asked, int) else 1, len(completion.replies))


def _is_cold(parameters: JsonObject) -> bool:
    return parameters.get("temperature") == 0


def _is_probe(parameters: JsonObject) -> bool:
    limits = (parameters.get(name) for name in _LIMITS)
    few = any(isinstance(limit, int) and limit <= _FEW_TOKENS for limit in limits)
    return few or parameters.get("seed") is not None
