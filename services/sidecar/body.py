"""A request's body, for the routes that are answered through ASGI; and what any body must be."""

from collections.abc import Mapping

from feedbackloop.errors import RequestError
from services.guard import Receive, Scope


class ClientGone(Exception):
    """The client went away before its request was complete."""


def read_headers(scope: Scope) -> dict[str, str]:
    """Return a request's headers by lower-case name; of a repeated one the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def peer(scope: Scope) -> str:
    """Return the address of a connection's other end, or nothing if it has none."""
    client = scope.get("client")
    return client[0] if client else ""


def check_kind(headers: Mapping[str, str], limit: int) -> None:
    """Refuse a body that is no plain JSON, or that says itself that it is too large.

    Raises:
        RequestError: 415 for another content type, 413 for a body above ``limit`` bytes.
    """
    kind = headers.get("content-type", "")
    if kind != "application/json":
        kind = kind.partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(
            f"content type {kind or 'missing'}: expected application/json",
            status=415,
            code="unsupported_content_type",
        )
    if headers.get("content-encoding", "identity") != "identity":
        raise RequestError(
            "content encoding: expected none", status=415, code="unsupported_content_encoding"
        )
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise too_large(limit)


async def read_json(headers: Mapping[str, str], receive: Receive, limit: int) -> bytes:
    """Read a JSON body.

    Raises:
        RequestError: 415 for another content type, 413 for a body above ``limit`` bytes.
        ClientGone: If the client left in the middle.
    """
    check_kind(headers, limit)
    chunks: list[bytes] = []
    total = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        total += len(chunk)
        if total > limit:
            raise too_large(limit)
        chunks.append(chunk)
        more = message.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def too_large(limit: int) -> RequestError:
    """Refuse a body above ``limit`` bytes."""
    return RequestError(f"the body is larger than {limit} bytes", status=413, code="body_too_large")
