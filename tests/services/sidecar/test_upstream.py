"""The pool of connections to vLLM, over a real socket."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from feedbackloop.errors import RequestError, SettingsError
from services.sidecar.upstream import Upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class Server:
    """Answers each request of each connection with the next of ``says``; None hangs up."""

    def __init__(self, says: Sequence[bytes | None]) -> None:
        self.says = list(says)
        self.connections = 0
        self.requests = 0
        self.hangs_up = False
        """Whether it does after each answer."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                self.requests += 1
                said = self.says.pop(0)
                if said is None:
                    return
                writer.write(said)
                if self.hangs_up:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    one = Server([OK] * 3)
    listening = await asyncio.start_unix_server(one.serve, tmp_path / "s")
    yield one
    listening.close()


@pytest.fixture
async def upstream(tmp_path: Path, server: Server) -> AsyncIterator[Upstream]:
    del server
    async with Upstream(f"unix:{tmp_path / 's'}", connect_seconds=5, idle_seconds=0.2) as one:
        yield one


async def test_a_connection_is_used_again(server: Server, upstream: Upstream) -> None:
    """A new one for each request costs more than the request."""
    for _ in range(3):
        await upstream.post("/x", b"{}", {})

    assert (server.requests, server.connections) == (3, 1)


async def test_requests_at_once_have_connections_of_their_own(
    server: Server, upstream: Upstream
) -> None:
    """HTTP/1.1 answers in order, and nobody waits for another's tokens."""
    await asyncio.gather(*(upstream.post("/x", b"{}", {}) for _ in range(3)))

    assert server.connections == 3


async def test_a_kept_connection_that_was_closed_meanwhile_fails_nobody(
    server: Server, upstream: Upstream
) -> None:
    """vLLM closes what was idle for a while, perhaps at the very moment of the next request."""
    server.says = [OK, None, OK]

    await upstream.post("/x", b"{}", {})
    answer = await upstream.post("/x", b"{}", {})

    assert (answer.status, server.connections) == (200, 2)


@pytest.mark.parametrize("said", [OK[:5], OK[:30], OK[:-2], b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_server_that_ends_before_its_answer_does_is_named(
    server: Server, upstream: Upstream, said: bytes
) -> None:
    """It was killed in the middle: nobody is to wait for what does not come any more."""
    server.says, server.hangs_up = [said], True

    with pytest.raises(RequestError) as caught:
        async with asyncio.timeout(10):
            await upstream.post("/x", b"{}", {})

    assert caught.value.code == "upstream_broken"


@pytest.mark.parametrize("more", [OK.replace(b"{}", b"[]"), OK[:20], OK[:-1], b"nonsense"])
async def test_what_comes_right_after_a_reply_is_part_of_no_reply(
    server: Server, upstream: Upstream, more: bytes
) -> None:
    """It answers somebody else's request, or a request that nobody has sent."""
    server.says = [OK + more, OK]

    answers = [await upstream.post("/x", b"{}", {}) for _ in range(2)]

    assert [answer.body for answer in answers] == [b"{}", b"{}"]
    assert server.connections == 2


async def test_a_new_connection_that_breaks_is_not_tried_again(
    server: Server, upstream: Upstream
) -> None:
    """vLLM may have begun: twice the work is no help to a server in trouble."""
    server.says = [None, OK]

    with pytest.raises(RequestError) as caught:
        await upstream.post("/x", b"{}", {})

    assert (caught.value.code, server.requests) == ("upstream_broken", 1)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}", "upstream_timeout"),
        (b"", "upstream_timeout"),
        (b"nonsense\r\n\r\n", "upstream_broken"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "upstream_broken"),
    ],
)
async def test_a_server_that_is_silent_or_speaks_no_http_is_named(
    server: Server, upstream: Upstream, said: bytes, code: str
) -> None:
    """The client learns which, and the connection is not used again."""
    server.says = [said, OK]

    with pytest.raises(RequestError) as caught:
        await upstream.post("/x", b"{}", {})
    after = await upstream.post("/x", b"{}", {})

    assert (caught.value.code, after.status, server.connections) == (code, 200, 2)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ],
)
async def test_a_reply_is_read_in_every_form(
    server: Server, upstream: Upstream, said: bytes
) -> None:
    """With a word before it, or in chunks."""
    server.says = [said, OK]

    first = await upstream.post("/x", b"{}", {})
    await upstream.post("/x", b"{}", {})

    assert (first.status, first.body, server.connections) == (200, b"{}", 1)


@pytest.mark.parametrize(
    "target", ["ftp://x", "http://", "vllm:8000", "", "unix:", "http://a:99999", "http://a:x"]
)
def test_a_target_that_cannot_be_reached_at_all_is_a_wrong_setting(target: str) -> None:
    """Known at the start, not at the first request."""
    with pytest.raises(SettingsError, match="FEEDBACKLOOP_SIDECAR__UPSTREAM"):
        Upstream(target, connect_seconds=1, idle_seconds=1)


async def test_a_host_that_there_cannot_be_is_one_that_is_away() -> None:
    """Whoever asks hears of it, whatever the resolver makes of the name."""
    async with Upstream(f"http://{'a' * 64}", connect_seconds=1, idle_seconds=1) as upstream:
        with pytest.raises(RequestError) as caught:
            await asyncio.wait_for(upstream.post("/x", b"{}", {}), 5)

    assert caught.value.code == "upstream_unreachable"


async def test_a_machine_that_gave_us_no_turn_is_no_fault_of_vllms(
    tmp_path: Path, server: Server
) -> None:
    """When we wake up, the clock says time-out and the socket says connected: both at once."""
    async with Upstream(f"unix:{tmp_path / 's'}", connect_seconds=0.02, idle_seconds=5) as one:
        asking = asyncio.ensure_future(one.post("/x", b"{}", {}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251  # the event loop gets no turn

        answer = await asking

    assert (answer.status, server.requests) == (200, 1)
