"""A reply's bytes, whole or streamed, perhaps cut anywhere -> what each choice said."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.events import JsonObject, Reply

_decode = msgspec.json.Decoder().decode
_BEGIN, _BETWEEN, _END = b"data: ", b"\n\ndata: ", b"\n\ndata: [DONE]\n\n"


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens as the server counted them, if it said so."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a reply says.

    Attributes:
        replies: Each choice, by index.
        usage: Tokens.
        sound: Whether all of it could be read and none of it was an error.
    """

    replies: tuple[Reply, ...] = ()
    usage: Usage = Usage()
    sound: bool = True


class _Words(msgspec.Struct):
    """What a choice, or a piece of one, adds."""

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[JsonObject] | None = None


class _Piece(msgspec.Struct):
    """A whole choice, or what one chunk adds to it."""

    index: int | None = None
    message: _Words | None = None
    delta: _Words | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: JsonObject | None = None


class _Document(msgspec.Struct):
    """A whole reply, or one chunk: the fields that are read."""

    choices: list[_Piece] = []
    usage: JsonObject | None = None
    error: Any = None


_one = msgspec.json.Decoder(_Document)
_many = msgspec.json.Decoder(list[_Document])


class _Choice:
    """One choice, as it comes together."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, JsonObject] = {}
        self.finish_reason: str | None = None
        self.logp: float | None = None

    def add(self, piece: _Piece) -> None:
        """Take in a whole choice, or a chunk of one."""
        if piece.text:
            self.text.append(piece.text)
        words = piece.message or piece.delta
        if words is not None:
            self._say(words)
        if piece.finish_reason is not None:
            self.finish_reason = piece.finish_reason
        if piece.logprobs is not None:
            for logp in _logps(piece.logprobs):
                self.logp = (self.logp or 0.0) + logp

    def _say(self, words: _Words) -> None:
        if words.content:
            self.text.append(words.content)
        if words.refusal:
            self.text.append(words.refusal)
        reasoning = words.reasoning or words.reasoning_content
        if reasoning:
            self.reasoning.append(reasoning)
        if words.tool_calls is not None:
            for place, call in enumerate(words.tool_calls):
                self._call(call, place)

    def _call(self, call: JsonObject, place: int) -> None:
        index = call.get("index", place)
        known = self.calls.setdefault(index if isinstance(index, int) else place, {})
        function = _object(call.get("function"))
        joined = _object(known.get("function"))
        arguments = "".join(_texts(joined.get("arguments"), function.get("arguments")))
        # Later chunks repeat names as null or empty: the first word counts.
        known.update({k: v for k, v in call.items() if v and k not in ("function", "index")})
        said = {k: v for k, v in function.items() if v}
        known["function"] = {**joined, **said, "arguments": arguments}

    def reply(self) -> Reply:
        """Return what was said."""
        return Reply(
            text="".join(self.text),
            tool_calls=tuple(self.calls[index] for index in sorted(self.calls)),
            reasoning="".join(self.reasoning) or None,
            finish_reason=self.finish_reason,
            logp=self.logp,
        )


def read(body: bytes, *, streamed: bool) -> Said:
    """Read every choice of a reply, and its usage.

    What is returned is always the true beginning of each choice: reading ends at the first place
    that cannot be read, be it where the connection broke or in the middle.

    Args:
        body: As vLLM sent it, cut anywhere if it was cut.
        streamed: Whether it is a stream of server-sent events.
    """
    if not streamed and (whole := _plain(body)) is not None:
        return whole
    choices: dict[int, _Choice] = {}
    usage = Usage()
    sound = True
    for document in _events(body) if streamed else [_document(body)]:
        if document is None or document.error is not None:
            sound = False
            break
        for place, piece in enumerate(document.choices):
            index = place if piece.index is None else piece.index
            choice = choices.get(index)
            if choice is None:
                choice = choices[index] = _Choice()
            choice.add(piece)
        if document.usage:
            usage = _usage(document.usage)
    replies = tuple(choices[index].reply() for index in sorted(choices))
    return Said(replies=replies, usage=usage, sound=sound)


def _plain(body: bytes) -> Said | None:
    """Read what most whole replies are: one choice, and nothing but words in it."""
    document = _document(body)
    if document is None or document.error is not None or len(document.choices) != 1:
        return None
    piece = document.choices[0]
    words = piece.message
    if words is None or piece.text or words.tool_calls is not None or piece.logprobs is not None:
        return None
    said = Reply(
        text=(words.content or "") + (words.refusal or ""),
        reasoning=words.reasoning or words.reasoning_content or None,
        finish_reason=piece.finish_reason,
    )
    return Said(replies=(said,), usage=_usage(document.usage or {}))


def _usage(usage: JsonObject) -> Usage:
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def _events(body: bytes) -> Iterable[_Document | None]:
    """Read a stream's events: at one stroke if it has the one form that vLLM gives it."""
    regular = body.startswith(_BEGIN) and body.endswith(_END) and b"\r" not in body
    if regular and len(body) > len(_END):
        # JSON holds no bare line end, so what stands between two events is none of their text.
        joined = body[len(_BEGIN) : -len(_END)].replace(_BETWEEN, b",")
        with contextlib.suppress(*UNREADABLE):
            return _many.decode(b"[%b]" % joined)
    return _lines(body)


def _lines(body: bytes) -> Iterator[_Document | None]:
    return (_document(data) for data in data_lines(body))


def data_lines(body: bytes) -> Iterator[bytes]:
    """Yield what each event of a stream holds, up to ``[DONE]``."""
    for line in body.splitlines():
        data = line[5:].strip() if line.startswith(b"data:") else b""
        if data == b"[DONE]":
            return
        if data:
            yield data


def _document(body: bytes) -> _Document | None:
    try:
        return _one.decode(body)
    except UNREADABLE:
        return _forgiven(body)


def _forgiven(body: bytes) -> _Document | None:
    """Read a document some of whose fields have types that we do not know, without those."""
    try:
        document = _decode(body)
    except UNREADABLE:
        return None
    if not isinstance(document, dict):
        return None
    return _Document(
        choices=[_piece(choice) for choice in _objects(document.get("choices"))],
        usage=_object(document.get("usage")),
        error=document.get("error"),
    )


def _piece(choice: JsonObject) -> _Piece:
    words = _object(choice.get("message")) or _object(choice.get("delta"))
    index = choice.get("index")
    return _Piece(
        index=index if isinstance(index, int) else None,
        message=_Words(
            content=_text(words.get("content")),
            refusal=_text(words.get("refusal")),
            reasoning=_text(words.get("reasoning")),
            reasoning_content=_text(words.get("reasoning_content")),
            tool_calls=_objects(words.get("tool_calls")),
        ),
        text=_text(choice.get("text")),
        finish_reason=_text(choice.get("finish_reason")),
        logprobs=_object(choice.get("logprobs")),
    )


def _object(value: Any) -> JsonObject:  # noqa: ANN401  # whatever JSON holds
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[JsonObject]:  # noqa: ANN401  # whatever JSON holds
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(*values: object) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _logps(logprobs: JsonObject) -> Iterator[float]:
    """Yield the sampled tokens' log-probabilities, chat's form or the older one's."""
    for token in _objects(logprobs.get("content")):
        if isinstance(token.get("logprob"), int | float):
            yield float(token["logprob"])
    older = logprobs.get("token_logprobs")
    for logp in older if isinstance(older, list) else ():
        if isinstance(logp, int | float):
            yield float(logp)
