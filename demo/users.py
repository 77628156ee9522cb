"""Simulated people who talk to the loop over HTTP, through the official ``openai`` client.

    python -m demo.users --base-url http://127.0.0.1:8080/v1 traffic --first-answers 4500
    python -m demo.users measure --out before.json
    python -m demo.users record --known known.json && python -m demo.users watch --known known.json
    python -m demo.users suite --out suites

Progress is printed as JSON lines. ``--out`` gets a report and ``--ledger`` every id, so that a log
can be held against what was really sent. SIGTERM ends traffic and watching in good order.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import uvloop

from demo import suite
from demo.client import People, people
from demo.measure import exam_questions, examine, traffic_questions
from demo.reactions import Manners
from demo.traffic import Crowd, Traffic
from demo.watch import Watch

_TELL_SECONDS = 2.0

Arguments = argparse.Namespace
Report = dict[str, Any]


def tell(**values: object) -> None:
    """Print one line for whoever watches."""
    print(json.dumps(values), flush=True)


class Telling:
    """Prints progress now and then, and not after every reply."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, **values: object) -> None:
        """Print unless something was printed a moment ago."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _TELL_SECONDS
            tell(**values)


async def run_traffic(crowd: People, arguments: Arguments, stop: asyncio.Event) -> Report:
    """Let people ask and react."""
    traffic = Traffic(
        crowd,
        Crowd(
            first_answers=arguments.first_answers,
            sessions=arguments.sessions,
            per_second=arguments.per_second,
            users=arguments.users,
            seed=arguments.seed,
            manners=Manners(**{rate.name: getattr(arguments, rate.name) for rate in _rates()}),
        ),
        stop,
    )
    telling, begun = Telling(), time.monotonic()

    def progress() -> None:
        telling(
            first_answers=traffic.finished,
            of=arguments.first_answers or None,
            completions=len(crowd.ledger.delivered),
            per_second=round(len(crowd.ledger.delivered) / (time.monotonic() - begun), 1),
        )

    await traffic.run(progress)
    moods = {
        release: {"replies": mood.replies, "satisfaction": mood.satisfied / mood.replies}
        for release, mood in traffic.moods.items()
    }
    return {"first_answers": traffic.finished, "satisfaction_by_release": moods}


async def run_measure(crowd: People, arguments: Arguments, stop: asyncio.Event) -> Report:
    """Examine whatever answers now."""
    del stop
    telling = Telling()
    found = await examine(
        crowd,
        liked=traffic_questions(arguments.satisfaction_items, seed=arguments.seed),
        known=exam_questions(arguments.capability_items, seed=arguments.seed),
        progress=lambda done, of: telling(examined=done, of=of),
    )
    return asdict(found)


async def run_record(crowd: People, arguments: Arguments, stop: asyncio.Event) -> Report:
    """Write down what the release that answers now says to every probe."""
    watch = Watch(crowd, arguments.watchers, arguments.seed, stop)
    _remember(watch, arguments.known)
    await watch.record()
    _write_down(watch, arguments.known)
    return {"releases": sorted({release for says in watch.known.values() for release in says})}


async def run_watch(crowd: People, arguments: Arguments, stop: asyncio.Event) -> Report:
    """Keep requests in flight until told to stop; then judge whose words the replies were."""
    watch = Watch(crowd, arguments.watchers, arguments.seed, stop)
    begun = time.monotonic()
    tell(watching=arguments.watchers)
    await watch.run()
    failed = sum(crowd.ledger.failed.values())
    seconds = time.monotonic() - begun
    _remember(watch, arguments.known)
    await watch.record()
    _write_down(watch, arguments.known)
    return {
        "in_flight": arguments.watchers,
        "requests": len(watch.seen) + watch.unanswered,
        "failed_in_flight": failed,
        "releases": dict(watch.releases()),
        "watched_seconds": round(seconds, 3),
        **asdict(watch.attribution()),
    }


def _remember(watch: Watch, file: Path) -> None:
    """Take in what releases were heard to say before."""
    if file.exists():
        watch.known.update(json.loads(file.read_text()))


def _write_down(watch: Watch, file: Path) -> None:
    file.write_text(json.dumps(watch.known))


_MODES: dict[str, Callable[[People, Arguments, asyncio.Event], Awaitable[Report]]] = {
    "traffic": run_traffic,
    "measure": run_measure,
    "record": run_record,
    "watch": run_watch,
}
_UNTIL_TOLD = ("traffic", "watch")
"""Modes that a signal ends in good order; the others just die of it."""


async def run(arguments: Arguments) -> Report:
    """Run one mode against the loop, and report what was sent and what came of it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if arguments.mode in _UNTIL_TOLD:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    begun = time.monotonic()
    async with people(
        arguments.base_url, model=arguments.model, in_flight=arguments.in_flight
    ) as crowd:
        found = await _MODES[arguments.mode](crowd, arguments, stop)
        seconds = time.monotonic() - begun
        if arguments.ledger is not None:
            arguments.ledger.write_text(json.dumps(crowd.ledger.ids()))
        return {
            "mode": arguments.mode,
            "seed": arguments.seed,
            "seconds": round(seconds, 3),
            "per_second": round(len(crowd.ledger.delivered) / seconds, 1),
            "cpu_seconds": round(time.process_time(), 1),
            **crowd.ledger.summary(),
            **found,
        }


def _rates() -> list[Any]:
    return list(fields(Manners))


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--seed", type=int, default=0)
    common.add_argument("--out", type=Path, help="the report, or the suite's folder")
    http = argparse.ArgumentParser(add_help=False, parents=[common])
    http.add_argument("--base-url", default="http://127.0.0.1:8080/v1")
    http.add_argument("--model", default="assistant", help="the alias to ask")
    http.add_argument("--in-flight", type=int, default=48, help="most requests at a time")
    http.add_argument("--ledger", type=Path, help="where every id is written")

    parser = argparse.ArgumentParser(
        prog="python -m demo.users", description=__doc__.split("\n")[0]
    )
    modes = parser.add_subparsers(dest="mode", required=True)
    traffic = modes.add_parser("traffic", parents=[http], help="ask and react")
    traffic.add_argument("--first-answers", type=int, default=4_500, help="0: until stopped")
    traffic.add_argument("--sessions", type=int, default=256, help="people at a time")
    traffic.add_argument("--per-second", type=float, default=0.0, help="0: as fast as answered")
    traffic.add_argument("--users", type=int, default=3_000)
    for rate in _rates():
        kind = type(rate.default)
        traffic.add_argument(f"--{rate.name.replace('_', '-')}", type=kind, default=rate.default)
    measure = modes.add_parser("measure", parents=[http], help="examine what answers now")
    measure.add_argument("--satisfaction-items", type=int, default=700)
    measure.add_argument("--capability-items", type=int, default=200, help="of every task")
    probes = argparse.ArgumentParser(add_help=False, parents=[http])
    probes.add_argument("--watchers", type=int, default=16, help="requests kept in flight")
    probes.add_argument("--known", type=Path, required=True, help="what each release says")
    modes.add_parser("record", parents=[probes], help="write down what is said to the probes")
    modes.add_parser("watch", parents=[probes], help="keep requests in flight until SIGTERM")
    modes.add_parser("suite", parents=[common], help="write the gate's suite")
    return parser


def main() -> int:
    """Run one mode; 0 if it came to its end."""
    arguments = _parser().parse_args()
    if arguments.mode == "suite":
        tell(suite=str(suite.write(arguments.out or Path(), seed=arguments.seed)))
        return 0
    report = uvloop.run(run(arguments))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=1))
    tell(**{name: value for name, value in report.items() if name != "scores"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
