"""OpenAI's ``/v1/responses``: its prompts and replies in the words of a chat.

vLLM names a response by the ``request_id`` in the body, not by ``X-Request-Id``, and ends a stream
with an event that holds the whole response. What a prompt means is the same in both forms, so a
conversation that moves from one route to the other keeps its chain. With ``previous_response_id``
it is in vLLM's memory and not in the request: what is here is then only what was added.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.capture.reply import Said, Usage, data_lines
from feedbackloop.events import JsonObject, Reply

_TEXT = frozenset({"input_text", "output_text", "text"})
_FINISH = {"max_output_tokens": "length", "content_filter": "content_filter"}
_FINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_decode = msgspec.json.Decoder().decode


def messages(body: JsonObject) -> tuple[JsonObject, ...]:
    """Return a request's ``instructions`` and ``input`` as messages of a chat."""
    found: list[JsonObject] = []
    instructions = body.get("instructions")
    if isinstance(instructions, str):
        found.append({"role": "system", "content": instructions})
    given = body.get("input")
    for item in given if isinstance(given, list) else [{"role": "user", "content": given}]:
        if isinstance(item, dict):
            _add(found, item)
    return tuple(found)


def tools(body: JsonObject) -> tuple[JsonObject, ...]:
    """Return a request's tools in the form that a chat has them."""
    given = body.get("tools")
    return tuple(
        _tool(tool) for tool in (given if isinstance(given, list) else ()) if isinstance(tool, dict)
    )


def read(body: bytes, *, streamed: bool) -> Said:
    """Read a reply; of a stream that was cut, what had come."""
    if not streamed:
        whole = _object(body)
        return Said(sound=False) if whole is None else _said(whole)
    so_far = _SoFar()
    for data in data_lines(body):
        event = _object(data)
        if event is None:
            return msgspec.structs.replace(so_far.said(), sound=False)
        if event.get("type") in _FINAL and isinstance(event.get("response"), dict):
            return _said(event["response"])
        if event.get("type") == "error" or event.get("error") is not None:
            return msgspec.structs.replace(so_far.said(), sound=False)
        so_far.add(event)
    return so_far.said()


class _SoFar:
    """What the deltas of a stream add up to."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, JsonObject] = {}

    def add(self, event: JsonObject) -> None:
        """Take the next event in."""
        delta = event.get("delta")
        kind = event.get("type")
        if kind == "response.output_item.added":
            self._begin(event)
        elif not isinstance(delta, str):
            return
        elif kind in ("response.output_text.delta", "response.refusal.delta"):
            self._text.append(delta)
        elif kind in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
            self._reasoning.append(delta)
        elif kind == "response.function_call_arguments.delta":
            call = self._calls.get(_index(event))
            if call is not None:
                call["function"]["arguments"] += delta

    def said(self) -> Said:
        """Return what was said."""
        reply = Reply(
            text="".join(self._text),
            tool_calls=tuple(self._calls[index] for index in sorted(self._calls)),
            reasoning="".join(self._reasoning) or None,
        )
        return Said(replies=(reply,))

    def _begin(self, event: JsonObject) -> None:
        item = event.get("item")
        if isinstance(item, dict) and item.get("type") == "function_call":
            self._calls[_index(event)] = _call(item)


def _said(response: JsonObject) -> Said:
    text: list[str] = []
    reasoning: list[str] = []
    calls: list[JsonObject] = []
    for item in _objects(response.get("output")):
        kind = item.get("type")
        if kind == "message":
            text += _texts(item.get("content"))
        elif kind == "function_call":
            calls.append(_call(item))
        elif kind == "reasoning":
            reasoning += _texts(item.get("content")) or _texts(item.get("summary"))
    reply = Reply(
        text="".join(text),
        tool_calls=tuple(calls),
        reasoning="".join(reasoning) or None,
        finish_reason=_finish_reason(response, called=bool(calls)),
    )
    sound = response.get("error") is None and response.get("status") != "failed"
    return Said(replies=(reply,), usage=_usage(response.get("usage")), sound=sound)


def _finish_reason(response: JsonObject, *, called: bool) -> str | None:
    details = response.get("incomplete_details")
    if isinstance(details, dict):
        reason = str(details.get("reason"))
        return _FINISH.get(reason, reason)
    if response.get("status") != "completed":
        return None
    return "tool_calls" if called else "stop"


def _usage(usage: object) -> Usage:
    counted = usage if isinstance(usage, dict) else {}
    given, said = counted.get("input_tokens"), counted.get("output_tokens")
    return Usage(
        prompt_tokens=given if isinstance(given, int) else None,
        completion_tokens=said if isinstance(said, int) else None,
    )


def _add(found: list[JsonObject], item: JsonObject) -> None:
    """Add an item of the input: a message, a call of a tool, or what the tool answered."""
    kind = item.get("type", "message")
    if kind == "message":
        found.append({"role": item.get("role", ""), "content": _content(item.get("content"))})
    elif kind == "function_call_output":
        found.append(
            {
                "role": "tool",
                "tool_call_id": item.get("call_id"),
                "content": _content(item.get("output")),
            }
        )
    elif kind == "function_call":
        if not found or found[-1].get("role") != "assistant":
            found.append({"role": "assistant", "content": ""})
        found[-1].setdefault("tool_calls", []).append(_call(item))
    elif kind != "reasoning":
        # A kind that we do not know is part of the prompt all the same.
        found.append({"role": str(kind), "content": item})


def _content(content: object) -> object:
    """Write content as a chat has it: a text alone is a text."""
    if not isinstance(content, list):
        return content
    parts = [_part(part) for part in content]
    if len(parts) == 1 and isinstance(parts[0], dict) and parts[0].get("type") == "text":
        return parts[0]["text"]
    return parts


def _part(part: object) -> object:
    if not isinstance(part, dict):
        return part
    if part.get("type") in _TEXT and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if part.get("type") == "refusal":
        return {"type": "text", "text": part.get("refusal")}
    if part.get("type") == "input_image" and isinstance(part.get("image_url"), str):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    return part


def _call(item: JsonObject) -> JsonObject:
    function = {"name": item.get("name"), "arguments": item.get("arguments") or ""}
    return {"id": item.get("call_id"), "type": "function", "function": function}


def _tool(tool: JsonObject) -> JsonObject:
    if tool.get("type") != "function" or "function" in tool:
        return tool
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def _texts(parts: object) -> list[str]:
    found = (part.get("text", part.get("refusal")) for part in _objects(parts))
    return [text for text in found if isinstance(text, str)]


def _index(event: JsonObject) -> int:
    index = event.get("output_index")
    return index if isinstance(index, int) else 0


def _objects(value: object) -> Iterator[JsonObject]:
    yield from (one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def _object(data: bytes) -> JsonObject | None:
    try:
        value: Any = _decode(data)
    except UNREADABLE:
        return None
    return value if isinstance(value, dict) else None
