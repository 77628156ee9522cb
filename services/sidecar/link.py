"""One kept connection to vLLM, at the level of bytes: no task, no queue, no copy for a chunk."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from services.sidecar.alike import Likeness

_FIRST_FINAL = 200
_OK = 200
_UNFRAMED = frozenset({204, 304})
_LENGTH = b"content-length"
_MOST_BYTES = 2**20  # of a body that comes in one piece


class Head:
    """How a reply begins.

    Attributes:
        headers: As sent, names in lower case; without the body's length.
        content_type: In lower case, without parameters.
        lines: The headers as the client gets them, once somebody has written them.
    """

    __slots__ = ("content_type", "headers", "lines", "status")

    def __init__(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = headers
        self.lines: bytes | None = None
        kind = next((value for name, value in headers if name == b"content-type"), b"")
        self.content_type = kind.partition(b";")[0].strip().lower().decode("latin-1")


class Sink(Protocol):
    """Is told a reply as it comes: ``began``, ``received`` many times, ``ended``."""

    def began(self, head: Head) -> None:
        """Take the reply's head."""
        ...

    def received(self, data: bytes) -> None:
        """Take the next bytes of its body; never empty."""
        ...

    def ended(self) -> None:
        """Know that the reply is whole."""
        ...


class Asker(Protocol):
    """Whoever sent a request: takes the failure of its connection."""

    def lost(self, error: Exception, *, heard: bool) -> None:
        """Know that no more will come, and whether anything had come."""
        ...


class Link(asyncio.Protocol):
    """A connection that answers one request at a time.

    Args:
        returned: Told when a reply was whole and the connection can take another request.
        lost: Told when the connection is gone.
        clock: Seconds, of the event loop.
    """

    def __init__(
        self,
        *,
        returned: Callable[["Link"], None],
        lost: Callable[["Link"], None],
        clock: Callable[[], float],
    ) -> None:
        self._returned = returned
        self._lost = lost
        self._clock = clock
        self._transport: asyncio.Transport
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._likeness: Likeness[Head] = Likeness(most_bytes=_MOST_BYTES)
        self._head: Head | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._sink: Sink | None = None
        self.asker: Asker | None = None
        """Who is listening; None between requests, and once nobody wants the rest."""
        self._complete = False
        self._framed = False
        self._kept = False
        self.heard_at = clock()
        """When anything came last, or when the request was sent."""
        self.busy = False
        self.heard = False
        """Whether anything of the present reply has come."""
        self.paused = False
        self.deadline: float | None = None
        """When to stop reading a reply that nobody wants any more."""

    def ask(self, data: bytes, sink: Sink, asker: Asker) -> None:
        """Send a request.

        Args:
            data: The whole of it.
            sink: Told the reply.
            asker: Told instead of the sink's ``ended`` why there is none.
        """
        self._sink, self.asker, self._head = sink, asker, None
        self.busy, self.heard, self._complete = True, False, False
        self.heard_at = self._clock()
        self._transport.write(data)

    def leave(self, *, within_seconds: float) -> None:
        """Stop listening; read the reply out, so that the connection can be used again."""
        self._sink = self.asker = None
        self.resume()
        if self.busy:
            self.deadline = self._clock() + within_seconds

    def abort(self) -> None:
        """Hang up at once, without a word to the sink: vLLM then stops its work."""
        self._sink = self.asker = None
        self._transport.abort()

    def fail(self, error: Exception) -> None:
        """Hang up and say why."""
        asker, heard = self.asker, self.heard
        self.abort()
        if asker is not None:
            asker.lost(error, heard=heard)

    def pause(self) -> None:
        """Read no more until ``resume``: whoever takes the bytes cannot keep up."""
        if not self.paused and not self._transport.is_closing():
            self.paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.paused:
            self.paused = False
            self.heard_at = self._clock()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def is_open(self) -> bool:
        """Say whether a request could be sent, as far as is known."""
        return not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._clock()
        parser = self._parser
        if parser is None or not self.busy:
            self._transport.abort()  # nobody asked
            return
        is_first, self.heard = not self.heard, True
        if is_first and (alike := self._likeness.read(data)) is not None:
            self._framed = self._kept = self._complete = True
            self._pieces = [alike.body] if alike.body else []
            self._begin(alike.known)
        else:
            try:
                parser.feed_data(data)
            except (HttpParserError, HttpParserUpgrade) as error:
                if not self._complete:
                    self.fail(ConnectionError(f"no HTTP: {error}"))
                    return
                self._kept = False  # what is ours is whole
            if is_first:
                self._learn(data)
        if self._pieces:
            self._deliver()
        if self._complete:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._parser = None  # it knows us, and we knew it: a circle
        self._lost(self)
        if not self.busy:
            return
        self.busy = False
        # Without a length or chunks, a reply that has begun ends with its connection.
        sink, asker = self._sink, self.asker
        self._sink = self.asker = None
        if exc is None and self._head is not None and not self._framed and sink is not None:
            sink.ended()
        elif asker is not None:
            asker.lost(exc or ConnectionError("closed in the middle"), heard=self.heard)

    def on_message_begin(self) -> None:
        if self._complete:
            raise ConnectionError("a reply that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, []
        status = self._parser.get_status_code() if self._parser is not None else _OK
        names = [name for name, _ in headers]
        self._framed = status in _UNFRAMED or _LENGTH in names or b"transfer-encoding" in names
        if status >= _FIRST_FINAL:
            self._begin(Head(status, [one for one in headers if one[0] != _LENGTH]))

    def on_body(self, data: bytes) -> None:
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        parser = self._parser
        if parser is not None and parser.get_status_code() >= _FIRST_FINAL:
            self._complete = True
            # Only now: a moment later the parser has forgotten the head.
            self._kept = parser.should_keep_alive()

    def _begin(self, head: Head) -> None:
        self._head = head
        if self._sink is not None:
            self._sink.began(head)

    def _learn(self, data: bytes) -> None:
        """Know the next reply by this one, if it is whole and its length says where it ends."""
        head = self._head
        if self._complete and self._kept and head is not None and head.status == _OK:
            self._likeness.learn(data, sum(map(len, self._pieces)), head)
        else:
            self._likeness.forget()

    def _deliver(self) -> None:
        pieces, self._pieces = self._pieces, []
        if self._sink is not None:
            self._sink.received(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _finish(self) -> None:
        sink = self._sink
        self._sink = self.asker = None
        self.busy, self.deadline = False, None
        self.resume()
        if self._kept and not self._transport.is_closing():
            self._returned(self)
        else:
            self._transport.close()
        if sink is not None:
            sink.ended()
