"""A head that is known again says what a parser would have read."""

import asyncio
from collections.abc import Callable
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop.errors import RequestError
from services.sidecar.alike import Likeness
from services.sidecar.connection import Connection
from services.sidecar.front import Front, FrontLimits
from services.sidecar.link import Head, Link
from services.sidecar.request import Request, Way
from services.sidecar.wire import CONTINUE

MOST_BYTES = 40


class Listening:
    """A front that answers at once, and keeps what it was asked."""

    def __init__(self) -> None:
        self.limits = FrontLimits(body_bytes=MOST_BYTES)
        self.connections: set[Connection] = set()
        self.draining = False
        self.date_line = b""
        self.asked: list[object] = []

    def now(self) -> float:
        return 0.0

    def way(self, request: Request) -> Way:
        return Way.RECORDED if request.path.startswith("/v1/") else Way.REST

    def check(self, request: Request, _peer: str) -> RequestError | None:
        return RequestError("no", status=401) if "x-bad" in request.headers else None

    def rest(self, request: Request, connection: Connection) -> None:
        connection.refuse(RequestError("no such page", status=404))
        request.error = RequestError("answered", status=404)

    def complete(self, request: Request, connection: Connection) -> None:
        said = (request.method, request.path, request.query, request.version, request.keep_alive)
        self.asked.append((said, request.headers, request.raw_headers, request.body()))
        connection.reply(200, b"", b"")


class Wire(asyncio.Transport):
    """What a connection writes to; open until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Parsing(Connection):
    """A connection that knows no head again."""

    def __init__(self, front: Front) -> None:
        super().__init__(front)
        self._likeness = Likeness(most_bytes=-1)


def answers(kind: type[Connection], *pieces: bytes) -> tuple[list[object], list[bytes], bool]:
    """What is asked and answered of one connection."""
    front, wire = Listening(), Wire()
    connection = kind(cast("Front", front))
    connection.connection_made(wire)
    for piece in pieces:
        if not wire.closed:
            connection.data_received(piece)
    # Who has the body at hand need not ask for it.
    return front.asked, [one for one in wire.written if one != CONTINUE], wire.closed


LINES = (
    "authorization: Bearer a",
    "Authorization: Bearer b",
    "x-note: content-length: 3",
    "connection: close",
    "x-bad: yes",
    "expect: 100-continue",
    "transfer-encoding: chunked",
)
LENGTHS = ("content-length: %d", "Content-Length:%d", "content-length: 0%d", "content-length: %d ")
WRONG = ("content-length: +%d", "content-length: %d, 5")


@st.composite
def talks(draw: st.DrawFn) -> list[bytes]:
    """Pieces of a connection whose requests are alike, but for a few."""
    usual = draw(st.lists(st.sampled_from(LINES[:3]), max_size=2, unique=True))
    length = draw(st.sampled_from(LENGTHS))
    pieces: list[bytes] = []
    for _ in range(draw(st.integers(2, 6))):
        lines = [*usual, length]
        if draw(st.integers(0, 3)) == 0:
            lines = [*draw(st.lists(st.sampled_from(LINES), max_size=2)), *lines]
        if draw(st.integers(0, 9)) == 0:
            lines[-1] = draw(st.sampled_from(WRONG))
        lines = draw(st.sampled_from([lines, lines[::-1]]))
        body = draw(
            st.binary(max_size=12) | st.binary(min_size=MOST_BYTES, max_size=MOST_BYTES + 1)
        )
        first = draw(st.sampled_from(["POST /v1/x HTTP/1.1"] * 5 + ["POST /y HTTP/1.1"]))
        head = "".join(f"{line}\r\n" for line in (first, "host: x", *lines))
        head = draw(st.sampled_from([head, head, head.replace("Bearer", "bearer")]))
        one = head.replace("%d", str(len(body))).encode() + b"\r\n" + body
        cut = draw(st.sampled_from([0, 0, 0, 0, len(one) // 2, len(one) - 1, len(one) - len(body)]))
        pieces += [one[:cut], one[cut:]] if cut else [one]
        if draw(st.integers(0, 4)) == 0:
            pieces[-2:] = [b"".join(pieces[-2:])]
    return pieces


@settings(max_examples=500)
@given(talks())
def test_what_is_known_again_is_what_is_parsed(pieces: list[bytes]) -> None:
    """Two readers who read one head differently are how requests are smuggled."""
    assert answers(Connection, *pieces) == answers(Parsing, *pieces)


REPLY_LINES = (
    "content-type: application/json",
    "date: Fri, 27 Nov 2026 16:00:00 GMT",
    "date: Fri, 27 Nov 2026 16:00:01 GMT",
    "x-note: content-length: 3",
    "connection: close",
    "transfer-encoding: chunked",
)


class Reading:
    """Asks one thing after the other, and keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def began(self, head: Head) -> None:
        self.told.append((head.status, list(head.headers), head.content_type))

    def received(self, data: bytes) -> None:
        self.told.append(data)

    def ended(self) -> None:
        self.told.append("ended")

    def lost(self, error: Exception, *, heard: bool) -> None:
        self.told.append((type(error), heard))


class ParsingLink(Link):
    """A connection to vLLM that knows no head again."""

    def __init__(self, returned: Callable[[Link], None]) -> None:
        super().__init__(returned=returned, lost=lambda _: None, clock=lambda: 0.0)
        self._likeness = Likeness(most_bytes=-1)


def waits(link: Link, wire: Wire) -> bool:
    """Whether a connection waits for a reply, or for more of one."""
    return link.busy and not wire.closed


def heard(link: Link, replies: list[list[bytes]], returned: list[Link]) -> list[object]:
    """What is told of replies, each of which comes in pieces once it was asked for."""
    reading, wire = Reading(), Wire()
    link.connection_made(wire)
    for pieces in replies:
        if waits(link, wire) or not link.is_open():
            break
        link.ask(b"GET / HTTP/1.1\r\n\r\n", reading, reading)
        for piece in pieces:
            if waits(link, wire):
                link.data_received(piece)
    return [*reading.told, len(returned), wire.closed, link.busy]


@st.composite
def replies(draw: st.DrawFn) -> list[list[bytes]]:
    """Pieces of replies that are alike, but for a few."""
    usual = draw(st.lists(st.sampled_from(REPLY_LINES[:4]), max_size=3, unique=True))
    length = draw(st.sampled_from(LENGTHS))
    found: list[list[bytes]] = []
    for _ in range(draw(st.integers(2, 6))):
        lines = [*usual, length]
        if draw(st.integers(0, 3)) == 0:
            lines = [*draw(st.lists(st.sampled_from(REPLY_LINES), max_size=2)), *lines]
        lines = draw(st.sampled_from([lines, lines, lines[::-1], lines[:-1]]))
        status = draw(st.sampled_from(["200 OK"] * 6 + ["404 Not Found", "204 No Content"]))
        body = draw(st.binary(max_size=12))
        head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *lines))
        one = head.replace("%d", str(len(body))).encode() + b"\r\n" + body
        one = draw(
            st.sampled_from([one] * 6 + [one + b"more", b"HTTP/1.1 103 Early\r\n\r\n" + one])
        )
        cut = draw(st.sampled_from([0, 0, 0, 0, len(one) // 2, len(one) - 1]))
        found.append([one[:cut], one[cut:]] if cut else [one])
    return found


@settings(max_examples=500)
@given(replies())
def test_a_reply_that_is_known_again_is_what_is_parsed(replies: list[list[bytes]]) -> None:
    """A reply that is taken for longer or shorter than it is becomes the next one's beginning."""
    known: list[Link] = []
    parsed: list[Link] = []
    link = Link(returned=known.append, lost=lambda _: None, clock=lambda: 0.0)
    assert heard(link, replies, known) == heard(ParsingLink(parsed.append), replies, parsed)


def test_a_head_like_the_last_is_not_parsed() -> None:
    """Else the whole thing would save nothing, and every test would pass."""
    likeness: Likeness[str] = Likeness(most_bytes=MOST_BYTES)
    likeness.learn(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", 3, "known")

    found = likeness.read(b"POST / HTTP/1.1\r\ncontent-length: 12\r\n\r\nabcdefghijkl")

    assert found == ("known", b"12", b"abcdefghijkl")


def test_two_messages_in_one_piece_teach_nothing() -> None:
    """The bytes of the first would come to stand for what was read of the second."""
    likeness: Likeness[str] = Likeness(most_bytes=MOST_BYTES)
    one = b"POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\na"

    likeness.learn(one + b"POST /other HTTP/1.1\r\ncontent-length: 1\r\n\r\nb", 1, "second")

    assert likeness.read(one) is None


def test_what_is_hardly_ever_alike_is_seldom_looked_at() -> None:
    """Who numbers heads would pay for every look; who has become regular is found out."""
    likeness: Likeness[str] = Likeness(most_bytes=MOST_BYTES)

    def looks(*numbers: int) -> list[bool]:
        found = []
        for number in numbers:
            head = b"GET / HTTP/1.1\r\nx-trace: %d\r\ncontent-length: 3\r\n\r\nabc" % number
            found.append(likeness.read(head) is not None)
            if not found[-1]:
                likeness.learn(head, 3, "known")
        return found

    assert not any(looks(*range(10)))
    regular = looks(*[99] * 70)
    assert not any(regular[:10])
    assert all(regular[-5:])
