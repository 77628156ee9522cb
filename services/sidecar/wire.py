"""HTTP/1.1 as bytes: the heads and chunks that we write."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus

LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS: Mapping[int, bytes] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}

Headers = Iterable[tuple[bytes, bytes]]


def status_line(status: int) -> bytes:
    """Write the first line of a reply, with its line end."""
    return _STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status


def lines(headers: Headers) -> bytes:
    """Write headers, a line each. Neither names nor values hold line ends: they were parsed."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def request(method: bytes, path: str, head: bytes, body: bytes) -> bytes:
    """Write a whole request; ``head`` is its headers' lines, without the body's length."""
    return b"%b %b HTTP/1.1\r\nhost: vllm\r\n%bcontent-length: %d\r\n\r\n%b" % (
        method,
        path.encode("latin-1"),
        head,
        len(body),
        body,
    )


def chunk(data: bytes) -> bytes:
    """Frame a piece of a body whose length nobody knows yet."""
    return b"%x\r\n%b\r\n" % (len(data), data)
