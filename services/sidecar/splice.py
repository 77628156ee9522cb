"""Change ``model`` in bytes that pass through, and nothing else."""

import re
from re import Pattern

import msgspec

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]', re.DOTALL)
_LONGEST_EVENT_BYTES = 8 * 2**20


def replace_model(body: bytes, old: str, new: str, *, within: str | None = None) -> bytes:
    """Return a JSON object's bytes with another value for its top-level ``model``.

    Args:
        body: A JSON object that was parsed before, and whose ``model`` is ``old``.
        old: The value in ``body``.
        new: The value to put there; every byte outside of it stays.
        within: The top-level key whose object has the ``model``, if it is not the top itself.
    """
    plain = b'"model":' + msgspec.json.encode(old)
    # An object that names the key once and unescaped can only mean the one that we mean.
    if body.count(b'"model"') == 1 and b"\\u006" not in body and plain in body:
        return body.replace(plain, b'"model":' + msgspec.json.encode(new), 1)
    return _replace_precisely(body, new, within)


def _replace_precisely(body: bytes, new: str, within: str | None) -> bytes:
    value = msgspec.json.encode(new)
    pieces = []
    end = 0
    for first, last in _model_values(body, within):
        pieces += [body[end:first], value]
        end = last
    return b"".join([*pieces, body[end:]])


def _model_values(body: bytes, within: str | None) -> list[tuple[int, int]]:
    """Find where the values of the key ``model`` stand, if they are strings."""
    found = []
    level = 1 if within is None else 2
    inside = within is None
    before = {1: (b"", b""), 2: (b"", b"")}
    depth = 0
    for token in _TOKEN.finditer(body):
        text = token.group()
        if 1 <= depth <= level:
            # A value follows a key and a colon, and a key follows a brace or a comma.
            key, colon = before[depth]
            name = msgspec.json.decode(key) if colon == b":" else None
            if depth == level and inside and text[:1] == b'"' and name == "model":
                found.append(token.span())
            if depth < level and text == b"{":
                inside = name == within
                before[2] = (b"", b"")
            before[depth] = (colon, text)
        depth += (text in b"{[") - (text in b"}]")
    return found


def restore_names(body: bytes, model: str, alias: str) -> bytes:
    """Put the alias where an error of the upstream names the release."""
    if model == alias:
        return body
    name = re.escape(model.encode())
    whole = alias.encode()
    return re.sub(rb"(?<![\w./-])" + name + rb"(?![\w/-]|\.\w)", lambda _: whole, body)


class Form(msgspec.Struct, frozen=True):
    """How a route's streams look.

    Attributes:
        mark: What the last event holds, and no other.
        last: Finds its beginning.
        within: The key of an event whose object has the ``model``, if it is not the event itself.
    """

    mark: bytes
    last: Pattern[bytes]
    within: str | None = None


CHAT = Form(b"[DONE]", re.compile(rb"(?:^|\n)data: ?\[DONE\]"))
RESPONSES = Form(
    b"event: response.",
    re.compile(rb"(?:^|\n)event: response\.(?:completed|incomplete|failed)[\r\n]"),
    "response",
)


class StreamSplicer:
    """Server-sent events with ``model`` changed in each, in pieces cut anywhere.

    Whole events come back at once; the start of one waits for its end, because no client can
    read half an event. The last event and all after it is held until ``finish``.

    Attributes:
        done: Whether the last event has arrived.
    """

    def __init__(self, old: str, new: str, *, form: Form = CHAT) -> None:
        self._alias = new
        self._form = form
        self._same = old == new
        self._old = b'"model":' + msgspec.json.encode(old)
        self._new = b'"model":' + msgspec.json.encode(new)
        self._rest = b""
        self.done = False

    def feed(self, chunk: bytes) -> bytes:
        """Take the next piece; return what can be passed on now."""
        data = self._rest + chunk if self._rest else chunk
        if self.done:
            self._rest = data
            return b""
        whole = data
        if data.endswith(b"\n\n"):
            self._rest = b""
        else:
            end = self._whole_bytes(data)
            whole, self._rest = data[:end], data[end:]
        if self._form.mark in whole:
            whole = self._hold(whole)
        return whole if self._same or not whole else self._replace(whole)

    @staticmethod
    def _whole_bytes(data: bytes) -> int:
        """Say how much of ``data`` is whole events."""
        end = max(data.rfind(b"\n\n") + 2, data.rfind(b"\r\n\r\n") + 4)
        if end < 4:  # noqa: PLR2004  # -1 + 2 and -1 + 4: neither was found
            end = 0 if len(data) < _LONGEST_EVENT_BYTES else len(data)
        return end

    def finish(self) -> bytes:
        """Return what was held back."""
        rest, self._rest = self._rest, b""
        return rest if self._same or not rest else self._replace(rest)

    def _hold(self, whole: bytes) -> bytes:
        """Keep back from ``[DONE]`` on."""
        match = self._form.last.search(whole)
        if match is None:
            return whole
        self.done = True
        start = match.start() + (whole[match.start()] == ord("\n"))
        self._rest = whole[start:] + self._rest
        return whole[:start]

    def _replace(self, whole: bytes) -> bytes:
        if whole.find(b"\n\n", 0, -2) < 0:
            return self._replace_one(whole)
        return b"\n\n".join([self._replace_one(event) for event in whole.split(b"\n\n")])

    def _replace_one(self, event: bytes) -> bytes:
        if self._form.within is None:
            start = event.find(self._old)
            # vLLM writes it before anything that has braces of its own.
            if start >= 0 and event.count(b"{", 0, start) == 1:
                return event[:start] + self._new + event[start + len(self._old) :]
        if b'"model"' in event:
            return _replace_precisely(event, self._alias, self._form.within)
        return event
