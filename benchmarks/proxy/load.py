"""The load: keep-alive connections flat out, paced streams, and requests at a fixed rate.

Every request is a turn of a talk of its own, as with real people: the same words each time would be
a load test to the retry detection, and cheaper.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

CONNECTIONS = 32
STREAMS = 64
WORDS = "What is the capital of France? " * 8
_ROUTE = "/v1/chat/completions"
_SLOT = b"@@@@@@@@"
_numbers = itertools.count()

Done = Callable[[bool], None]


def _template(*, stream: bool, model: str, key: str, words: str) -> bytes:
    body = json.dumps(
        {
            "model": model,
            "stream": stream,
            "messages": [
                {"role": "system", "content": "You are kind."},
                {"role": "user", "content": f"Question {_SLOT.decode()}. {words}"},
            ],
        },
        separators=(",", ":"),
    ).encode()
    head = (
        f"POST {_ROUTE} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"accept: */*\r\nuser-agent: benchmark\r\nauthorization: Bearer {key}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Requests:
    """What is asked of one target: a number, and the same words after it."""

    def __init__(self, *, model: str, key: str = "sk-none", words: str = WORDS) -> None:
        self._whole = _template(stream=False, model=model, key=key, words=words)
        self._stream = _template(stream=True, model=model, key=key, words=words)

    def whole(self) -> bytes:
        """Return the next plain request."""
        return self._whole.replace(_SLOT, b"%08d" % next(_numbers))

    def stream(self) -> bytes:
        """Return the next request for a stream."""
        return self._stream.replace(_SLOT, b"%08d" % next(_numbers))


class Connection(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._data: list[bytes] = []
        self._end = 0
        self._done: Done | None = None
        self.is_lost = False
        """Whether the other end has hung up, as it may on one that was idle for long."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes, done: Done) -> None:
        """Send a request; ``done`` is told whether its reply was good and whole."""
        self._done = done
        self._end = 0
        self._data.clear()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data.append(data)
        if self._end == 0:
            self._begin()
        if self._end < 0:
            if data.endswith(b"0\r\n\r\n"):
                self._finish(good=self._is_good(b"".join(self._data)))
        elif self._end and sum(map(len, self._data)) >= self._end:
            self._finish(good=self._data[0].startswith(b"HTTP/1.1 200"))

    def connection_lost(self, _exc: Exception | None) -> None:
        self.is_lost = True
        self._finish(good=False)

    def close(self) -> None:
        """Hang up."""
        self._done = None
        self._transport.close()

    def _begin(self) -> None:
        """Find out where the reply ends: after so many bytes, or -1 for the last chunk."""
        head, found, _ = b"".join(self._data).partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        start = lower.find(b"content-length:")
        if start < 0:
            self._end = -1
        else:
            stop = lower.find(b"\r\n", start)
            length = lower[start + 15 : stop if stop >= 0 else None]
            self._end = len(head) + 4 + int(length)

    @staticmethod
    def _is_good(reply: bytes) -> bool:
        whole = b"[DONE]" in reply or b'"usage"' in reply
        return reply.startswith(b"HTTP/1.1 200") and whole and b'"error"' not in reply

    def _finish(self, *, good: bool) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(good)


@dataclass(kw_only=True)
class Tally:
    """How requests ended."""

    good: int = 0
    bad: int = 0

    def count(self, good: bool) -> None:  # noqa: FBT001  # a callback's one word
        """Take one more in."""
        if good:
            self.good += 1
        else:
            self.bad += 1


async def connect(port: int) -> Connection:
    """Open a connection."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    return connection


async def flat_out(port: int, requests: Requests, seconds: float) -> Tally:
    """Keep every connection busy."""
    until = time.monotonic() + seconds
    tally = Tally()
    ended: list[asyncio.Future[None]] = []

    def go(connection: Connection, end: asyncio.Future[None]) -> None:
        def done(good: bool) -> None:  # noqa: FBT001  # a callback's
            tally.count(good)
            if good and time.monotonic() < until:
                connection.ask(requests.whole(), done)
            else:
                end.set_result(None)

        connection.ask(requests.whole(), done)

    connections = [await connect(port) for _ in range(CONNECTIONS)]
    for connection in connections:
        ended.append(asyncio.get_running_loop().create_future())
        go(connection, ended[-1])
    await asyncio.gather(*ended)
    for connection in connections:
        connection.close()
    return tally


async def streams(port: int, requests: Requests) -> Tally:
    """Run all streams at once, each once."""
    tally = Tally()
    loop = asyncio.get_running_loop()

    async def one() -> None:
        connection = await connect(port)
        told: asyncio.Future[bool] = loop.create_future()
        connection.ask(requests.stream(), told.set_result)
        tally.count(await told)
        connection.close()

    await asyncio.gather(*(one() for _ in range(STREAMS)))
    return tally


async def _one_of(idle: list[Connection], port: int) -> Connection:
    """Take a connection that is still there, or a new one."""
    while idle:
        connection = idle.pop()
        if not connection.is_lost:
            return connection
    return await connect(port)


async def at_rate(
    port: int, requests: Requests, *, per_second: int, seconds: float
) -> tuple[list[float], Tally]:
    """Send requests on the clock, whatever comes back; return their latencies in ms, sorted."""
    idle: list[Connection] = [await connect(port) for _ in range(16)]
    taken: list[float] = []
    tally = Tally()
    under_way = 0
    all_done = asyncio.Event()

    async def one(due: float) -> None:
        nonlocal under_way
        under_way += 1
        connection = await _one_of(idle, port)

        def done(good: bool) -> None:  # noqa: FBT001  # a callback's
            nonlocal under_way
            # From when it was due, so that a stall counts for all that it held up.
            taken.append((time.monotonic() - due) * 1e3)
            tally.count(good)
            idle.append(connection)
            under_way -= 1
            if under_way == 0:
                all_done.set()

        connection.ask(requests.whole(), done)

    begun = time.monotonic()
    for number in range(int(seconds * per_second)):
        due = begun + number / per_second
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        all_done.clear()
        await one(due)
    if under_way:
        await all_done.wait()
    for connection in idle:
        connection.close()
    return sorted(taken), tally
