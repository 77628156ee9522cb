"""Stands for vLLM: answers at once, whole, or as a stream of chunks on the clock.

It does as little as it can, so that what is measured is what stands before it.
"""

import asyncio
import itertools
import json
import sys
import time
from email.utils import formatdate
from functools import lru_cache
from typing import cast

import uvloop

CHUNKS = 64
CHUNK_SECONDS = 0.01
MODEL = "base"

_SLOT = b"########"
_WORDS = b"word " * 40 + _SLOT
_WHOLE = (
    b'{"id":"chatcmpl-x","object":"chat.completion","created":1,"model":"base","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"' + _WORDS + b'"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":40,"total_tokens":49}}'
)
_CHUNK = (
    b'data: {"id":"chatcmpl-x","object":"chat.completion.chunk","created":1,"model":"base",'
    b'"choices":[{"index":0,"delta":{"content":"word "},"logprobs":null,"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"chatcmpl-x","object":"chat.completion.chunk","created":1,"model":"base",'
    b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
)
_MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()


_numbers = itertools.count()


def _framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


_NOW = b"Fri, 27 Nov 2026 16:00:00 GMT"
_START = b"HTTP/1.1 200 OK\r\ndate: %b\r\nserver: uvicorn\r\n" % _NOW


def _reply(body: bytes) -> bytes:
    head = b"content-length: %d\r\ncontent-type: application/json\r\n\r\n" % len(body)
    return _START + head + body


_ANSWER = _reply(_WHOLE)
_OTHER = _reply(_MODELS)
_HEAD = _START + (
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
_EVENT = _framed(_CHUNK)
_END = _framed(_LAST) + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Stub(asyncio.Protocol):
    """One connection. Requests come one after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._data = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n") + 4
        if end < 4 or len(self._data) - end < _length(self._data[:end]):
            return
        request, self._data = self._data, b""
        if not request.startswith(b"POST"):
            self._transport.write(_OTHER)
        elif b'"stream":true' in request or b'"stream": true' in request:
            self._transport.write(_dated(_HEAD) + _EVENT)
            self._left = CHUNKS - 2
            self._loop.call_later(CHUNK_SECONDS, self._next, self._loop.time())
        else:
            # No two answers are alike, as with real ones.
            self._transport.write(_dated(_ANSWER).replace(_SLOT, b"%08d" % next(_numbers)))

    def _next(self, begun: float) -> None:
        """Write a chunk; from the stream's beginning on, the clock decides when."""
        if self._transport.is_closing():
            return
        if self._left == 0:
            self._transport.write(_END)
            return
        self._left -= 1
        self._transport.write(_EVENT)
        due = begun + (CHUNKS - 1 - self._left) * CHUNK_SECONDS
        self._loop.call_at(due, self._next, begun)


def _dated(head: bytes) -> bytes:
    """Say the time as uvicorn does: the heads of one second are alike."""
    return head.replace(_NOW, _date(int(time.time())), 1)


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


def _length(head: bytes) -> int:
    lower = head.lower()
    start = lower.find(b"content-length:")
    return int(lower[start + 15 : lower.find(b"\r\n", start)]) if start >= 0 else 0


async def serve(port: int, path: str) -> None:
    """Answer on a port of this machine and on a Unix socket, for ever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stub, "127.0.0.1", port, backlog=1_024)
    await loop.create_unix_server(Stub, path, backlog=1_024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
