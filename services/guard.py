"""Middleware inside vLLM: the routes that we use, and no other.

Start vLLM with ``--middleware services.guard.Guard``. With runtime adapters on, vLLM answers
``POST /adapters`` and ``/invocations`` without its API key; here they do not exist. This module
runs in vLLM's process, so it imports next to nothing.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

ALLOWED = frozenset(
    {
        "/health",
        "/metrics",
        "/tokenize",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/load_lora_adapter",
        "/v1/models",
        "/v1/responses",
        "/v1/unload_lora_adapter",
        "/version",
    }
)
"""Every path that vLLM may answer."""

DENIED = ("/adapters", "/invocations")
"""Paths that answer 404 only behind this guard: what the sidecar proves at start."""

_BODY = (
    b'{"error":{"message":"no such route","type":"invalid_request_error",'
    b'"param":null,"code":"not_found"}}'
)


class Guard:
    """Answer 404 to every path that is not on the list, and close every web socket.

    The path of the ASGI scope decides, because a URL rebuilt from the Host header can lie.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in ALLOWED):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(_BODY)).encode()),
            ]
            await send({"type": "http.response.start", "status": 404, "headers": headers})
            await send({"type": "http.response.body", "body": _BODY})
