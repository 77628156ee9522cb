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
        rest = {name: value for name, value in call.items() if name not in ("function", "index")}
        known.update({name: value for name, value in rest.items() if value is not None})
        known["function"] = {**joined, **function, "arguments": arguments}

    def reply(self) -> Reply:
        """Return what was said."""
        return Reply(
            text="".join(self.text),
            tool_calls=tuple(self.calls[index] for index in sorted(self.calls)),
            reasoning="".join(self.reasoning) or None,
            finish_reason=self.finish_reason,
            logp=self.logp,
        )


def replies(body: bytes, *, streamed: bool) -> tuple[tuple[Reply, ...], Usage]:
    """Read every choice of a reply, by index, and its usage.

    Args:
        body: As vLLM sent it, cut anywhere if it was cut; what cannot be read is left out.
        streamed: Whether it is a stream of server-sent events.
    """
    choices: dict[int, _Choice] = {}
    usage = Usage()
    for document in _events(body) if streamed else _whole(body):
        for place, choice in enumerate(_objects(document.get("choices"))):
            index = choice.get("index", place)
            choices.setdefault(index if isinstance(index, int) else place, _Choice()).add(choice)
        counted = _object(document.get("usage"))
        if counted:
            usage = Usage(
                prompt_tokens=_count(counted.get("prompt_tokens")),
                completion_tokens=_count(counted.get("completion_tokens")),
            )
    return tuple(choices[index].reply() for index in sorted(choices)), usage


def _events(body: bytes) -> Iterator[JsonObject]:
    for line in body.splitlines():
        if line.startswith(b"data:"):
            yield from _whole(line[5:].strip())


def _whole(body: bytes) -> Iterator[JsonObject]:
    try:
        document = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if isinstance(document, dict):
        yield document


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
    for logp in logprobs.get("token_logprobs") or ():
        if isinstance(logp, int | float):
            yield float(logp)
