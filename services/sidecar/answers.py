"""Errors in OpenAI's shape, as bytes and over raw ASGI."""

import math
from collections.abc import Sequence

import msgspec

from feedbackloop.errors import RequestError
from services.guard import Send

Headers = Sequence[tuple[bytes, bytes]]


def error_type(status: int) -> str:
    """Return OpenAI's word for the kind of error that a status means."""
    words = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    return words.get(status, "server_error" if status >= 500 else "invalid_request_error")  # noqa: PLR2004  # HTTP's own line


def error_body(error: RequestError) -> bytes:
    """Write an error as OpenAI does."""
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": error_type(error.status),
                "param": error.param,
                "code": error.code,
            }
        }
    )


def error_headers(error: RequestError) -> dict[str, str]:
    """Return the headers that go with an error's body."""
    if error.retry_after_seconds is None:
        return dict(error.headers)
    return {**error.headers, "retry-after": str(math.ceil(error.retry_after_seconds))}


async def send_error(send: Send, error: RequestError, headers: Headers = ()) -> None:
    """Answer a request with an error."""
    extra = [(name.encode(), value.encode()) for name, value in error_headers(error).items()]
    await send_json(send, error.status, error_body(error), [*headers, *extra])


async def send_json(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    """Answer a request with a whole JSON body."""
    own = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})
