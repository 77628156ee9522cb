"""People before a sidecar: they ask, read to the end, vote, and remember what they were told."""

import asyncio
import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

_LAST = b"\r\n0\r\n\r\n"
_PATIENCE_SECONDS = 15.0


@dataclass(kw_only=True)
class Seen:
    """What clients know.

    Attributes:
        asked: Completions asked for.
        completed: Ids of those whose end was seen.
        failed: Answered with an error, or not at all while the sidecar was up.
        cut: Ended by the sidecar's death.
        voted: Ids that somebody tried to vote on.
        accepted: Ids whose vote was answered 202.
        refused: Votes answered 503.
        odd: Other answers to votes, by status.
        last_accepted_at: When a vote was accepted last, on the monotonic clock.
        seconds: How long whole replies took.
    """

    asked: int = 0
    completed: set[str] = field(default_factory=set)
    failed: int = 0
    cut: int = 0
    voted: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    refused: int = 0
    odd: Counter[int] = field(default_factory=Counter)
    last_accepted_at: float = 0.0
    seconds: list[float] = field(default_factory=list)


class Clients:
    """Several people at once.

    Args:
        port: Of the sidecar.
        random: Who asks for a stream, and who votes.
        pause_seconds: Between one person's actions.
    """

    def __init__(self, port: int, random: Random, *, pause_seconds: float = 0.005) -> None:
        self.port = port
        self.seen = Seen()
        self.begun_at = time.monotonic()
        self.dying = False
        """Set while the sidecar is killed: what then fails was cut off."""
        self._random = random
        self._pause_seconds = pause_seconds
        self._number = 0
        self._accepted = asyncio.Event()

    @asynccontextmanager
    async def busy(self, people: int) -> AsyncIterator[None]:
        """Keep people busy for as long as the context lasts; what runs comes to its end."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._person(stop)) for _ in range(people)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def act(self, times: int) -> None:
        """Let one person ask and vote so many times, or until the sidecar dies."""
        with contextlib.suppress(ConnectionError):
            async with _connected(self.port) as wire:
                for number in range(times):
                    await self._ask(wire, stream=number % 2 == 1, vote=True)

    async def next_accepted(self) -> None:
        """Return when the next vote is accepted."""
        self._accepted.clear()
        await self._accepted.wait()

    async def _person(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with _connected(self.port) as wire:
                    while not stop.is_set():
                        stream, vote = self._random.random() < 0.3, self._random.random() < 0.5
                        await self._ask(wire, stream=stream, vote=vote)
                        await asyncio.sleep(self._pause_seconds)
            except ConnectionError:
                await asyncio.sleep(0.02)

    async def _ask(self, wire: "_Wire", *, stream: bool, vote: bool) -> None:
        self._number += 1
        body = {
            "model": "assistant",
            "stream": stream,
            "messages": [{"role": "user", "content": f"Question {self._number}: what is it?"}],
        }
        self.seen.asked += 1
        begun = time.monotonic()
        try:
            status, head, reply = await wire.call("/v1/chat/completions", body)
        except ConnectionError:
            if self.dying:
                self.seen.cut += 1
            else:
                self.seen.failed += 1
            raise
        self.seen.seconds.append(time.monotonic() - begun)
        whole = b"[DONE]" in reply if stream else b'"usage"' in reply
        named = re.search(rb"(?i)x-request-id: (\S+)", head)
        if status != 200 or not whole or named is None:
            self.seen.failed += 1
            return
        name = named[1].decode()
        self.seen.completed.add(name)
        if vote:
            await self._vote(wire, name)

    async def _vote(self, wire: "_Wire", name: str) -> None:
        self.seen.voted.add(name)
        thumb = self._random.choice(["up", "down"])
        status, _, _ = await wire.call("/v1/feedback", {"completion_id": name, "thumb": thumb})
        if status == 202:
            self.seen.accepted.add(name)
            self.seen.last_accepted_at = time.monotonic()
            self._accepted.set()
        elif status == 503:
            self.seen.refused += 1
        else:
            self.seen.odd[status] += 1


class _Wire:
    """One kept connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def call(self, path: str, body: object) -> tuple[int, bytes, bytes]:
        """Send a request; return the status, the head and the whole body.

        Raises:
            ConnectionError: If the reply did not come to its end.
        """
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._call(path, json.dumps(body).encode())
        except (asyncio.IncompleteReadError, TimeoutError) as error:
            raise ConnectionResetError(str(error)) from error

    async def _call(self, path: str, raw: bytes) -> tuple[int, bytes, bytes]:
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(raw)}\r\n\r\n"
        )
        self._writer.write(head.encode() + raw)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer.lower())
        if length is not None:
            reply = await self._reader.readexactly(int(length[1]))
        else:
            reply = await self._reader.readuntil(_LAST)
        return int(answer.split(b" ", 2)[1]), answer, reply


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[_Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        yield _Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
