"""One client's connection: requests in, answered one at a time and in order.

Nothing of what a client wrote about its connection reaches vLLM: the request that vLLM gets is
written anew, with one length. What two readers could read differently is refused all the same.
"""

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from feedbackloop.errors import RequestError
from services import telemetry
from services.sidecar import answers, wire
from services.sidecar.alike import Likeness
from services.sidecar.body import too_large
from services.sidecar.request import Request, Way, bad_request, head_too_large, too_slow

if TYPE_CHECKING:
    from services.sidecar.front import Front

_HEAD_BYTES = 128 * 2**10
_READ_AHEAD = 16  # requests that a client may send before the first is answered
_NEVER = math.inf


class Handler(Protocol):
    """Answers one request; is told how the client is doing."""

    def gone(self) -> None:
        """Know that the client will not read the answer."""
        ...

    def pause(self) -> None:
        """Write no more until ``resume``: the client does not keep up."""
        ...

    def resume(self) -> None:
        """Write on."""
        ...


class Connection(asyncio.Protocol):
    """The client's end of an exchange.

    Attributes:
        deadline: When ``expire`` is to be called, in the event loop's seconds.
    """

    def __init__(self, front: "Front") -> None:
        self._front = front
        self._transport: asyncio.Transport
        self._parser: HttpRequestParser | None = HttpRequestParser(self)
        self._arriving: Request | None = None
        self._whole: Request | None = None
        self._likeness: Likeness[Request] = Likeness(most_bytes=front.limits.body_bytes)
        self._head_bytes = 0
        self._queue: deque[Request] = deque()
        self._current: Request | None = None
        self._handler: Handler | None = None
        self._deaf = False
        self._begun = False
        self._chunked = False
        self._bodiless = False
        self.deadline = _NEVER
        self.peer = ""
        self.host = ""
        self.at = ""

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.peer = _address(transport.get_extra_info("peername"))
        self.host = self.peer.rpartition(":")[0]
        self.at = _address(transport.get_extra_info("sockname"))
        self.deadline = self._front.now() + self._front.limits.idle_seconds
        self._front.connections.add(self)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if self._deaf or parser is None:
            return
        is_first = self._current is None and self._arriving is None and not self._head_bytes
        if is_first and (alike := self._likeness.read(data)) is not None:
            self._enqueue(alike.known.like(alike.length, alike.body))
            return
        self._head_bytes += len(data)
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            self._distrust(bad_request("upgrade: this server speaks HTTP/1.1 only"))
        except HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except HttpParserError as error:
            self._distrust(bad_request(f"no HTTP: {error}"))
        arriving = self._arriving
        if arriving is not None and not self._deaf:
            self._wait_for(arriving)
        if is_first and self._whole is not None:
            self._learn(data, self._whole)
        self._whole = None

    def eof_received(self) -> None:
        """Take it as the client's farewell: half a connection is of no use here."""

    def connection_lost(self, _exc: Exception | None) -> None:
        self._parser = None  # it knows us, and we knew it: a circle
        self._front.forget(self)
        self._queue.clear()
        arriving, self._arriving = self._arriving, None
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.gone()
        if arriving is not None and arriving.arrived is not None:
            arriving.arrived()

    def pause_writing(self) -> None:
        self.deadline = self._front.now() + self._front.limits.stall_seconds
        if self._handler is not None:
            self._handler.pause()

    def resume_writing(self) -> None:
        if not self._deaf:
            self.deadline = _NEVER
        if self._handler is not None:
            self._handler.resume()

    def expire(self) -> None:
        """End what took too long: a request that does not come, an answer that is not read."""
        self.deadline = _NEVER
        if self._deaf or (self._current is not None and self._current.complete):
            if not self._deaf:
                telemetry.CLIENTS_STALLED.inc()
            self._transport.abort()
        elif self._arriving is not None:
            self._distrust(too_slow())
        else:
            self._transport.close()

    def finish_up(self) -> None:
        """Take no further request; close once the present one is answered."""
        self._queue.clear()
        if self._current is None:
            self._deaf = True
            self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    # What the parser tells.

    def on_message_begin(self) -> None:
        self._arriving = Request()

    def on_url(self, target: bytes) -> None:
        if self._arriving is not None:
            self._arriving.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._arriving is not None:
            self._arriving.add_header(name, value)

    def on_headers_complete(self) -> None:
        request, parser = self._arriving, self._parser
        if self._deaf or request is None or parser is None:
            return
        self._head_bytes = 0
        request.method = parser.get_method().decode("ascii")
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        try:
            request.close_head()
            request.way = self._front.way(request)
        except RequestError as error:
            self._distrust(error)
            return
        if parser.should_upgrade():
            return
        self._enqueue(request)

    def on_body(self, data: bytes) -> None:
        request = self._arriving
        if self._deaf or request is None:
            return
        request.size += len(data)
        if request.size > self._front.limits.body_bytes:
            self._distrust(too_large(self._front.limits.body_bytes))
            return
        request.pieces.append(data)
        if request.arrived is not None:
            request.arrived()

    def on_message_complete(self) -> None:
        request = self._arriving
        if self._deaf or request is None:
            return
        self._arriving, self._whole = None, request
        request.complete = True
        if self._current is request:
            self.deadline = _NEVER
            self._take(request)
        if request.arrived is not None:
            request.arrived()

    # How an answer is given.

    def reply(self, status: int, head: bytes, body: bytes) -> None:
        """Answer with a whole body; ``head`` is header lines, without the length."""
        data = b"" if self._bodiless else body
        self._transport.write(
            b"%b%b%bcontent-length: %d\r\n\r\n%b"
            % (wire.status_line(status), head, self._own_lines(), len(body), data)
        )
        self._answered()

    def begin(self, status: int, head: bytes) -> None:
        """Begin an answer whose length nobody knows yet."""
        request = self._current
        self._begun = True
        self._chunked = request is not None and request.version == "1.1" and not self._bodiless
        if not self._chunked and request is not None:
            request.keep_alive = False
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        self._transport.write(
            b"%b%b%b%b\r\n" % (wire.status_line(status), head, self._own_lines(), framing)
        )

    def send(self, data: bytes) -> None:
        """Pass the next bytes of the answer on."""
        if self._chunked:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        elif not self._bodiless:
            self._transport.write(data)

    def end(self, data: bytes = b"") -> None:
        """Pass the last bytes of the answer on."""
        if data:
            self.send(data)
        if self._chunked:
            self._transport.write(wire.LAST_CHUNK)
        self._answered()

    def refuse(self, error: RequestError, head: bytes = b"") -> None:
        """Answer with an error; ``head`` is more header lines."""
        lines = b"content-type: application/json\r\n" + head
        for name, value in answers.error_headers(error).items():
            lines += b"%b: %b\r\n" % (name.encode(), value.encode())
        self.reply(error.status, lines, answers.error_body(error))

    # How requests take turns.

    def _enqueue(self, request: Request) -> None:
        if self._current is None and not self._queue:
            self._start(request)
            return
        self._queue.append(request)
        if len(self._queue) >= _READ_AHEAD:
            self._transport.pause_reading()

    def _start(self, request: Request) -> None:
        """Begin to answer a request whose head is known."""
        self._current = request
        self._begun = False
        self._bodiless = request.method == "HEAD"
        self.deadline = _NEVER
        if request.error is None and request.way is Way.RECORDED:
            request.error = self._front.check(request, self.host)
        if request.error is not None and not (request.complete or request.is_short):
            # Nobody needs to send a long body that nobody will read.
            self.refuse(request.error)
            return
        if request.way is Way.REST and request.error is None:
            self._handler = self._front.rest(request, self)
        if request.complete:
            self._take(request)
        elif request.expects_word and request.error is None:
            self._transport.write(wire.CONTINUE)

    def _take(self, request: Request) -> None:
        """Answer a request whose body is here, too."""
        if request.error is not None:
            self.refuse(request.error)
        elif request.way is Way.RECORDED:
            handler = self._front.complete(request, self)
            # It may have been answered already.
            self._handler = handler if self._current is request else None

    def _answered(self) -> None:
        request, self._current, self._handler = self._current, None, None
        if self._transport.is_closing():
            return
        if request is None or not request.complete or self._deaf:
            self._linger()
        elif not request.keep_alive or self._front.draining:
            self._transport.close()
        elif self._queue:
            # Not at once: a thousand requests in one packet would be a thousand calls deep.
            asyncio.get_running_loop().call_soon(self._next)
        else:
            self._rest()

    def _next(self) -> None:
        if self._current is None and self._queue and not self._transport.is_closing():
            self._transport.resume_reading()
            self._start(self._queue.popleft())

    def _rest(self) -> None:
        """Wait for the next request."""
        self._head_bytes = 0
        self.deadline = self._front.now() + self._front.limits.idle_seconds

    def _learn(self, data: bytes, request: Request) -> None:
        """Know the next request by this one, unless that would spare nothing."""
        if request.error is None and request.way is Way.RECORDED:
            self._likeness.learn(data, request.size, request.bare())
        else:
            self._likeness.forget()

    def _wait_for(self, request: Request) -> None:
        """Give what has begun to arrive its time."""
        limits = self._front.limits
        if request.headers:
            if self._current is request:
                self.deadline = self._front.now() + limits.body_seconds
        elif self._head_bytes > _HEAD_BYTES:
            self._distrust(head_too_large())
        elif self._current is None and self.deadline > self._front.now() + limits.head_seconds:
            self.deadline = self._front.now() + limits.head_seconds

    def _distrust(self, error: RequestError) -> None:
        """Refuse what arrives, and read nothing more: where it ends is not known."""
        self._deaf = True
        telemetry.REFUSED.labels(str(error.status)).inc()
        request, self._arriving = self._arriving or Request(), None
        if request is self._current:
            handler, self._handler = self._handler, None
            if handler is not None:
                handler.gone()
            if self._begun:
                self._transport.abort()
            else:
                self.refuse(error)
            return
        request.error = error
        request.complete = False
        request.is_short = False
        self._enqueue(request)

    def _linger(self) -> None:
        """Close so that the answer arrives: a socket closed on unread bytes takes it back."""
        self._deaf = True
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self.deadline = self._front.now() + self._front.limits.linger_seconds

    def _own_lines(self) -> bytes:
        request = self._current
        closing = self._deaf or request is None or not request.keep_alive or self._front.draining
        if closing:
            return self._front.date_line + b"connection: close\r\n"
        if request is not None and request.version == "1.0":
            return self._front.date_line + b"connection: keep-alive\r\n"
        return self._front.date_line


def _address(name: object) -> str:
    """Write a socket's name as ``host:port``; empty for a Unix socket."""
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else ""
