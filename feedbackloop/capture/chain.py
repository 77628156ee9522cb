"""The hash chain over a conversation's messages: names exactly which completion a prompt follows.

Clients send the whole conversation with every prompt. The hash of its messages up to the last
assistant turn is the hash that we stored when we served that turn, so a later prompt names the
completion that it reacts to, with no change to the client.
"""

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from feedbackloop.events import ChainHash, JsonObject

_START = ChainHash("")
_DIGEST_BYTES = 16


def chain(
    messages: Sequence[JsonObject], *, key: bytes, start: ChainHash = _START
) -> tuple[ChainHash, ...]:
    """Return the hash after each message, in order; the last one names the prompt.

    Args:
        messages: The conversation, or what was added to one that is named by ``start``.
        key: Of the tenant.
        start: What stands for all that came before.
    """
    hashes: list[ChainHash] = []
    before = start
    for message in messages:
        before = extend(before, message, key=key)
        hashes.append(before)
    return tuple(hashes)


def start_after(reply: str, *, key: bytes) -> ChainHash:
    """Name a conversation that only the server knows, by the id of its last reply."""
    return extend(_START, {"role": "previous_response_id", "content": reply}, key=key)


def extend(before: ChainHash, message: JsonObject, *, key: bytes) -> ChainHash:
    """Return the hash after one more message.

    Only what a client hands back unchanged counts: role, content and tool calls. White space
    around the content does not, since clients trim it; nor do ids of tool calls, names and
    hidden reasoning, since clients drop them.
    """
    content = normalised(message.get("content"))
    if not content:
        content = normalised(message.get("refusal"))
    role = str(message.get("role", ""))
    said = f"{len(before)}:{before}{len(role)}:{role}{len(content)}:{content}"
    total = blake2b(said.encode("utf-8", "surrogatepass"), key=key[:64], digest_size=_DIGEST_BYTES)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        total.update(_call(call))
    return ChainHash(total.hexdigest())


def normalised(content: object) -> str:
    """Reduce a message's content to what is compared: text as it is, other parts as JSON."""
    if isinstance(content, str):
        return content.strip()
    if content is None:
        return ""
    if isinstance(content, list):
        return "\n".join(_part(part) for part in content).strip()
    # An object or a number is no content that OpenAI knows, but it is what the client sent.
    return msgspec.json.encode(content, order="deterministic").decode()


def _part(part: object) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    return msgspec.json.encode(part, order="deterministic").decode()


def _call(call: object) -> bytes:
    """Tell tool calls apart by what is called and with what, not by their ids."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return msgspec.json.encode(call, order="deterministic")
    called = [function.get("name"), normalised(function.get("arguments"))]
    return msgspec.json.encode(called, order="deterministic")
