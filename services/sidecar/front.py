"""The public listener: connections, their time limits, and who answers which request."""

import asyncio
import contextlib
import socket
from email.utils import formatdate

import msgspec

from feedbackloop.errors import RequestError
from services import telemetry
from services.guard import Application
from services.sidecar.bridge import Bridge, failed
from services.sidecar.connection import Connection, Handler
from services.sidecar.proxy import ENDPOINTS, Proxy
from services.sidecar.request import Request, Way

_SWEEP_SECONDS = 0.5
_BACKLOG = 2_048


class FrontLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how much a client may take.

    Attributes:
        body_bytes: Largest request body.
        idle_seconds: Between two requests.
        head_seconds: From the first byte of a request to the end of its headers.
        body_seconds: Between two pieces of a body.
        stall_seconds: For which a client may leave an answer unread.
        linger_seconds: For which a client that was refused may go on sending.
    """

    body_bytes: int
    idle_seconds: float = 75.0
    head_seconds: float = 20.0
    body_seconds: float = 20.0
    stall_seconds: float = 120.0
    linger_seconds: float = 2.0


class Front:
    """Completions go to the proxy, everything else to an ASGI application.

    Args:
        proxy: Answers completions.
        app: Answers the rest.
        limits: Of every connection.
    """

    def __init__(self, proxy: Proxy, app: Application, *, limits: FrontLimits) -> None:
        self._proxy = proxy
        self._app = app
        self.limits = limits
        self.connections: set[Connection] = set()
        self.draining = False
        self._left = asyncio.Event()
        self.date_line = b""
        self._loop: asyncio.AbstractEventLoop
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def listen(self, listener: socket.socket) -> None:
        """Begin to answer on a bound socket."""
        self._loop = asyncio.get_running_loop()
        self._sweep()
        self._server = await self._loop.create_server(
            lambda: Connection(self), sock=listener, backlog=_BACKLOG
        )

    async def drain(self, seconds: float) -> None:
        """Accept nobody any more, let what runs go on for ``seconds``, then hang up."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.finish_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wait_until_empty()
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)
        if self._sweeper is not None:
            self._sweeper.cancel()

    def forget(self, connection: Connection) -> None:
        """Know that a connection is gone."""
        self.connections.discard(connection)
        self._left.set()

    def now(self) -> float:
        """Return the event loop's time in seconds."""
        return self._loop.time()

    def way(self, request: Request) -> Way:
        """Say who answers a request."""
        if request.path not in ENDPOINTS or request.method == "OPTIONS":
            return Way.REST
        return Way.RECORDED

    def check(self, request: Request, peer: str) -> RequestError | None:
        """Say what is wrong with the head of a completion request."""
        try:
            self._proxy.check(request, peer)
        except RequestError as error:
            telemetry.REFUSED.labels(str(error.status)).inc()
            return error
        except Exception as error:  # noqa: BLE001  # one request's failure is no other's
            return failed(request.path, error)
        return None

    def rest(self, request: Request, connection: Connection) -> Handler:
        """Answer what is no completion."""
        return Bridge(self._app, request, connection)

    def complete(self, request: Request, connection: Connection) -> Handler | None:
        """Answer a completion request that is here as a whole."""
        try:
            return self._proxy.answer(request, connection)
        except RequestError as error:
            telemetry.REFUSED.labels(str(error.status)).inc()
            connection.refuse(error)
        except Exception as error:  # noqa: BLE001  # one request's failure is no other's
            connection.refuse(failed(request.path, error))
        return None

    async def _wait_until_empty(self) -> None:
        while self.connections:
            self._left.clear()
            await self._left.wait()

    def _sweep(self) -> None:
        # First of all: whatever goes wrong below, there is a next time.
        self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        now = self._loop.time()
        self.date_line = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        for connection in [one for one in self.connections if one.deadline < now]:
            connection.expire()
