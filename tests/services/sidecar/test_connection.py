"""What a client may do to a connection, in raw bytes."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedbackloop.capture.record import Closed
from feedbackloop.events import Outcome
from services.sidecar.app import make_front
from services.sidecar.connection import Connection
from services.sidecar.front import Front, FrontLimits
from services.sidecar.request import Request
from tests.services.sidecar.stub import DONE, HELLO, Said, World, a_chunk, a_stream, a_world
from tests.services.sidecar.test_alike import Listening, Wire

PATH = "/v1/chat/completions"
BODY = json.dumps(HELLO).encode()
READ_AHEAD = 16  # requests that are read before the first is answered


def a_head(*lines: str, first: str = f"POST {PATH} HTTP/1.1", host: str = "host: x") -> bytes:
    """The head of a completion request, with more lines."""
    own = [first, host, "content-type: application/json", *lines]
    return "".join(f"{line}\r\n" for line in own if line).encode("latin-1") + b"\r\n"


def a_request(*lines: str, body: bytes = BODY) -> bytes:
    return a_head(f"content-length: {len(body)}", *lines) + body


@asynccontextmanager
async def a_client(
    world: World,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    url = urlsplit(world.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def say(world: World, *pieces: bytes) -> bytes:
    """Send bytes, and return all that comes back until the server hangs up."""
    async with a_client(world) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return await reader.read()


async def one_reply(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read one reply that says its length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


TWICE = "content-length: 5\r\ncontent-length: 6"


@pytest.mark.parametrize(
    "raw",
    [
        a_head("content-length: 5", "transfer-encoding: chunked") + b"0\r\n\r\n",
        a_head("transfer-encoding: chunked", "content-length: 5") + b"0\r\n\r\n",
        a_head(TWICE) + b"hello",
        a_head("content-length: 5, 5") + b"hello",
        a_head("content-length: +5") + b"hello",
        a_head("content-length: 0x5") + b"hello",
        a_head("transfer-encoding: gzip, chunked") + b"0\r\n\r\n",
        a_head("transfer-encoding: chunked, identity") + b"0\r\n\r\n",
        a_head("transfer-encoding: xchunked") + b"0\r\n\r\n",
        a_head("transfer-encoding : chunked") + b"0\r\n\r\n",
        a_head("transfer-encoding: chunked", "transfer-encoding: chunked") + b"0\r\n\r\n",
        a_head("transfer-encoding: chunked") + b"0x5\r\nhello\r\n0\r\n\r\n",
        a_head("transfer-encoding: chunked") + b"-1\r\nhello\r\n0\r\n\r\n",
        a_head("transfer-encoding: chunked") + b"ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        a_head("transfer-encoding: chunked") + b"5\r\nhelloxx0\r\n\r\n",
        a_head("transfer-encoding: chunked", first=f"POST {PATH} HTTP/1.0") + b"0\r\n\r\n",
        a_head("x: folded", " over: lines", "content-length: 0"),
        a_head("x: a\0b", "content-length: 0"),
        a_head("x y: b", "content-length: 0"),
        a_head("content-length: 0").replace(b"\r\n", b"\n"),
        a_head("content-length: 0", host=""),
        a_head("content-length: 0", host="host: a\r\nhost: b"),
        a_head("content-length: 0", first=f"POST {PATH} HTTP/9.9"),
        a_head("content-length: 0", first=f"POST {PATH}"),
        a_head("content-length: 0", first=f"YELL {PATH} HTTP/1.1"),
        a_head("connection: upgrade", "upgrade: websocket", first="GET / HTTP/1.1"),
        b"CONNECT example.org:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_two_readers_could_read_differently_is_refused(world: World, raw: bytes) -> None:
    """A request that hides in another is how strangers get behind a proxy's rules."""
    said = await say(world, raw + a_request())

    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nconnection: close" in head
    assert json.loads(body)["error"]["code"] == "bad_request"
    assert world.stub.requests == []


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (a_head("x: " + "y" * 70_000), b"431"),
        (a_head(*(f"x{n}: y" for n in range(200))), b"431"),
        (a_head("x: " + "y" * 300_000)[:-4], b"431"),
        (a_head(first=f"POST /{'x' * 9_000} HTTP/1.1"), b"414"),
        (a_head(f"content-length: {10**12}"), b"413"),
    ],
)
async def test_what_would_fill_our_memory_is_refused(
    world: World, raw: bytes, status: bytes
) -> None:
    """A client has as much room as a request needs, and no more."""
    said = await say(world, raw)

    assert said.split(b" ")[1] == status


async def test_a_chunked_body_reaches_vllm_with_a_length(world: World) -> None:
    """How the client framed its body is between the client and us."""
    raw = a_head("transfer-encoding: chunked", "connection: close")
    pieces = [b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:])]

    said = await say(world, raw, *pieces, b"0\r\nx-trailer: 1\r\n\r\n")

    _, head, body = world.stub.requests[0]
    assert said.startswith(b"HTTP/1.1 200 ")
    assert body == BODY.replace(b"assistant", b"base")
    assert b"chunked" not in head
    assert b"trailer" not in head


async def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    """Few clients do it, and none may get another's answer."""
    world.stub.says = [Said(pieces=(b'{"n":%d}' % n,)) for n in range(3)]

    said = await say(world, a_request() + a_request() + a_request("connection: close"))

    assert [int(part[:1]) for part in said.split(b'{"n":')[1:]] == [0, 1, 2]


class Slow(Listening):
    """A front that answers when it is told to."""

    def complete(self, request: Request, connection: Connection) -> None:
        del connection
        self.asked.append(request.body())


@given(st.lists(st.sampled_from(["comes", "is answered", "turn"]), max_size=30))
def test_whoever_comes_between_two_answers_waits_for_those_before(happens: list[str]) -> None:
    """An answer that overtakes another is taken for it: the client knows them by their order."""

    async def asked() -> tuple[list[bytes], list[object]]:
        front, sent, answered = Slow(), list[bytes](), 0
        connection = Connection(cast("Front", front))
        connection.connection_made(Wire())
        for one in (*happens, *["is answered", "turn"] * len(happens)):
            if one == "comes" and len(sent) - answered < READ_AHEAD:
                sent.append(b"%d" % len(sent))
                connection.data_received(a_request(body=sent[-1]))
            elif one == "is answered" and len(front.asked) > answered:
                answered += 1
                connection.reply(200, b"", b"")
            elif one == "turn":
                await asyncio.sleep(0)
        return sent, front.asked

    sent, found = asyncio.run(asked())

    assert found == sent


async def test_a_thousand_pipelined_requests_are_not_a_thousand_calls_deep(world: World) -> None:
    """One packet must not end the process."""
    refused = a_request(body=b"{")

    said = await say(world, refused * 1_000 + a_request("connection: close"))

    assert said.count(b"HTTP/1.1 400 ") == 1_000
    assert said.count(b"HTTP/1.1 200 ") == 1


async def test_a_connection_outlives_refusals(world: World) -> None:
    """A client that erred need not pay for a new connection."""
    async with a_client(world) as (reader, writer):
        heads = []
        for raw in (
            a_request(body=b"{"),
            a_head("content-length: 2").replace(b"application/json", b"text/plain") + b"{}",
            b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n",
            a_request(),
        ):
            writer.write(raw)
            heads.append(await one_reply(reader))

    assert [int(head.split(b" ")[1]) for head, _ in heads] == [400, 415, 404, 200]


async def test_a_client_that_asks_first_is_told_to_go_on(world: World) -> None:
    """``curl`` waits a second for this before it sends a long body."""
    async with a_client(world) as (reader, writer):
        writer.write(a_head(f"content-length: {len(BODY)}", "expect: 100-continue"))
        first = await reader.readuntil(b"\r\n\r\n")
        writer.write(BODY)
        head, _ = await one_reply(reader)

    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert head.startswith(b"HTTP/1.1 200 ")


async def test_a_client_without_a_key_is_refused_before_its_body(tmp_path: Path) -> None:
    """A stranger's ten megabytes need not travel."""
    async with a_world(tmp_path, keys_required=True) as world:
        said = await say(world, a_head("content-length: 900000", "expect: 100-continue"))

    assert said.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(("method", "status"), [("GET", b"405"), ("PUT", b"405"), ("HEAD", b"405")])
async def test_other_methods_are_refused(world: World, method: str, status: bytes) -> None:
    """And HEAD gets no body, or the next answer would be taken for it."""
    said = await say(world, a_head("connection: close", first=f"{method} {PATH} HTTP/1.1"))

    head, _, body = said.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == status
    assert (body == b"") == (method == "HEAD")


async def test_a_client_of_http_1_0_gets_a_stream_that_ends_with_the_connection(
    world: World,
) -> None:
    """It knows no chunks."""
    world.stub.says = [a_stream(a_chunk("a"), DONE)]
    body = json.dumps({**HELLO, "stream": True}).encode()
    first = f"POST {PATH} HTTP/1.0"

    said = await say(world, a_head(f"content-length: {len(body)}", first=first, host="") + body)

    head, _, rest = said.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert rest == a_chunk("a", "assistant") + DONE


async def test_http_1_0_keeps_a_connection_only_if_asked(world: World) -> None:
    """Load balancers of old do ask."""
    first, length = f"POST {PATH} HTTP/1.0", f"content-length: {len(BODY)}"

    once = await say(world, a_head(length, first=first) + BODY)
    async with a_client(world) as (reader, writer):
        writer.write(a_head(length, "connection: keep-alive", first=first) + BODY)
        head, _ = await one_reply(reader)

    assert b"\r\nconnection: close\r\n" in once
    assert b"\r\nconnection: keep-alive\r\n" in head


async def test_a_target_may_name_the_host_or_carry_a_query(world: World) -> None:
    """Both are legal, and the path alone decides."""
    for target in (f"http://elsewhere{PATH}", f"{PATH}?api-version=1"):
        first = f"POST {target} HTTP/1.1"
        said = await say(
            world,
            a_head(f"content-length: {len(BODY)}", "connection: close", first=first) + BODY,
        )
        assert said.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("raw", [b"", a_head()[:40], a_head("content-length: 50") + b"{"])
async def test_a_client_that_dawdles_is_let_go(tmp_path: Path, raw: bytes) -> None:
    """Many that each hold a connection with half a request would keep everybody else out."""
    limits = FrontLimits(body_bytes=1_000, idle_seconds=0.01, head_seconds=0.01, body_seconds=0.01)
    async with a_world(tmp_path, limits=limits) as world:
        said = await say(world, raw)

    assert said == b"" if raw == b"" else said.startswith(b"HTTP/1.1 408 ")


class Stuck(Connection):
    """Fails to end, in a way that nobody has thought of."""

    def __init__(self, front: Front) -> None:
        super().__init__(front)
        self.deadline = 0.0
        self.again = asyncio.Event()
        self._failures = 0

    def expire(self) -> None:
        self._failures += 1
        if self._failures > 1:
            self.again.set()
            self._front.forget(self)
        raise RuntimeError("surprise")


async def test_a_connection_that_cannot_be_ended_does_not_end_the_look_at_others(
    world: World,
) -> None:
    """Nobody who dawdles would be let go any more, and each reply would bear an old date."""
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _what: None)
    front = make_front(world.parts)
    await front.listen(socket.create_server(("127.0.0.1", 0)))
    stuck = Stuck(front)

    front.connections.add(stuck)
    await stuck.again.wait()

    await front.drain(0)


async def test_a_client_that_never_reads_does_not_hold_vllm_for_ever(tmp_path: Path) -> None:
    """Its reply is recorded as abandoned, and vLLM is told to stop."""
    limits = FrontLimits(body_bytes=1_000, stall_seconds=0.01)
    async with a_world(tmp_path, limits=limits) as world:
        gate = asyncio.Event()
        world.stub.says = [a_stream(*[a_chunk("a" * 2**16)] * 400, DONE, gate=gate)]
        body = json.dumps({**HELLO, "stream": True}).encode()
        async with a_client(world) as (_, writer):
            writer.write(a_request(body=body))
            # Opened, and closed by us: the second record.
            await asyncio.to_thread(world.spool.wait, after=0, timeout_seconds=20)

        (record,) = [one for one in world.records() if isinstance(one, Closed)]
        assert record.outcome is Outcome.CLIENT_GONE
        assert world.parts.router.counts() == {}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
async def test_a_request_cut_anywhere_is_the_same_request(
    world: World, data: st.DataObject
) -> None:
    """The network cuts where it likes."""
    raw = a_request("x-feedbackloop-user: somebody", "connection: close")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    world.stub.requests.clear()

    said = await say(world, *pieces)

    assert said.startswith(b"HTTP/1.1 200 ")
    assert world.stub.requests[0][2] == BODY.replace(b"assistant", b"base")


_SPOILERS = [b"\r\n", b"\0", b":", b" ", b"\n", b"chunked", b"0\r\n\r\n", b"%", b"HTTP/1.1"]


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
async def test_no_bytes_end_the_server(world: World, data: st.DataObject) -> None:
    """Whatever comes is answered in the protocol or hung up on, and the next client is served."""
    raw = data.draw(
        st.sampled_from([a_request(), a_head("transfer-encoding: chunked") + b"1\r\n{"])
    )
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw)))
        gone = data.draw(st.integers(0, 9))
        new = data.draw(st.sampled_from(_SPOILERS) | st.binary(max_size=9))
        raw = raw[:place] + new + raw[place + gone :]

    async with a_client(world) as (reader, writer):
        writer.write(raw)
        writer.write_eof()
        said = await reader.read()
    after = await say(world, a_request("connection: close"))

    assert said == b"" or said.startswith(b"HTTP/1.")
    assert after.startswith(b"HTTP/1.1 200 ")
