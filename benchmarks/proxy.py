"""What the sidecar costs beside its peers: CPU per request and per SSE chunk, added latency.

    python benchmarks/proxy.py [--json FILE]

One stub stands for vLLM. The load goes to it directly, through nginx if that is installed, and
through the sidecar with recording on and its log on disk. CPU is that of the proxy's whole
process tree, from /proc; the stub and the load generator are processes of their own.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

CONNECTIONS = 32
STREAMS = 64
CHUNKS = 64
CHUNK_SECONDS = 0.01
RATE = 200
_TICKS = os.sysconf("SC_CLK_TCK")
_ROUTE = "/v1/chat/completions"
_WHOLE = (
    b'{"id":"chatcmpl-x","object":"chat.completion","created":1,"model":"base","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"' + b"word " * 40 + b'"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":40,"total_tokens":49}}'
)
_CHUNK = (
    b'data: {"id":"chatcmpl-x","object":"chat.completion.chunk","created":1,"model":"base",'
    b'"choices":[{"index":0,"delta":{"content":"word "},"logprobs":null,"finish_reason":null}]}\n\n'
)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One target's cost.

    Attributes:
        request_us: CPU microseconds of its process tree for a plain request.
        chunk_us: The same for an SSE chunk.
        requests_per_second: Plain requests, flat out.
        p50_ms: Latency at a fixed rate, the stub's own included.
    """

    request_us: float
    chunk_us: float
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


async def stub(port: int) -> None:
    """Answer like vLLM: whole at once, or a chunk every 10 ms."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0] if (
                    b"content-length:" in head
                ) else b"0"  # fmt: skip
                body = await reader.readexactly(int(length))
                await (_stream(writer) if b'"stream":true' in body else _whole(writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port, backlog=1_024)
    await server.serve_forever()


async def _whole(writer: asyncio.StreamWriter) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % len(_WHOLE) + _WHOLE)
    await writer.drain()


async def _stream(writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    for _ in range(CHUNKS - 1):
        writer.write(f"{len(_CHUNK):x}\r\n".encode() + _CHUNK + b"\r\n")
        await writer.drain()
        await asyncio.sleep(CHUNK_SECONDS)
    writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    await writer.drain()


def _request(*, stream: bool) -> bytes:
    body = json.dumps(
        {
            "model": "assistant",
            "stream": stream,
            "messages": [
                {"role": "system", "content": "You are kind."},
                {"role": "user", "content": "What is the capital of France? " * 8},
            ],
        },
        separators=(",", ":"),
    ).encode()
    head = (
        f"POST {_ROUTE} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> bool:
    """Send one request and read its reply; say whether it was whole."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"transfer-encoding: chunked" in head:
        data = await reader.readuntil(b"\r\n0\r\n\r\n")
        return b"[DONE]" in data and b" 200 " in head[:20]
    length = head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]
    await reader.readexactly(int(length))
    return b" 200 " in head[:20]


async def flat_out(port: int, seconds: float) -> tuple[int, int]:
    """Keep every connection busy; return how many requests were answered and how many failed."""
    until = time.monotonic() + seconds

    async def one() -> tuple[int, int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        good = bad = 0
        while time.monotonic() < until:
            if await _exchange(reader, writer, _request(stream=False)):
                good += 1
            else:
                bad += 1
        writer.close()
        return good, bad

    results = await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return sum(good for good, _ in results), sum(bad for _, bad in results)


async def streams(port: int) -> int:
    """Run all streams at once; return how many failed."""

    async def one() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        good = await _exchange(reader, writer, _request(stream=True))
        writer.close()
        return good

    return (await asyncio.gather(*(one() for _ in range(STREAMS)))).count(False)


async def at_rate(port: int, seconds: float) -> list[float]:
    """Send requests at a fixed rate, whatever comes back; return their latencies in ms, sorted."""
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    taken: list[float] = []

    async def one(due: float) -> None:
        pair = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        await _exchange(*pair, _request(stream=False))
        # From when it was due, so that a stall counts for all that it held up.
        taken.append((time.monotonic() - due) * 1e3)
        idle.append(pair)

    begun = time.monotonic()
    tasks = []
    for number in range(int(seconds * RATE)):
        due = begun + number / RATE
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return sorted(taken)


def cpu_seconds(pid: int) -> float:
    """Return what a process and its children have used."""
    total = 0.0
    for one in _tree(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _tree(int(child)))]


async def measure(port: int, pid: int, seconds: float) -> Figures:
    """Put each kind of load on one target."""
    await flat_out(port, 1)
    before, began = cpu_seconds(pid), time.monotonic()
    good, bad = await flat_out(port, seconds)
    took, used = time.monotonic() - began, cpu_seconds(pid) - before
    before, failed, rounds = cpu_seconds(pid), bad, max(1, round(seconds))
    for _ in range(rounds):
        failed += await streams(port)
    chunks = rounds * STREAMS * CHUNKS
    chunk_us = (cpu_seconds(pid) - before) / chunks * 1e6
    latencies = await at_rate(port, seconds)
    return Figures(
        request_us=round(used / max(good, 1) * 1e6, 1),
        chunk_us=round(chunk_us, 1),
        requests_per_second=round(good / took),
        p50_ms=round(latencies[len(latencies) // 2], 2),
        p99_ms=round(latencies[int(len(latencies) * 0.99)], 2),
        failed=failed,
    )


@contextmanager
def running(command: list[str], **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for as long as the context lasts."""
    process = subprocess.Popen(  # noqa: S603  # our own commands
        command,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def nginx(folder: Path, stub_port: int, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run nginx as a plain proxy: one worker, kept connections, no buffering."""
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log /dev/null;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off; keepalive_requests 10000000;\n"
        "upstream u { server 127.0.0.1:%d; keepalive 128; keepalive_requests 10000000; }\n"
        "server { listen 127.0.0.1:%d; location / { proxy_pass http://u; proxy_buffering off;\n"
        'proxy_http_version 1.1; proxy_set_header Connection ""; } } }\n' % (stub_port, port)
    )
    with running(["nginx", "-c", str(config), "-p", str(folder)]) as process:
        yield process


@contextmanager
def sidecar(folder: Path, stub_port: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the sidecar as anybody would, recording to disk."""
    with running(
        [sys.executable, "-m", "services.sidecar"],
        FEEDBACKLOOP_HOME=str(folder / "home"),
        FEEDBACKLOOP_SIDECAR__UPSTREAM=f"http://127.0.0.1:{stub_port}",
        FEEDBACKLOOP_SIDECAR__UPSTREAM_GUARD="off",
        FEEDBACKLOOP_SIDECAR__BIND="127.0.0.1:0",
        FEEDBACKLOOP_SIDECAR__ADMIN_BIND="127.0.0.1:0",
        FEEDBACKLOOP_SIDECAR__DRAIN_SECONDS="5",
        FEEDBACKLOOP_KEYS__REQUIRED="false",
        FEEDBACKLOOP_ALIASES__ASSISTANT__BASE="base",
    ) as process:
        assert process.stdout is not None  # noqa: S101  # it is a pipe
        ready = json.loads(process.stdout.readline())["ready"]["sidecar"]
        yield process, int(ready.rpartition(":")[2])


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def compare(seconds: float) -> dict[str, Figures]:
    """Measure every target that there is."""
    found = {}
    stub_port, nginx_port = free_port(), free_port()
    with (
        tempfile.TemporaryDirectory() as name,
        running([sys.executable, __file__, "--stub", str(stub_port)]) as server,
    ):
        time.sleep(1)
        folder = Path(name)
        found["stub alone"] = asyncio.run(measure(stub_port, server.pid, seconds))
        if shutil.which("nginx"):
            with nginx(folder, stub_port, nginx_port) as process:
                time.sleep(1)
                found["nginx"] = asyncio.run(measure(nginx_port, process.pid, seconds))
        with sidecar(folder, stub_port) as (process, port):
            found["sidecar"] = asyncio.run(measure(port, process.pid, seconds))
    return found


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--stub", type=int)
    options = parser.parse_args()
    if options.stub is not None:
        asyncio.run(stub(options.stub))
        return
    found = compare(options.seconds)
    titles = ("us/request", "us/chunk", "req/s", "p50 ms", "p99 ms", "failed")
    print(" " * 12 + "".join(f"{title:>12}" for title in titles))
    for name, one in found.items():
        print(f"{name:12}" + "".join(f"{figure:>12}" for figure in asdict(one).values()))
    if options.json is not None:
        options.json.write_text(json.dumps({name: asdict(one) for name, one in found.items()}))


if __name__ == "__main__":
    main()
