"""One request of a client, as its head and body arrive."""

from collections.abc import Callable
from enum import Enum, auto

from httptools import HttpParserInvalidURLError, parse_url

from feedbackloop.errors import RequestError
from services.sidecar.entrance import Admitted

_LONGEST_TARGET_BYTES = 8 * 2**10
_LONGEST_HEAD_BYTES = 64 * 2**10
_MOST_HEADERS = 128
_ONCE = (b"host", b"content-length", b"transfer-encoding")
_SHORT_BYTES = 64 * 2**10


class Way(Enum):
    """Who answers a request."""

    RECORDED = auto()
    REST = auto()


class Request:
    """What a client asks. Filled in by the connection's parser, piece by piece.

    Attributes:
        raw_headers: As sent, names in lower case.
        headers: By name; of a repeated one the last.
        size: Bytes of the body so far.
        complete: Whether all of the body is here.
        is_short: Whether its body is read even if it is refused, to keep the connection.
        keep_alive: Whether the client wants the connection to stay.
        admitted: Who was let in with it.
        error: Why it is refused, if it is: whatever else it holds is not to be trusted.
        arrived: Told of each piece of the body, and of its end, if somebody waits for them.
    """

    __slots__ = (
        "admitted",
        "arrived",
        "complete",
        "error",
        "head_size",
        "headers",
        "is_short",
        "keep_alive",
        "method",
        "path",
        "pieces",
        "query",
        "raw_headers",
        "size",
        "target",
        "version",
        "way",
    )

    def __init__(self) -> None:
        self.method = ""
        self.target = b""
        self.path = ""
        self.query = b""
        self.version = "1.1"
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.head_size = 0
        self.size = 0
        self.complete = False
        self.keep_alive = False
        self.is_short = False
        self.way = Way.REST
        self.admitted: Admitted | None = None
        self.error: RequestError | None = None
        self.arrived: Callable[[], None] | None = None

    def add_header(self, name: bytes, value: bytes) -> None:
        """Take the next header in."""
        self.head_size += len(name) + len(value)
        self.raw_headers.append((name.lower(), value))

    def close_head(self) -> None:
        """Read what the head says, now that all of it is here.

        Raises:
            RequestError: 400, 414 or 431 if it is no head to trust.
        """
        self.headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in self.raw_headers
        }
        self._check_size()
        if self.version not in ("1.0", "1.1"):
            raise bad_request("version: expected HTTP/1.1")
        if len(self.headers) != len(self.raw_headers):
            self._check_repeats()
        if "host" not in self.headers and self.version == "1.1":
            raise bad_request("host: expected exactly one")
        coding = self.headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked":
                raise bad_request("transfer-encoding: expected chunked or none")
            if "content-length" in self.headers or self.version == "1.0":
                raise bad_request("transfer-encoding: expected a client of HTTP/1.1 and no length")
        self._split_target()
        length = self.headers.get("content-length", "")
        self.is_short = length.isdigit() and int(length) <= _SHORT_BYTES and not self.expects_word

    def bare(self) -> "Request":
        """Return what the head says, without a body and without who was admitted."""
        one = Request()
        one.method, one.target, one.path, one.query = (
            self.method,
            self.target,
            self.path,
            self.query,
        )
        one.version, one.keep_alive, one.way = self.version, self.keep_alive, self.way
        one.raw_headers, one.headers, one.head_size = (
            self.raw_headers,
            self.headers,
            self.head_size,
        )
        return one

    def like(self, length: bytes, body: bytes) -> "Request":
        """Return a whole request with the same head, but for its body and that one's length."""
        one = self.bare()
        said = length.decode("ascii")
        if self.headers["content-length"] != said:
            one.headers = {**self.headers, "content-length": said}
            one.raw_headers = [
                (name, length if name == b"content-length" else value)
                for name, value in self.raw_headers
            ]
        one.pieces, one.size, one.complete = [body], len(body), True
        return one

    def body(self) -> bytes:
        """Return the body as far as it is here."""
        if len(self.pieces) > 1:
            self.pieces = [b"".join(self.pieces)]
        return self.pieces[0] if self.pieces else b""

    @property
    def expects_word(self) -> bool:
        """Whether the client waits for our word before it sends its body."""
        return self.headers.get("expect", "").lower() == "100-continue"

    def _check_repeats(self) -> None:
        names = [name for name, _ in self.raw_headers]
        for name in _ONCE:
            if names.count(name) > 1:
                raise bad_request(f"{name.decode()}: expected one at most")

    def _check_size(self) -> None:
        if len(self.target) > _LONGEST_TARGET_BYTES:
            raise RequestError("the target is too long", status=414, code="target_too_long")
        if self.head_size > _LONGEST_HEAD_BYTES or len(self.raw_headers) > _MOST_HEADERS:
            raise head_too_large()

    def _split_target(self) -> None:
        if self.target.startswith(b"/") and b"?" not in self.target and b"#" not in self.target:
            self.path = self.target.decode("latin-1")
            return
        try:
            url = parse_url(self.target)
        except HttpParserInvalidURLError as error:
            raise bad_request("the target is no URL") from error
        self.path = (url.path or b"/").decode("latin-1")
        self.query = url.query or b""


def bad_request(message: str) -> RequestError:
    """Refuse what is no HTTP that two readers would read alike."""
    return RequestError(message, status=400, code="bad_request")


def head_too_large() -> RequestError:
    """Refuse a head that would fill our memory."""
    return RequestError("the headers are too large", status=431, code="headers_too_large")


def too_slow() -> RequestError:
    """Refuse a client that holds a connection with a request that does not come."""
    return RequestError("the request did not come in time", status=408, code="request_timeout")
