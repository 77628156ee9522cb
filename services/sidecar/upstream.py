"""The one vLLM behind this sidecar, over a Unix socket or TCP."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Protocol, Self
from urllib.parse import SplitResult, urlsplit

import msgspec

from feedbackloop.errors import RequestError, SettingsError
from services import telemetry
from services.sidecar import wire
from services.sidecar.link import Head, Link, Sink

# uvicorn, which vLLM runs on, closes a connection that was idle for 5 seconds. Reusing one at that
# very moment fails a request, so we are the first to let go.
_KEEPALIVE_SECONDS = 4.0
_SWEEP_SECONDS = 1.0
_READ_OUT_SECONDS = 1.0
_CONTROL_SECONDS = 5.0
_LATE = 1.5  # times its time limit, after which a time-out says more of us than of vLLM


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole reply of the upstream."""

    status: int
    content_type: str
    body: bytes


class Listener(Sink, Protocol):
    """Is told a reply, or why there is none."""

    def failed(self, error: RequestError) -> None:
        """Know that no more will come: 503 unreachable, 504 silent, 502 broken off."""
        ...


class Question:
    """A request on its way to vLLM. Whoever asked can stop it, or hold it up."""

    def __init__(self, upstream: "Upstream", data: bytes, listener: Listener) -> None:
        self._upstream = upstream
        self._data = data
        self._listener: Listener | None = listener
        self._link: Link | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._reused = False

    def go(self) -> None:
        """Send it on a kept connection, or on a new one."""
        link = self._upstream.kept()
        if link is None:
            self._connecting = asyncio.create_task(self._connect())
        else:
            self._send(link, reused=True)

    def stop(self) -> None:
        """Let vLLM stop its work; the listener hears no more."""
        self._listener = None
        if self._connecting is not None:
            self._connecting.cancel()
        if (link := self._own()) is not None:
            link.abort()

    def leave(self) -> None:
        """Hear no more, but let the reply end by itself: its last word was said."""
        self._listener = None
        if (link := self._own()) is not None:
            link.leave(within_seconds=_READ_OUT_SECONDS)

    def pause(self) -> None:
        """Read no more of the reply until ``resume``."""
        if (link := self._own()) is not None:
            link.pause()

    def resume(self) -> None:
        """Read on."""
        if (link := self._own()) is not None:
            link.resume()

    def lost(self, error: Exception, *, heard: bool) -> None:
        """Ask once more if vLLM cannot have seen the request; else tell the listener."""
        self._link = None
        if self._reused and not heard and not isinstance(error, TimeoutError):
            # The connection was closed while it was idle: vLLM saw nothing of this request.
            self._connecting = asyncio.create_task(self._connect())
        elif self._listener is not None:
            self._listener.failed(failure(error))

    def _own(self) -> Link | None:
        """Return the connection while it is this request's: it goes on to others."""
        link = self._link
        return link if link is not None and link.asker is self else None

    async def _connect(self) -> None:
        try:
            link = await self._upstream.connect()
        except RequestError as error:
            if self._listener is not None:
                self._listener.failed(error)
        else:
            self._send(link, reused=False)
        finally:
            self._connecting = None

    def _send(self, link: Link, *, reused: bool) -> None:
        if self._listener is None:
            self._upstream.give_back(link)
            return
        self._link, self._reused = link, reused
        link.ask(self._data, self._listener, self)


class Upstream:
    """A pool of connections to vLLM. A context, because connections belong to an event loop."""

    def __init__(self, target: str, *, connect_seconds: float, idle_seconds: float) -> None:
        """Take note of where vLLM is; nothing is opened yet.

        Args:
            target: ``unix:/path/to.sock`` or ``http://host:port``.
            connect_seconds: How long to wait for a connection.
            idle_seconds: How long vLLM may be silent within one reply.

        Raises:
            SettingsError: If ``target`` has another form.
        """
        self._socket = target.removeprefix("unix:") if target.startswith("unix:") else None
        self._url = urlsplit(target)
        self._host = self._url.hostname or ""
        if self._socket == "" or (self._socket is None and not _is_reachable(self._url)):
            raise SettingsError(
                "FEEDBACKLOOP_SIDECAR__UPSTREAM: expected unix:/path/to.sock or "
                f"http://host:port, not {target!r}"
            )
        self._connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        self._links: set[Link] = set()
        self._idle: list[Link] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._sweep()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for link in list(self._links):
            link.abort()

    def ask(self, path: str, head: bytes, body: bytes, listener: Listener) -> Question:
        """Post a request; the listener is told the reply.

        Args:
            path: OpenAI's route.
            head: Header lines.
            body: JSON.
            listener: Told the reply, or why there is none.
        """
        question = Question(self, wire.request(b"POST", path, head, body), listener)
        question.go()
        return question

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post a request and return its whole reply.

        Raises:
            RequestError: 503 if vLLM cannot be reached, 504 if it is silent for too long, 502 if it
                breaks off.
        """
        head = wire.lines((name.encode(), value.encode()) for name, value in headers.items())
        return await self._whole(wire.request(b"POST", path, head, body))

    async def get(self, path: str) -> Answer:
        """Fetch a small page, quickly.

        Raises:
            RequestError: As ``post``.
        """
        return await self._quickly(wire.request(b"GET", path, b"", b""))

    async def probe(self, path: str) -> Answer:
        """Post nothing to a path, to see whether it exists.

        Raises:
            RequestError: As ``post``.
        """
        head = b"content-type: application/json\r\n"
        return await self._quickly(wire.request(b"POST", path, head, b"{}"))

    async def connect(self) -> Link:
        """Open a connection.

        Raises:
            RequestError: 503 if that fails or takes too long.
        """
        begun = self._loop.time()
        try:
            link = await self._open()
        except TimeoutError as error:
            if self._loop.time() - begun < _LATE * self._connect_seconds:
                raise _refused("unreachable") from error
            # Not vLLM was late but we, on a machine that gave us no turn: ask once more.
            link = await self._open_at_last()
        except (OSError, UnicodeError) as error:  # the latter of a host that no resolver takes
            raise _refused("unreachable") from error
        self._links.add(link)
        telemetry.UPSTREAM_CONNECTIONS.inc()
        return link

    async def _open_at_last(self) -> Link:
        try:
            return await self._open()
        except (OSError, TimeoutError) as error:
            raise _refused("unreachable") from error

    async def _open(self) -> Link:
        async with asyncio.timeout(self._connect_seconds):
            if self._socket is not None:
                _, link = await self._loop.create_unix_connection(self._link, self._socket)
            else:
                _, link = await self._loop.create_connection(
                    self._link,
                    self._host,
                    self._url.port or (443 if self._url.scheme == "https" else 80),
                    ssl=ssl.create_default_context() if self._url.scheme == "https" else None,
                )
            return link

    def kept(self) -> Link | None:
        """Take a connection that is open and idle, the youngest first; None if there is none."""
        while self._idle:
            link = self._idle.pop()
            if link.is_open():
                return link
        return None

    def give_back(self, link: Link) -> None:
        """Keep a connection for the next request."""
        self._idle.append(link)

    def _link(self) -> Link:
        return Link(returned=self.give_back, lost=self._forget, clock=self._loop.time)

    def _forget(self, link: Link) -> None:
        self._links.discard(link)
        if link in self._idle:
            self._idle.remove(link)

    def _sweep(self) -> None:
        """Hang up where vLLM was silent for too long, and on what was idle for long enough."""
        # First of all: whatever goes wrong below, there is a next time.
        every = min(_SWEEP_SECONDS, self._idle_seconds / 2)
        self._sweeper = self._loop.call_later(every, self._sweep)
        now = self._loop.time()
        for link in list(self._links):
            silent_seconds = now - link.heard_at
            if not link.busy:
                if silent_seconds > _KEEPALIVE_SECONDS:
                    link.abort()
            elif link.deadline is not None and now > link.deadline:
                link.abort()
            elif silent_seconds > self._idle_seconds and not link.paused:
                link.fail(TimeoutError())

    async def _quickly(self, data: bytes) -> Answer:
        try:
            async with asyncio.timeout(_CONTROL_SECONDS):
                return await self._whole(data)
        except TimeoutError as error:
            raise failure(error) from error

    async def _whole(self, data: bytes) -> Answer:
        whole = _Whole(self._loop.create_future())
        question = Question(self, data, whole)
        question.go()
        try:
            return await whole.answer
        finally:
            question.stop()


class _Whole:
    """Collects a reply for somebody who waits for all of it."""

    def __init__(self, answer: asyncio.Future[Answer]) -> None:
        self.answer = answer
        self._head: Head | None = None
        self._pieces: list[bytes] = []

    def began(self, head: Head) -> None:
        self._head = head

    def received(self, data: bytes) -> None:
        self._pieces.append(data)

    def ended(self) -> None:
        head = self._head
        if head is not None and not self.answer.done():
            body = b"".join(self._pieces)
            kind = head.content_type or "text/plain"
            self.answer.set_result(Answer(status=head.status, content_type=kind, body=body))

    def failed(self, error: RequestError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


def _is_reachable(url: SplitResult) -> bool:
    """Say whether a URL names a host, and a port that there can be."""
    try:
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # above 65,535
        return False


_FAILURES = {
    "unreachable": (503, "the model server cannot be reached"),
    "timeout": (504, "the model server did not answer in time"),
    "broken": (502, "the model server broke off"),
}


def failure(error: Exception) -> RequestError:
    """Say to a client why vLLM's answer did not come, and count it."""
    return _refused("timeout" if isinstance(error, TimeoutError) else "broken")


def _refused(reason: str) -> RequestError:
    status, message = _FAILURES[reason]
    telemetry.UPSTREAM_ERRORS.labels(reason).inc()
    return RequestError(
        message,
        status=status,
        code=f"upstream_{reason}",
        retry_after_seconds=1 if status == 503 else None,  # noqa: PLR2004  # HTTP's number
    )


def refusal(status: int) -> RequestError:
    """Say to a client that vLLM failed, without vLLM's own words: they may name paths."""
    telemetry.UPSTREAM_ERRORS.labels("failed").inc()
    busy = status in {429, 503}
    return RequestError(
        f"the model server failed with status {status}",
        status=503 if busy else 502,
        code="upstream_failed",
        retry_after_seconds=1 if busy else None,
    )
