"""What the sidecar reads of a completion request; the rest stays bytes."""

import re

import msgspec

from feedbackloop.capture import responses
from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.errors import RequestError
from feedbackloop.events import Endpoint, JsonObject

_NOTHING = msgspec.Raw(b"null")
_AT = re.compile(r" - at `\$\.(\w+)|field `(\w+)`$")


class _Message(msgspec.Struct):
    role: str = ""
    content: msgspec.Raw = _NOTHING


class _Request(msgspec.Struct):
    model: str
    user: str | None = None
    safety_identifier: str | None = None
    stream: bool | None = None
    n: msgspec.Raw = _NOTHING
    cache_salt: str | None = None
    prompt: msgspec.Raw = _NOTHING
    prompt_logprobs: int | None = None
    echo: bool | None = None
    logprobs: bool | int | None = None


class _ChatRequest(_Request, kw_only=True):
    messages: list[_Message]


class _ResponsesRequest(_Request, kw_only=True):
    input: str | list[msgspec.Raw]
    background: bool | None = None
    previous_response_id: str | None = None


_responses = msgspec.json.Decoder(_ResponsesRequest)
_chat = msgspec.json.Decoder(_ChatRequest)
_completions = msgspec.json.Decoder(_Request)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A completion request, as far as routing and identity need it.

    Attributes:
        user: Whom the request names as its end user, or None.
        opening: The messages that a conversation is known by: all that come before the first
            user turn, and that turn.
        choices: How many choices the reply will have; 0 if that cannot be told.
        scores_prompt: The field that asks how likely the prompt is; empty if none does.
        cache_salt: vLLM's, if the client chose one.
        continues: The id of the completion that vLLM is to go on from, if it is named.
    """

    model: str
    user: str | None
    streamed: bool
    opening: tuple[JsonObject, ...]
    choices: int = 1
    scores_prompt: str = ""
    cache_salt: str | None = None
    continues: str | None = None


def read(body: bytes, endpoint: Endpoint) -> Asked:
    """Read a request.

    Raises:
        RequestError: 400 if it is no JSON object or one of these fields is wrong; it names it.
    """
    try:
        if endpoint == "chat":
            chat = _chat.decode(body)
            return _asked(chat, _opening(chat.messages), prompts=1)
        if endpoint == "responses":
            return _response(body)
        request = _completions.decode(body)
        prompt = msgspec.json.decode(request.prompt)
        opening = ({"role": "user", "content": prompt},)
        return _asked(request, opening, prompts=_prompts(prompt))
    except msgspec.ValidationError as error:
        match = _AT.search(str(error))
        param = next(filter(None, match.groups()), None) if match is not None else None
        raise RequestError(str(error), status=400, param=param, code="invalid_type") from error
    except UNREADABLE as error:
        raise RequestError(
            f"the body is not JSON: {error}", status=400, code="invalid_json"
        ) from error


def _response(body: bytes) -> Asked:
    request = _responses.decode(body)
    if request.background:
        raise RequestError(
            "background: not served here, where replies are recorded as they pass",
            status=400,
            param="background",
            code="unsupported_parameter",
        )
    talk = responses.messages(msgspec.json.decode(body))
    turn = next((i for i, message in enumerate(talk) if message.get("role") == "user"), len(talk))
    asked = _asked(request, talk[: turn + 1], prompts=1)
    return msgspec.structs.replace(asked, continues=request.previous_response_id)


def _asked(request: _Request, opening: tuple[JsonObject, ...], *, prompts: int) -> Asked:
    return Asked(
        model=request.model,
        user=request.user or request.safety_identifier or None,
        streamed=bool(request.stream),
        opening=opening,
        cache_salt=request.cache_salt,
        choices=prompts if request.n is _NOTHING else prompts * _number(request.n),
        scores_prompt=_scores_prompt(request),
    )


def _number(raw: msgspec.Raw) -> int:
    """Read ``n``; what vLLM makes of anything but a whole number is its own affair."""
    n = msgspec.json.decode(raw)
    if n is None:
        return 1
    return n if isinstance(n, int) and n > 0 else 0


def _prompts(prompt: object) -> int:
    """Count the prompts of ``/v1/completions``: a text, tokens, or a list of either."""
    many = isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], str | list)
    return len(prompt) if many and isinstance(prompt, list) else 1


def _opening(messages: list[_Message]) -> tuple[JsonObject, ...]:
    opening = []
    for message in messages:
        content = msgspec.json.decode(message.content)
        opening.append({"role": message.role, "content": content})
        if message.role == "user":
            break
    return tuple(opening)


def _scores_prompt(request: _Request) -> str:
    if request.prompt_logprobs is not None:
        return "prompt_logprobs"
    # OpenAI's older way of asking for the same.
    return "echo" if request.echo and request.logprobs is not None else ""
