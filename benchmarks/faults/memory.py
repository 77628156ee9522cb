"""Memory at its bounds: so many conversations that all that is remembered of them is full.

    python -m benchmarks.faults.memory [--seconds 170] [--per-second 1300] [--wide] [--json FILE]

First the log is there, for most of the time, until 100,000 conversations have been seen; then it
cannot be written, and the spool (16 MiB here) sheds; then it can again. Every ten seconds a row.
Exit status 1 if a request failed, if the memory of both processes passed --rss-mib, or if it grew
by more than --growth-mib once all was full. --wide: turns of 1,500 characters of two bytes each.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.faults.sidecars import Sidecar, ready_again, sidecar
from benchmarks.faults.soak import away, shown, spool_mib
from benchmarks.proxy.cost import own_mib, tree
from benchmarks.proxy.load import WORDS, Requests, Tally, at_rate
from benchmarks.proxy.targets import stub
from services.wiring import EVENTS

_FULL_AFTER = 110_000  # conversations
_SPOOL_BYTES = 16 * 2**20
_SLICE_SECONDS = 10.0
_AWAY, _BACK = 0.2, 0.15  # shares of the time
_WIDE = "\N{CJK UNIFIED IDEOGRAPH-9577}" * 1_500


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Ten seconds."""

    log: str
    seconds: int
    asked: int
    left_out: int
    shed: int
    spool_mib: float
    sidecar_mib: float
    child_mib: float

    @property
    def both_mib(self) -> float:
        """Of both processes."""
        return self.sidecar_mib + self.child_mib


class Counted(Requests):
    """Requests that are counted as they are sent."""

    asked = 0

    def whole(self) -> bytes:
        """Return the next one."""
        self.asked += 1
        return super().whole()


class Watch:
    """Looks at a sidecar while it is asked."""

    def __init__(self, one: Sidecar, requests: Counted, per_second: int) -> None:
        self.slices: list[Slice] = []
        self.tally = Tally()
        self._one = one
        self._requests = requests
        self._per_second = per_second
        self._begun_at = time.monotonic()

    async def phase(self, log: str, seconds: float) -> None:
        """Ask for so long, and look now and then."""
        asking = asyncio.create_task(
            at_rate(self._one.port, self._requests, per_second=self._per_second, seconds=seconds)
        )
        while not asking.done():
            await asyncio.wait([asking], timeout=_SLICE_SECONDS)
            self._look(log)
        _, tally = asking.result()
        self.tally.good += tally.good
        self.tally.bad += tally.bad

    def _look(self, log: str) -> None:
        seconds = time.monotonic() - self._begun_at
        parent, child = (own_mib(pid) for pid in tree(self._one.pid))
        self.slices.append(
            Slice(
                log=log,
                seconds=round(seconds),
                asked=self._requests.asked,
                left_out=shown(self._one.admin_port, "feedbackloop_bodies_left_out_total"),
                shed=shown(self._one.admin_port, "feedbackloop_records_total", 'result="shed"'),
                spool_mib=spool_mib(self._one.home),
                sidecar_mib=round(parent, 1),
                child_mib=round(child, 1),
            )
        )
        print(_row(list(asdict(self.slices[-1]).values())), flush=True)


def broken(watch: Watch, *, most_mib: float, growth_mib: float) -> list[str]:
    """Name the promises that were not kept."""
    problems: list[str] = []
    if watch.tally.bad:
        problems.append(f"{watch.tally.bad} requests failed")
    peak = max(one.both_mib for one in watch.slices)
    if peak > most_mib:
        problems.append(f"memory grew to {peak:.0f} MiB")
    full = [one.both_mib for one in watch.slices if one.asked > _FULL_AFTER]
    if not full:
        problems.append(f"{_FULL_AFTER:,} conversations were not reached: nothing is shown")
    elif max(full) - full[0] > growth_mib:
        problems.append(f"memory grew by {max(full) - full[0]:.0f} MiB once all was full")
    return problems


def run(seconds: float, per_second: int, words: str) -> Watch:
    """Let a sidecar live through all three phases."""
    settings = {"FEEDBACKLOOP_SIDECAR__SPOOL_DISK_BYTES": str(_SPOOL_BYTES)}
    with stub() as upstream, sidecar(upstream.port, settings=settings) as one:
        ready_again(one)
        watch = Watch(one, Counted(model="assistant", words=words), per_second)
        asyncio.run(watch.phase("there", seconds * (1 - _AWAY - _BACK)))
        with away(one.home / "log" / EVENTS / "sidecar-0"):
            asyncio.run(watch.phase("away", seconds * _AWAY))
        asyncio.run(watch.phase("back", seconds * _BACK))
    return watch


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def main() -> int:
    """Run, print, and say whether every promise was kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults.memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=170.0)
    parser.add_argument("--per-second", type=int, default=1_300)
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--rss-mib", type=float, default=512.0, help="most that both may hold")
    parser.add_argument("--growth-mib", type=float, default=24.0, help="once all is full")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    given = parser.parse_args()
    columns = ["log", "seconds", "asked", "bodies left out", "records shed", "spool MiB"]
    print(_row([*columns, "sidecar MiB", "child MiB"]))
    print(_row(["---"] * 8), flush=True)
    watch = run(given.seconds, given.per_second, _WIDE if given.wide else WORDS)
    problems = broken(watch, most_mib=given.rss_mib, growth_mib=given.growth_mib)
    print(f"\n{watch.tally.good:,} answers, {watch.tally.bad} failed")
    for one in problems:
        print(f"NO: {one}")
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(one) for one in watch.slices], indent=1))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
