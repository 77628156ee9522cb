"""One request answered by an ASGI application: everything that is no completion."""

import asyncio
from urllib.parse import unquote

import structlog

from feedbackloop.errors import RequestError
from services import logs, telemetry
from services.guard import Application, Message, Scope
from services.sidecar import wire
from services.sidecar.connection import Connection
from services.sidecar.request import Request

log = structlog.get_logger()

_FAILED = 500


class Bridge:
    """Runs the application in a task of its own."""

    def __init__(self, app: Application, request: Request, connection: Connection) -> None:
        self._app = app
        self._request = request
        self._connection = connection
        self._wake = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._told_end = False
        self._gone = False
        self._begun = False
        self._done = False
        self._status = _FAILED
        self._head = b""
        request.arrived = self._wake.set
        self._task = asyncio.create_task(self._run())

    def gone(self) -> None:
        self._gone = True
        self._wake.set()
        self._writable.set()

    def pause(self) -> None:
        self._writable.clear()

    def resume(self) -> None:
        self._writable.set()

    async def _run(self) -> None:
        try:
            await self._app(self._scope(), self._receive, self._send)
        except Exception as error:  # noqa: BLE001  # one request's failure is no other's
            refusal = failed(self._request.path, error)
            if not self._begun and not self._gone:
                self._done = True
                self._connection.refuse(refusal)
        if not self._done and not self._gone:
            self._connection.abort()

    async def _receive(self) -> Message:
        request = self._request
        while not (self._gone or (request.pieces and not self._told_end)):
            if request.complete and not self._told_end:
                break
            self._wake.clear()
            await self._wake.wait()
        if self._gone or self._told_end:
            return {"type": "http.disconnect"}
        body = request.body()
        request.pieces = []
        self._told_end = request.complete
        return {"type": "http.request", "body": body, "more_body": not request.complete}

    async def _send(self, message: Message) -> None:
        await self._writable.wait()
        if self._gone or self._done:
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = list(message.get("headers", ()))
            self._head = wire.lines(
                (name, value) for name, value in headers if name.lower() != b"content-length"
            )
            return
        self._write(message.get("body", b""), more=message.get("more_body", False))

    def _write(self, body: bytes, *, more: bool) -> None:
        connection = self._connection
        if not self._begun and not more:
            self._done = self._begun = True
            connection.reply(self._status, self._head, body)
            return
        if not self._begun:
            self._begun = True
            connection.begin(self._status, self._head)
        if more:
            if body:
                connection.send(body)
        else:
            self._done = True
            connection.end(body)

    def _scope(self) -> Scope:
        request = self._request
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": request.version,
            "method": request.method,
            "scheme": "http",
            "path": unquote(request.path),
            "raw_path": request.path.encode("latin-1"),
            "query_string": request.query,
            "root_path": "",
            "headers": request.raw_headers,
            "client": _pair(self._connection.peer),
            "server": _pair(self._connection.at),
            "state": {},
        }


def failed(path: str, error: Exception) -> RequestError:
    """Log and count a failure of ours; return what the client is told."""
    # Not its message: that may hold what people wrote.
    what, where = type(error).__name__, logs.places(error)
    log.error("request_failed", path=path, error=what, places=where)
    telemetry.REFUSED.labels(str(_FAILED)).inc()
    return internal_error()


def internal_error() -> RequestError:
    """Say that we failed, without a word about how."""
    return RequestError("the server failed", status=_FAILED, code="internal_error")


def _pair(address: str) -> tuple[str, int] | None:
    host, _, port = address.rpartition(":")
    return (host, int(port)) if host else None
