"""Minutes of steady load with an outage of the log in the middle: memory, latency, loss.

    python -m benchmarks.faults.soak [--minutes 10] [--per-second 100] [--json FILE]

A third of the time all is well, a third the log cannot be written while the spool can, a third it
can again. Every thirty seconds a row: what clients saw, what the sidecar holds, what it shed. At
the end the books: expected = seen + declared. Exit status 1 if a completion failed, a promise was
broken, or memory passed --rss-mib: what is remembered of talks grows until its bounds are met.

In the outage the folder of the log's partition is away, so that it gets no new segment. The spool
is bounded to 16 MiB, so that it sheds.
"""

import argparse
import asyncio
import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from benchmarks.faults import books
from benchmarks.faults.clients import Clients
from benchmarks.faults.sidecars import Sidecar, ready_again, sidecar
from benchmarks.proxy.cost import resident_mib
from benchmarks.proxy.targets import stub
from services.wiring import EVENTS

_SPOOL_BYTES = 16 * 2**20
_SLICE_SECONDS = 30.0
_PEOPLE = 16


@dataclass(kw_only=True)
class Slice:
    """Half a minute."""

    phase: str
    minute: float
    completed: int
    failed: int
    p50_ms: float
    p99_ms: float
    votes_503: int
    shed: int
    spool_mib: float
    rss_mib: float


@contextmanager
def away(partition: Path) -> Iterator[None]:
    """Let a partition of the log get no new segment for as long as the context lasts."""
    elsewhere = partition.with_name(f".{partition.name}")
    partition.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(partition)


async def watch(one: Sidecar, clients: Clients, phase: str, seconds: float) -> list[Slice]:
    """Keep people busy, and say every half minute how things are."""
    slices: list[Slice] = []
    until = time.monotonic() + seconds
    async with clients.busy(_PEOPLE):
        while (rest := until - time.monotonic()) > 1:
            begun = time.monotonic()
            seen = clients.seen
            seen.seconds.clear()
            done, failed, refused_before = len(seen.completed), seen.failed, seen.refused
            await asyncio.sleep(min(_SLICE_SECONDS, rest))
            taken = sorted(seen.seconds) or [0.0]
            slices.append(
                Slice(
                    phase=phase,
                    minute=round((time.monotonic() - clients.begun_at) / 60, 1),
                    completed=round((len(seen.completed) - done) / (time.monotonic() - begun)),
                    failed=seen.failed - failed,
                    p50_ms=round(taken[len(taken) // 2] * 1e3, 1),
                    p99_ms=round(taken[int(len(taken) * 0.99)] * 1e3, 1),
                    votes_503=seen.refused - refused_before,
                    shed=shown(one.admin_port, "feedbackloop_spool_troubles_total", 'what="shed"'),
                    spool_mib=spool_mib(one.home),
                    rss_mib=round(resident_mib(one.pid), 1),
                )
            )
            print(_row(list(asdict(slices[-1]).values())), flush=True)
    return slices


def soak(minutes: float, per_second: int, *, most_mib: float) -> tuple[list[Slice], list[str], str]:
    """Run the three phases; return what was seen, which promises were broken, and the books."""
    third = minutes * 20
    settings = {
        "FEEDBACKLOOP_SIDECAR__SPOOL_DISK_BYTES": str(_SPOOL_BYTES),
        "FEEDBACKLOOP_LOG__SEGMENT_BYTES": str(2**16),
    }
    with stub() as upstream, sidecar(upstream.port, settings=settings) as one:
        ready_again(one)
        clients = Clients(one.port, Random(0), pause_seconds=_PEOPLE / per_second)
        slices = asyncio.run(watch(one, clients, "there", third))
        with away(one.home / "log" / EVENTS / "sidecar-0"):
            slices += asyncio.run(watch(one, clients, "away", third))
        slices += asyncio.run(watch(one, clients, "back", third))
        one.end()
        found = books.logged(one.home)
    broken = books.broken(clients.seen, found, may_shed=True)
    peak = max(one.rss_mib for one in slices)
    if peak > most_mib:
        broken.append(f"memory grew to {peak} MiB")
    declared = sum(found.audit.declared.values())
    audit = f"expected {found.audit.expected:,} = seen {found.audit.seen:,} + declared {declared:,}"
    return slices, broken, audit


def shown(admin_port: int, counter: str, label: str = "") -> int:
    """Return what a sidecar has counted, over all series that have a label."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{admin_port}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    series = [line for line in lines if line.startswith(f"{counter}{{")]
    return sum(int(float(line.split()[-1])) for line in series if label in line)


def spool_mib(home: Path) -> float:
    """Return how large the spools under a home folder are."""
    found = 0
    for file in (home / "spool").rglob("*"):
        try:
            found += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue  # released meanwhile
    return round(found / 2**20, 1)


def _row(cells: list[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def main() -> int:
    """Run, print, and say whether every promise was kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--per-second", type=int, default=100, help="completions; half get a vote")
    parser.add_argument("--rss-mib", type=float, default=512.0, help="most that it may hold")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    given = parser.parse_args()
    print(_row(["log", "minute", "completed/s", "failed", "p50 ms", "p99 ms", "votes 503", "shed",
                "spool MiB", "RSS MiB"]))  # fmt: skip
    print(_row(["---"] * 10), flush=True)
    slices, broken, audit = soak(given.minutes, given.per_second, most_mib=given.rss_mib)
    print(f"\n{audit}")
    for one in broken:
        print(f"NO: {one}")
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(one) for one in slices], indent=1))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
