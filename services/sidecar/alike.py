"""Heads that are like the one before: on a kept connection, the same lines come each time.

Only the length of the body differs. Equal bytes mean an equal head, so that what was read of the
one is known of the other, and no parser needs to look at it.
"""

import re
from typing import Generic, NamedTuple, TypeVar

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})\r\n", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_LONGEST_BYTES = 8 * 2**10
_MOST_DIGITS = 9
_TRIES = 4  # heads of which none was like the one before: hardly any will be
_SELDOM = 64  # of the heads after these, every how manyth is looked at all the same

_Known = TypeVar("_Known")


class Alike(NamedTuple, Generic[_Known]):
    """A message whose head is known again.

    Attributes:
        known: What was read of the head that it is like, but for its length.
        length: As the head has it: decimal digits.
        body: All of it.
    """

    known: _Known
    length: bytes
    body: bytes


class Likeness(Generic[_Known]):
    """Knows the head of a connection's last message, and the next one by it.

    Args:
        most_bytes: Of a body: a message with a longer one is never known.
    """

    __slots__ = ("_after", "_before", "_known", "_most_bytes", "_strange")

    def __init__(self, *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._known: _Known | None = None
        self._before = self._after = b""
        self._strange = 0

    def read(self, data: bytes) -> Alike[_Known] | None:
        """Return the one message that ``data`` is, if its head is alike; None to let it be parsed.

        Args:
            data: What has come since the last message.
        """
        known, start = self._known, len(self._before)
        if known is None or not data.startswith(self._before):
            return None
        end = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        length = data[start:end]
        if end < 0 or not length.isdigit() or not data.startswith(self._after, end):
            return None
        body = data[end + len(self._after) :]
        if len(body) != int(length) or len(body) > self._most_bytes:
            return None
        self._strange = 0
        return Alike(known, length, body)

    def learn(self, data: bytes, size: int, known: _Known) -> None:
        """Remember the head of a message that was parsed, if it came alone and in one piece.

        Args:
            data: All of it, and perhaps more.
            size: Bytes of its body.
            known: What was read of it.
        """
        self._known = None
        self._strange += 1
        if self._strange > _TRIES and self._strange % _SELDOM:
            return
        end = data.find(_HEAD_END) + len(_HEAD_END)
        if end > _LONGEST_BYTES or len(data) != end + size:
            return
        length = _LENGTH.search(data, 0, end)
        if length is not None:
            self._before, self._after = data[: length.start(1)], data[length.end(1) : end]
            self._known = known

    def forget(self) -> None:
        """Let the next message be parsed."""
        self._known = None
