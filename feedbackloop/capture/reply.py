"""A reply's bytes, whole or streamed, perhaps cut anywhere -> what each choice said."""

from collections.abc import Iterator
from typing import Any

import msgspec

from feedbackloop.events import JsonObject, Reply

_decode = msgspec.json.Decoder().decode


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


class _Choice:
    """One choice, as it comes together."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, JsonObject] = {}
        self.finish_reason: str | None = None
        self.logp: float | None = None

    def add(self, choice: JsonObject) -> None:
        """Take in a whole choice, or a chunk of one."""
        words = _object(choice.get("message")) or _object(choice.get("delta"))
        self.text.extend(_texts(choice.get("text"), words.get("content"), words.get("refusal")))
        self.reasoning.extend(_texts(words.get("reasoning") or words.get("reasoning_content")))
        for place, call in enumerate(_objects(words.get("tool_calls"))):
            self._call(call, place)
        finish = choice.get("finish_reason")
        if isinstance(finish, str):
            self.finish_reason = finish
        for logp in _logps(_object(choice.get("logprobs"))):
            self.logp = (self.logp or 0.0) + logp

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
    choices: dict[int, _Choice] = {}
    usage = Usage()
    sound = True
    for document in _events(body) if streamed else [_document(body)]:
        if document is None or document.get("error") is not None:
            sound = False
            break
        for place, choice in enumerate(_objects(document.get("choices"))):
            index = choice.get("index", place)
            choices.setdefault(index if isinstance(index, int) else place, _Choice()).add(choice)
        counted = _object(document.get("usage"))
        if counted:
            usage = Usage(
                prompt_tokens=_count(counted.get("prompt_tokens")),
                completion_tokens=_count(counted.get("completion_tokens")),
            )
    replies = tuple(choices[index].reply() for index in sorted(choices))
    return Said(replies=replies, usage=usage, sound=sound)


def _events(body: bytes) -> Iterator[JsonObject | None]:
    for line in body.splitlines():
        data = line[5:].strip() if line.startswith(b"data:") else b""
        if data == b"[DONE]":
            return
        if data:
            yield _document(data)


def _document(body: bytes) -> JsonObject | None:
    try:
        document = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _object(value: Any) -> JsonObject:  # noqa: ANN401  # whatever JSON holds
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[JsonObject]:  # noqa: ANN401  # whatever JSON holds
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(*values: object) -> list[str]:
    return [value for value in values if isinstance(value, str)]


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
