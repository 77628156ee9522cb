"""Something between an archiver and its bucket that fails on command: an S3 server on a bad day."""

import asyncio
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from random import Random

from aiohttp import ClientSession, web
from yarl import URL

_BETWEEN = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "date"})
_MAX_BYTES = 2**30


class Mood(StrEnum):
    """What becomes of requests."""

    WELL = "well"
    AWAY = "away"
    HALF = "half"


class Bucket:
    """A proxy in front of an S3 server, in a thread of its own.

    Attributes:
        mood: What becomes of requests now. In ``half``, half of all PUTs fail: of those, half are
            refused, and half are stored and the answer is lost.
        failed: Requests that got no answer, or a refusal.
    """

    def __init__(self, upstream: str, random: Random) -> None:
        self.mood = Mood.WELL
        self.failed = 0
        self.endpoint = ""
        self._upstream = upstream
        self._random = random
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name="bucket", daemon=True)

    def start(self) -> None:
        """Begin to listen; ``endpoint`` says where."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        application = web.Application(client_max_size=_MAX_BYTES)
        async with ClientSession(auto_decompress=False) as session:

            async def answer(request: web.Request) -> web.StreamResponse:
                return await self._answer(session, request)

            application.router.add_route("*", "/{rest:.*}", answer)
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.endpoint = f"http://{host}:{port}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _answer(self, session: ClientSession, request: web.Request) -> web.StreamResponse:
        if self.mood is Mood.AWAY:
            return self._hang_up(request)
        bad = self.mood is Mood.HALF and request.method == "PUT" and self._random.random() < 0.5
        if bad and self._random.random() < 0.5:
            self.failed += 1
            return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>")
        reply = await self._forward(session, request)
        return self._hang_up(request) if bad else reply

    async def _forward(self, session: ClientSession, request: web.Request) -> web.StreamResponse:
        # The signature covers the Host header: it goes on as it came.
        async with session.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers=request.headers,
            data=io.BytesIO(await request.read()),
            allow_redirects=False,
        ) as reply:
            kept = {k: v for k, v in reply.headers.items() if k.lower() not in _BETWEEN}
            if request.method == "HEAD":
                kept["Content-Length"] = reply.headers.get("Content-Length", "0")
            return web.Response(status=reply.status, headers=kept, body=await reply.read())

    def _hang_up(self, request: web.Request) -> web.StreamResponse:
        self.failed += 1
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)


@contextmanager
def bucket(upstream: str, random: Random) -> Iterator[Bucket]:
    """Give one that listens."""
    one = Bucket(upstream, random)
    one.start()
    try:
        yield one
    finally:
        one.stop()
