"""One completion under way: asked of vLLM, passed on, recorded."""

import asyncio

import aiohttp
import msgspec

from feedbackloop.capture.record import Closed, Opened
from feedbackloop.errors import RequestError
from feedbackloop.events import Alias, Outcome
from feedbackloop.serving.routing import Served
from services import telemetry
from services.guard import Receive, Send
from services.sidecar import answers, upstream
from services.sidecar.parts import Parts
from services.sidecar.router import Ticket
from services.sidecar.splice import StreamSplicer, replace_model, restore_names

_OK = 200
_NOT_FOUND = 404
_FAILED = 500
_DRAIN_SECONDS = 1.0
_DROPPED = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "server",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)
"""Reply headers that belong to one connection, or that we write ourselves."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was accepted and routed.

    Attributes:
        path: OpenAI's route.
        body: As the client sent it.
        headers: Those that vLLM gets.
        opened: Its record.
    """

    path: str
    alias: Alias
    body: bytes
    headers: dict[str, str]
    opened: Opened


class Exchange:
    """From an accepted request to the last byte of its reply.

    The answer is never held up or broken by its record, but for ``Recorder.closed`` before its
    last bytes. Exactly one record closes it.
    """

    def __init__(self, call: Call, ticket: Ticket, parts: Parts) -> None:
        self._call = call
        self._ticket = ticket
        self._router = parts.router
        self._server = parts.server
        self._recorder = parts.recorder
        self._clock = parts.clock
        self._passed: list[bytes] = []
        self._first_ns: int | None = None
        self._status = 0
        self._streamed = False
        self._closing = False
        self._gone = False

    async def run(self, receive: Receive, send: Send) -> None:
        """Answer the client; cancel vLLM's work if the client goes away."""
        self._recorder.opened(self._call.opened)
        task = asyncio.current_task()
        watch = asyncio.ensure_future(self._watch(receive, task))
        try:
            await self._answer(send)
        except asyncio.CancelledError:
            self._abandon()
            if not self._gone:
                raise
            if task is not None:
                task.uncancel()
        except RequestError as error:
            self._status = error.status
            await self._close(Outcome.UPSTREAM_FAILED)
            await answers.send_error(send, error, self._own_headers())
        finally:
            watch.cancel()

    async def _watch(self, receive: Receive, task: asyncio.Task[object] | None) -> None:
        """Wait until the client is gone, and stop the answer if it is still under way."""
        while (await receive())["type"] != "http.disconnect":
            pass
        if task is not None and not self._closing:
            self._gone = True
            task.cancel()

    async def _answer(self, send: Send) -> None:
        reply = await self._ask()
        try:
            self._status = reply.status
            streamed = reply.content_type == "text/event-stream"
            if reply.status == _OK and streamed:
                self._streamed = True
                await self._pass_on(reply, send)
            else:
                await self._pass_whole(reply, send)
        finally:
            # Closes the connection unless the reply was read to its end: vLLM then stops.
            reply.close()

    async def _ask(self) -> aiohttp.ClientResponse:
        """Ask the assigned release; if vLLM lost it, what can answer in its place."""
        while True:
            served = self._ticket.served
            body = replace_model(self._call.body, self._call.alias, served.model)
            reply = await self._server.post(self._call.path, body, self._call.headers)
            if reply.status != _NOT_FOUND or not (other := await self._instead(reply, served)):
                return reply
            reply.close()
            telemetry.FALLBACKS.labels(self._call.alias, "not_loaded").inc()
            self._ticket.move(other)

    async def _instead(self, reply: aiohttp.ClientResponse, served: Served) -> Served | None:
        if not _is_unknown_model(await upstream.read_whole(reply)):
            return None
        return self._router.lost(self._call.alias, served)

    async def _pass_whole(self, reply: aiohttp.ClientResponse, send: Send) -> None:
        raw = await upstream.read_whole(reply)
        if reply.status >= _FAILED:
            raise upstream.refusal(reply.status)
        served = self._ticket.served
        if reply.status == _OK:
            body = replace_model(raw, served.model, self._call.alias)
        else:
            body = restore_names(raw, served.model, self._call.alias)
        self._passed.append(raw)
        self._first_ns = self._clock()
        complete = reply.status == _OK
        await self._close(Outcome.COMPLETE if complete else Outcome.UPSTREAM_FAILED)
        headers = [*self._headers(reply), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _pass_on(self, reply: aiohttp.ClientResponse, send: Send) -> None:
        headers = self._headers(reply)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        splicer = StreamSplicer(self._ticket.served.model, self._call.alias)
        try:
            await self._pass_events(reply, send, splicer)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            await self._break_off(send, splicer.finish(), upstream.failure(error))
            return
        last = splicer.finish()
        await self._close(Outcome.COMPLETE if splicer.done else Outcome.UPSTREAM_FAILED)
        await send({"type": "http.response.body", "body": last})
        await _read_out(reply)

    async def _pass_events(
        self, reply: aiohttp.ClientResponse, send: Send, splicer: StreamSplicer
    ) -> None:
        """Pass events on as they come, up to ``[DONE]`` or the end."""
        read = reply.content.readany
        while not splicer.done and (chunk := await read()):
            self._passed.append(chunk)
            ready = splicer.feed(chunk)
            if not ready:
                continue
            if self._first_ns is None:
                self._first_ns = self._clock()
            await send({"type": "http.response.body", "body": ready, "more_body": True})

    async def _break_off(self, send: Send, rest: bytes, error: RequestError) -> None:
        """End a stream that began well with an event that clients know as an error."""
        await self._close(Outcome.UPSTREAM_FAILED)
        event = b"data: " + answers.error_body(error) + b"\n\n"
        await send({"type": "http.response.body", "body": rest + event})

    async def _close(self, outcome: Outcome) -> None:
        self._closing = True
        self._count(outcome)
        await self._recorder.closed(self._closed(outcome))

    def _abandon(self) -> None:
        """Record a reply whose client did not wait for its end."""
        if not self._closing:
            self._closing = True
            self._count(Outcome.CLIENT_GONE)
            self._recorder.closed_at_once(self._closed(Outcome.CLIENT_GONE))

    def _closed(self, outcome: Outcome) -> Closed:
        served = self._ticket.served
        return Closed(
            completion_id=self._call.opened.completion_id,
            release=served.release,
            release_seq=served.seq,
            status=self._status,
            streamed=self._streamed,
            body=b"".join(self._passed),
            first_token_ns=self._first_ns,
            ended_ns=self._clock(),
            outcome=outcome,
        )

    def _count(self, outcome: Outcome) -> None:
        arm = self._ticket.pick.arm
        series = telemetry.release_series(self._call.alias, self._ticket.served.release, arm)
        accepted_ns = self._call.opened.accepted_ns
        first = None if self._first_ns is None else (self._first_ns - accepted_ns) / 1e9
        series.ended(
            code=str(self._status or 499),
            outcome=outcome,
            first_seconds=first,
            seconds=(self._clock() - accepted_ns) / 1e9,
        )

    def _headers(self, reply: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
        named = {part.strip().lower() for part in reply.headers.get("connection", "").split(",")}
        passed = [
            (name.lower(), value)
            for name, value in reply.raw_headers
            if (text := name.lower().decode("latin-1")) not in _DROPPED and text not in named
        ]
        return [*passed, *self._own_headers()]

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        opened, served = self._call.opened, self._ticket.served
        return [
            (b"x-request-id", opened.completion_id.encode()),
            (b"x-feedbackloop-release", served.release.encode()),
            (b"x-feedbackloop-arm", opened.arm.value.encode()),
            (b"x-feedbackloop-epoch", str(opened.epoch).encode()),
        ]


async def _read_out(reply: aiohttp.ClientResponse) -> None:
    """Read past the end of a stream, so that its connection can be used again."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await reply.content.readany():
                pass
    except (TimeoutError, aiohttp.ClientError, OSError):
        reply.close()


class _Fault(msgspec.Struct):
    param: str | None = None


class _FaultBody(msgspec.Struct):
    error: _Fault


_fault = msgspec.json.Decoder(_FaultBody)


def _is_unknown_model(body: bytes) -> bool:
    """Tell vLLM's way to say that a name is not loaded from any other 404."""
    try:
        return _fault.decode(body).error.param == "model"
    except msgspec.DecodeError:
        return False
