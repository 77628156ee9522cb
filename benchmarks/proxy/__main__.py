"""What the sidecar costs beside its peers: CPU per request and per SSE chunk, added latency.

    python -m benchmarks.proxy [--json FILE] [--peers FOLDER]

nginx, vLLM's router, LiteLLM and the sidecar stand before one stub at the same time and take turns
under the same load, several rounds of it. The sidecar asks by a Unix socket, which is how vLLM
listens in its pod, and once more by TCP, as all others do. It records, with its log on disk. CPU is
that of a proxy's whole process tree from /proc, until it has come to rest; the stub and the load
generator are processes of their own.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.proxy import load
from benchmarks.proxy.cost import cpu_seconds, resident_mib, settle
from benchmarks.proxy.stub import CHUNKS
from benchmarks.proxy.targets import Target, all_of

NAMES = ["stub", "nginx", "vllm-router", "litellm", "sidecar", "sidecar-tcp"]
RATES = (200, 500)
_PEER = "vllm-router"


@dataclass(kw_only=True)
class Figures:
    """One target's measurements, a number for each round.

    Attributes:
        request_us: CPU microseconds of its process tree for a plain request.
        chunk_us: The same for an SSE chunk.
        per_second: Plain requests, flat out.
        p50_ms: By rate, the median latency; the stub's own included.
        p99_ms: The same for the 99th percentile.
        resident_mib: Memory after each round.
    """

    request_us: list[float] = field(default_factory=list)
    chunk_us: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    p50_ms: dict[int, list[float]] = field(default_factory=dict)
    p99_ms: dict[int, list[float]] = field(default_factory=dict)
    resident_mib: list[float] = field(default_factory=list)
    failed: int = 0


def measure(target: Target, found: Figures, *, seconds: float) -> None:
    """Put each kind of load on one target, once."""
    before, begun = cpu_seconds(target.pid), time.monotonic()
    tally = uvloop.run(load.flat_out(target.port, target.requests, seconds))
    took = time.monotonic() - begun
    settle(target.pid)
    found.request_us.append((cpu_seconds(target.pid) - before) / max(tally.good, 1) * 1e6)
    found.per_second.append(tally.good / took)
    found.failed += tally.bad
    _measure_streams(target, found, rounds=max(1, round(seconds)))
    for rate in RATES:
        # A rate that it cannot take says nothing but that it cannot.
        if found.per_second[-1] > 1.3 * rate:
            _measure_latency(target, found, rate, seconds)
    settle(target.pid)
    found.resident_mib.append(resident_mib(target.pid))


def _measure_streams(target: Target, found: Figures, *, rounds: int) -> None:
    before = cpu_seconds(target.pid)
    for _ in range(rounds):
        found.failed += uvloop.run(load.streams(target.port, target.requests)).bad
    settle(target.pid)
    chunks = rounds * load.STREAMS * CHUNKS
    found.chunk_us.append((cpu_seconds(target.pid) - before) / chunks * 1e6)


def _measure_latency(target: Target, found: Figures, rate: int, seconds: float) -> None:
    run = load.at_rate(target.port, target.requests, per_second=rate, seconds=seconds)
    latencies, tally = uvloop.run(run)
    found.failed += tally.bad
    found.p50_ms.setdefault(rate, []).append(latencies[len(latencies) // 2])
    found.p99_ms.setdefault(rate, []).append(latencies[int(len(latencies) * 0.99)])


def compare(
    names: list[str], peers: Path, *, python: str, seconds: float, rounds: int
) -> dict[str, Figures]:
    """Measure every target in turn, ``rounds`` times; ``python`` runs the sidecar."""
    with all_of(names, peers, python) as targets:
        found = {target.name: Figures() for target in targets}
        for target in targets:
            uvloop.run(load.flat_out(target.port, target.requests, 1.0))
            settle(target.pid)
        for number in range(rounds):
            for target in targets:
                print(f"round {number + 1} of {rounds}: {target.name}", file=sys.stderr)
                measure(target, found[target.name], seconds=seconds)
    return found


def table(found: dict[str, Figures]) -> str:
    """Show medians, their spread, and what they are beside the peer's."""
    lines = [_row("", "us/request", "us/chunk", "req/s", "MiB", "failed")]
    lines += [
        _row(
            name,
            _spread(one.request_us),
            _spread(one.chunk_us),
            _spread(one.per_second),
            _spread(one.resident_mib[-1:]),
            str(one.failed),
        )
        for name, one in found.items()
    ]
    lines.append("")
    lines.append(
        _row("added ms", *(f"{which} at {r}/s" for r in RATES for which in ("p50", "p99")))
    )
    alone = found.get("stub alone")
    for name, one in found.items():
        if one is not alone:
            added = [_added(one, alone, rate) for rate in RATES]
            lines.append(_row(name, *(text for pair in added for text in pair)))
    if _PEER in found:
        lines += ["", _row(f"times {_PEER}", "request", "chunk")]
        peer = found[_PEER]
        lines += [
            _row(name, _ratio(one.request_us, peer.request_us), _ratio(one.chunk_us, peer.chunk_us))
            for name, one in found.items()
        ]
    return "\n".join(lines)


def _row(name: str, *cells: str) -> str:
    return f"{name:18}" + "".join(f"{cell:>20}" for cell in cells)


def _spread(numbers: Sequence[float]) -> str:
    if not numbers:
        return "-"
    middle = statistics.median(numbers)
    digits = 0 if middle >= 100 else 1
    low, high = min(numbers), max(numbers)
    around = f" ({low:.{digits}f}-{high:.{digits}f})" if len(numbers) > 1 else ""
    return f"{middle:.{digits}f}{around}"


def _added(one: Figures, alone: Figures | None, rate: int) -> tuple[str, str]:
    if alone is None or rate not in one.p50_ms or rate not in alone.p50_ms:
        return "-", "-"
    pairs = ((one.p50_ms, alone.p50_ms), (one.p99_ms, alone.p99_ms))
    fifty, ninety_nine = (
        f"{statistics.median(mine[rate]) - statistics.median(base[rate]):.2f}"
        for mine, base in pairs
    )
    return fifty, ninety_nine


def _ratio(mine: Sequence[float], peer: Sequence[float]) -> str:
    return f"{statistics.median(mine) / statistics.median(peer):.2f}"


def main() -> None:
    """Compare, and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.proxy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, help="write every round's figures to this file")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument(
        "--peers",
        type=Path,
        default=Path.home() / ".cache/feedbackloop/bench/bin",
        help="where vllm-router and litellm are installed; `make bench` does it",
    )
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="what runs the sidecar: a Python 3.11, such as one that is built with optimisations",
    )
    options = parser.parse_args()
    found = compare(
        options.only,
        options.peers,
        python=options.python,
        seconds=options.seconds,
        rounds=options.rounds,
    )
    print(table(found))
    if options.json is not None:
        options.json.write_text(json.dumps({name: vars(one) for name, one in found.items()}))


if __name__ == "__main__":
    main()
