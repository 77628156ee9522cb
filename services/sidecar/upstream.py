"""The one vLLM behind this sidecar, over a Unix socket or TCP."""

import asyncio
from collections.abc import Mapping
from typing import Self

import aiohttp
import msgspec

from feedbackloop.errors import RequestError, SettingsError
from services import telemetry

# uvicorn, which vLLM runs on, closes a connection that was idle for 5 seconds. Reusing one at that
# very moment fails a request, so we are the first to let go.
_KEEPALIVE_SECONDS = 4.0
_READ_BYTES = 2**18
_CONTROL_SECONDS = 5.0
_OURS = ("accept-encoding", "user-agent")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole reply of the upstream."""

    status: int
    content_type: str
    body: bytes


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
        if self._socket is None and not target.startswith(("http://", "https://")):
            raise SettingsError(
                "FEEDBACKLOOP_SIDECAR__UPSTREAM: expected unix:/path/to.sock or "
                f"http://host:port, not {target!r}"
            )
        self._origin = "http://upstream" if self._socket is not None else target.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_seconds, sock_read=idle_seconds
        )
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector: aiohttp.BaseConnector = (
            aiohttp.UnixConnector(self._socket, limit=0, keepalive_timeout=_KEEPALIVE_SECONDS)
            if self._socket is not None
            else aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS)
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_OURS,
            read_bufsize=_READ_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Send a request and return once the reply's headers are here. Close the reply.

        Raises:
            RequestError: 503 if vLLM cannot be reached, 504 if it is silent for too long, 502 if it
                breaks off.
        """
        session = self._opened()
        try:
            try:
                return await session.post(self._origin + path, data=body, headers=headers)
            except aiohttp.ServerDisconnectedError:
                # The connection was closed while it was idle: vLLM saw nothing of this request.
                return await session.post(self._origin + path, data=body, headers=headers)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise failure(error) from error

    async def get(self, path: str) -> Answer:
        """Fetch a small page, quickly.

        Raises:
            RequestError: As ``post``.
        """
        return await self._small("GET", path, b"")

    async def probe(self, path: str) -> Answer:
        """Post nothing to a path, to see whether it exists.

        Raises:
            RequestError: As ``post``.
        """
        return await self._small("POST", path, b"{}")

    async def _small(self, method: str, path: str, body: bytes) -> Answer:
        session = self._opened()
        try:
            async with (
                asyncio.timeout(_CONTROL_SECONDS),
                session.request(
                    method,
                    self._origin + path,
                    data=body or None,
                    headers={"content-type": "application/json"},
                ) as reply,
            ):
                return Answer(
                    status=reply.status,
                    content_type=reply.headers.get("content-type", "text/plain"),
                    body=await reply.read(),
                )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise failure(error) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise ValueError("the upstream is not open")
        return self._session


async def read_whole(reply: aiohttp.ClientResponse) -> bytes:
    """Read a reply to its end.

    Raises:
        RequestError: 502 or 504 if vLLM breaks off or falls silent.
    """
    try:
        return await reply.read()
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise failure(error) from error


def failure(error: Exception) -> RequestError:
    """Say to a client why vLLM did not answer, and count it."""
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            reason, status, message = "unreachable", 503, "the model server cannot be reached"
        case TimeoutError():
            reason, status, message = "timeout", 504, "the model server did not answer in time"
        case _:
            reason, status, message = "broken", 502, "the model server broke off"
    telemetry.UPSTREAM_ERRORS.labels(reason).inc()
    return RequestError(
        message,
        status=status,
        code=f"upstream_{reason}",
        retry_after_seconds=1 if status == 503 else None,  # noqa: PLR2004
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
