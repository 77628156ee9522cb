"""Heads that are like the one before: on a kept connection, clients send the same lines each time.

Only the length of the body differs. Equal bytes mean an equal head, so that what was read of the
one is known of the other, and no parser needs to look at it.
"""

import re

from services.sidecar.request import Request, Way

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})\r\n", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_LONGEST_BYTES = 8 * 2**10
_MOST_DIGITS = 9
_TRIES = 4  # heads of which none was like the one before: this client's never are


class Likeness:
    """Knows the head of a connection's last completion request, and the next one by it.

    Args:
        most_bytes: Of a body: a request with a longer one is never known.
    """

    __slots__ = ("_after", "_before", "_most_bytes", "_request", "_tries")

    def __init__(self, *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._request: Request | None = None
        self._before = self._after = b""
        self._tries = 0

    def read(self, data: bytes) -> Request | None:
        """Return the one request that ``data`` is, if its head is alike; None to let it be parsed.

        Args:
            data: What has come since the last request.
        """
        known, start = self._request, len(self._before)
        if known is None or not data.startswith(self._before):
            return None
        end = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        length = data[start:end]
        if end < 0 or not length.isdigit() or not data.startswith(self._after, end):
            return None
        body = data[end + len(self._after) :]
        if len(body) != int(length) or len(body) > self._most_bytes:
            return None
        self._tries = 0
        return known.like(length, body)

    def learn(self, data: bytes, request: Request) -> None:
        """Remember the head of a request that was parsed, if it came alone and in one piece.

        Args:
            data: All of it, and perhaps more.
            request: What was read of it.
        """
        self._request = None
        if request.error is not None or request.way is not Way.RECORDED or self._tries == _TRIES:
            return
        end = data.find(_HEAD_END) + len(_HEAD_END)
        if end > _LONGEST_BYTES or len(data) != end + request.size:
            return
        length = _LENGTH.search(data, 0, end)
        if length is not None:
            self._tries += 1
            self._before, self._after = data[: length.start(1)], data[length.end(1) : end]
            self._request = request.bare()
