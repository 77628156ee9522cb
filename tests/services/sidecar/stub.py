"""A model server that says what a test wants, byte by byte, and a sidecar before it."""

import asyncio
import itertools
import re
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from feedbackloop.capture import record
from feedbackloop.capture.identity import TenantKeys
from feedbackloop.capture.record import AnyRecord
from feedbackloop.events import Alias, TenantId
from feedbackloop.log.memory import MemorySpool
from feedbackloop.log.port import Frame, Spool
from services import signing
from services.apikeys import ApiKeys
from services.sidecar.app import make_admin, make_front
from services.sidecar.caller import Identities
from services.sidecar.entrance import Entrance, Rules
from services.sidecar.front import Front, FrontLimits
from services.sidecar.parts import Parts
from services.sidecar.readiness import Readiness, Unmanaged
from services.sidecar.recording import Recorder
from services.sidecar.router import Router
from services.sidecar.upstream import Upstream

NOON_NS = 1_772_625_600 * 10**9
ALIAS = Alias("assistant")
KEYS = TenantKeys(
    current="k001",
    receipts={"k001": b"r" * 32},
    pseudonym=b"p" * 32,
    chain=b"c" * 32,
    holdout=b"h" * 32,
)
HELLO = {"model": "assistant", "messages": [{"role": "user", "content": "hello"}]}


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the model server answers.

    Attributes:
        pieces: Of the body; ``@id`` in them stands for the id that the sidecar gave.
        cut: Break the connection instead of ending the reply.
        gate: Wait for this before the last piece.
    """

    status: int = 200
    kind: str = "application/json"
    pieces: Sequence[bytes] = (b"{}",)
    cut: bool = False
    gate: asyncio.Event | None = None


def a_stream(*pieces: bytes, cut: bool = False, gate: asyncio.Event | None = None) -> Said:
    """A reply in server-sent events."""
    return Said(kind="text/event-stream; charset=utf-8", pieces=pieces, cut=cut, gate=gate)


def a_chunk(text: str, model: str = "base") -> bytes:
    """One event of a stream as vLLM writes it."""
    return (
        b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"'
        + model.encode()
        + b'","choices":[{"index":0,"delta":{"content":"'
        + text.encode()
        + b'"},"finish_reason":null}]}\n\n'
    )


DONE = b"data: [DONE]\n\n"


@dataclass(kw_only=True)
class Stub:
    """Answers in the order of ``says``; the last answer again and again."""

    socket: Path
    says: list[Said] = field(default_factory=lambda: [Said()])
    requests: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen for as long as the context lasts."""
        server = await asyncio.start_unix_server(self._connected, self.socket)
        try:
            yield
        finally:
            server.close()
            for writer in self._writers:
                writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
                     if line.startswith(b"content-length:")), 0)  # fmt: skip
                body = await reader.readexactly(length)
                self.requests.append((head.split(b" ")[1], head, body))
                said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
                name = re.search(rb"x-request-id: (\S+)", head)
                await self._answer(reader, writer, said, name[1] if name else b"")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: Said, name: bytes
    ) -> None:
        writer.write(
            f"HTTP/1.1 {said.status} X\r\ncontent-type: {said.kind}\r\nconnection: x-hop\r\n"
            "x-hop: 1\r\nx-kept: 1\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        for number, piece in enumerate(one.replace(b"@id", name) for one in said.pieces):
            if said.gate is not None and number == len(said.pieces) - 1:
                await self._wait(reader, said.gate)
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
        if said.cut:
            raise ConnectionResetError
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _wait(self, reader: asyncio.StreamReader, gate: asyncio.Event) -> None:
        """Wait for the gate, or for the sidecar to hang up."""
        opened = asyncio.ensure_future(gate.wait())
        hung_up = asyncio.ensure_future(reader.read(1))
        done, _ = await asyncio.wait({opened, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if hung_up in done:
            opened.cancel()
            self.gone.set()
            raise ConnectionResetError
        hung_up.cancel()


@dataclass(frozen=True, kw_only=True)
class World:
    """A sidecar that runs, its clients, and what it wrote down."""

    client: httpx.AsyncClient
    admin: httpx.AsyncClient
    stub: Stub
    parts: Parts
    spool: Spool
    url: str

    def records(self) -> list[AnyRecord]:
        """Return what the spool holds."""
        frames = self.spool.read(after=-1)
        return [record.decode(frame.payload) for frame in frames if isinstance(frame, Frame)]


@asynccontextmanager
async def a_world(  # noqa: PLR0913  # one for each thing that a test may change
    folder: Path,
    *,
    spool: Spool | None = None,
    keys_required: bool = False,
    wait_seconds: float = 5.0,
    up: bool = True,
    limits: FrontLimits | None = None,
    rules: Rules | None = None,
    tenants: Mapping[str, TenantKeys] = {"default": KEYS},
) -> AsyncIterator[World]:
    """Run a sidecar before a stub; ``up`` is whether the stub listens."""
    stub = Stub(socket=folder / "vllm.sock")
    spool = spool if spool is not None else MemorySpool()
    server = Upstream(f"unix:{stub.socket}", connect_seconds=1, idle_seconds=20)
    router = Router({ALIAS: "base"})
    convergence = Unmanaged(router)
    counter = itertools.count(NOON_NS)
    identities = Identities(
        {TenantId(name): keys for name, keys in tenants.items()}, lifetime_seconds=86_400
    )
    parts = Parts(
        name="sidecar-0",
        router=router,
        server=server,
        recorder=Recorder(spool, wait_seconds=wait_seconds, vote_wait_seconds=wait_seconds),
        identities=identities,
        entrance=Entrance(
            ApiKeys(folder / "api-keys.json", required=keys_required),
            identities,
            rules or Rules(),
            tokens=None,
            clock=time.monotonic,
        ),
        convergence=convergence,
        readiness=Readiness(convergence, guarded=True),
        clock=lambda: next(counter),
        max_body_bytes=2**20,
        verify=partial(signing.verify, folder),
        passed_on=frozenset({"/v1/embeddings"}),
    )
    async with server, _listening(stub, up=up), _serving(make_front(parts, limits)) as url:
        admin = httpx.ASGITransport(make_admin(parts))
        async with (
            httpx.AsyncClient(base_url=url, timeout=10, trust_env=False) as client,
            httpx.AsyncClient(base_url="http://admin", transport=admin) as admin_client,
        ):
            yield World(
                client=client, admin=admin_client, stub=stub, parts=parts, spool=spool, url=url
            )


@asynccontextmanager
async def _listening(stub: Stub, *, up: bool) -> AsyncIterator[None]:
    if not up:
        yield
        return
    async with stub.serving():
        yield


@asynccontextmanager
async def _serving(front: Front) -> AsyncIterator[str]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    await front.listen(listener)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await front.drain(0)
