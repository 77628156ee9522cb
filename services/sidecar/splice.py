"""Change ``model`` in bytes that pass through, and nothing else."""

import re

import msgspec

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]', re.DOTALL)
_DONE = re.compile(rb"(?:^|\n)data: ?\[DONE\]")
_LONGEST_EVENT_BYTES = 8 * 2**20


def replace_model(body: bytes, old: str, new: str) -> bytes:
    """Return a JSON object's bytes with another value for its top-level ``model``.

    Args:
        body: A JSON object that was parsed before, and whose ``model`` is ``old``.
        old: The value in ``body``.
        new: The value to put there; every byte outside of it stays.
    """
    plain = b'"model":' + msgspec.json.encode(old)
    # An object that names the key once and unescaped can only mean the one at the top.
    if body.count(b'"model"') == 1 and b"\\u006" not in body and plain in body:
        return body.replace(plain, b'"model":' + msgspec.json.encode(new), 1)
    value = msgspec.json.encode(new)
    pieces = []
    end = 0
    for first, last in _model_values(body):
        pieces += [body[end:first], value]
        end = last
    return b"".join([*pieces, body[end:]])


def _model_values(body: bytes) -> list[tuple[int, int]]:
    """Find where the values of the top-level key ``model`` stand, if they are strings."""
    found = []
    before: list[bytes] = [b"", b""]
    depth = 0
    for token in _TOKEN.finditer(body):
        text = token.group()
        if depth == 1:
            # A value follows a key and a colon, and a key follows a brace or a comma.
            key, colon = before
            if text[:1] == b'"' and colon == b":" and msgspec.json.decode(key) == "model":
                found.append(token.span())
            before = [colon, text]
        depth += (text in b"{[") - (text in b"}]")
    return found


def restore_names(body: bytes, model: str, alias: str) -> bytes:
    """Put the alias where an error of the upstream names the release."""
    if model == alias:
        return body
    name = re.escape(model.encode())
    whole = alias.encode()
    return re.sub(rb"(?<![\w./-])" + name + rb"(?![\w/-]|\.\w)", lambda _: whole, body)


class StreamSplicer:
    """Server-sent events with ``model`` changed in each, in pieces cut anywhere.

    Whole events come back at once; the start of one waits for its end, because no client can
    read half an event. ``[DONE]`` and all after it is held until ``finish``.

    Attributes:
        done: Whether ``[DONE]`` has arrived.
    """

    def __init__(self, old: str, new: str) -> None:
        self._same = old == new
        self._old = b'"model":' + msgspec.json.encode(old)
        self._new = b'"model":' + msgspec.json.encode(new)
        name = re.escape(msgspec.json.encode(old))
        self._spaced = re.compile(rb'("model"\s*:\s*)' + name)
        self._name = msgspec.json.encode(new)
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
        if b"[DONE]" in whole:
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
        return rest if self._same or self.done else self._replace(rest)

    def _hold(self, whole: bytes) -> bytes:
        """Keep back from ``[DONE]`` on."""
        match = _DONE.search(whole)
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
        # vLLM writes ``model`` before anything that a prompt could have an influence on.
        changed = event.replace(self._old, self._new, 1)
        if changed is event and b'"model"' in event:
            return self._spaced.sub(lambda found: found[1] + self._name, event, count=1)
        return changed
