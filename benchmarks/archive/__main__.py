"""What it costs to archive an event, beside DuckDB writing the same rows to Parquet.

    python -m benchmarks.archive [--events 50000 100000 200000] [--rounds 3] [--json FILE]

Completions of about 1.6 kB. The archiver reads them from a log and does all that it does in
service: decode, leave out repeats, digest, publish exclusively, sync. DuckDB reads them from a
file with one a line, and writes the same columns with the same compression; it looks for no
repeat and keeps no promise. Two archivers have a log of one partition each; with KAFKA_HOME set
they share a topic of Apache Kafka, as in service, and one archiver reads it all. Each turn is a
process of its own, or two, measured after a warm-up. Events a second are by the clock on the wall,
from where the first of them begins to the last file of the last one; CPU is that of all threads of
the process, and not the broker's, which runs on the same cores. The column "cores" is how many of
them a turn had: where it is less than its processes could use, others had them, and the events a
second are not what the machine can do.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from benchmarks.archive.workers import WARM_UP, WORKERS, Took, Turn
from benchmarks.ending import end_on_sigterm
from benchmarks.forward.events import many
from feedbackloop.events import AnyEvent
from feedbackloop.log import codec
from services import logs, wiring, wiring_kafka
from services.settings import Settings
from tests.apache_kafka import Broker

_BATCH = 2_000
_PARTITIONS = 4


class Bench:
    """Logs and files with the same events, under one folder."""

    def __init__(self, folder: Path, servers: str) -> None:
        self.folder = folder
        self.servers = servers

    def prepare(self, events: int) -> None:
        """Write them: as lines, as one log, as two halves, and to Kafka."""
        made = many(events)
        self._lines(events).write_bytes(b"\n".join(codec.encode(one) for one in made))
        half = events // 2
        for name, some in (("whole", made), ("first", made[:half]), ("second", made[half:])):
            asyncio.run(_append(self._settings(name, events), some))
        if self.servers:
            settings = self._settings("kafka", events)
            wiring_kafka.create_topics(Settings.model_validate(settings))
            asyncio.run(_append(settings, made))

    def archivers(self, events: int) -> list[Took]:
        """Let one archiver do everything."""
        return self._run("archiver", self._turn("whole", events))

    def pair(self, events: int) -> list[Took]:
        """Let two archivers do half each, at once."""
        return self._run(
            "archiver",
            *(self._turn(name, events, count=events // 2) for name in ("first", "second")),
        )

    def from_kafka(self, events: int) -> list[Took]:
        """Let one archiver read from Kafka."""
        return self._run("archiver", self._turn("kafka", events))

    def pair_from_kafka(self, events: int) -> list[Took]:
        """Let two archivers share a topic."""
        turn = self._turn("kafka", events, share=_PARTITIONS // 2)
        return self._run("archiver", turn, turn)

    def on_kafka(self) -> dict[str, Callable[[int], list[Took]]]:
        """Name those that read from Kafka."""
        return {"archiver, Kafka": self.from_kafka, "two archivers, Kafka": self.pair_from_kafka}

    def reading(self, events: int) -> list[Took]:
        """Only read the log."""
        return self._run("reading", self._turn("whole", events))

    def duckdb(self, events: int) -> list[Took]:
        """Let DuckDB do it in one thread."""
        return self._run("duckdb", self._turn("whole", events))

    def duckdb_pair(self, events: int) -> list[Took]:
        """Let DuckDB do it in two threads."""
        return self._run("duckdb", self._turn("whole", events, threads=2))

    def _lines(self, events: int) -> Path:
        return self.folder / f"{events}.jsonl"

    def _settings(self, name: str, events: int) -> dict[str, object]:
        log: dict[str, object] = {"kind": "segments"}
        if name == "kafka":
            topic = f"bench-{events}-{self.folder.name}"
            log = {"kind": "kafka", "bootstrap_servers": self.servers, "replication": 1}
            log |= {
                "partitions": _PARTITIONS,
                "events_topic": topic,
                "releases_topic": f"{topic}-r",
            }
        return {"home": str(self.folder / f"{name}-{events}"), "log": log}

    def _turn(
        self, name: str, events: int, *, count: int = 0, share: int = 0, threads: int = 1
    ) -> Turn:
        settings = self._settings(name, events)
        again = uuid.uuid4().hex
        settings["archiver"] = {"group": again}
        settings["archive"] = {"kind": "folder", "path": str(self.folder / again / "archive")}
        return Turn(
            settings=settings,
            events=count or events,
            share=share,
            lines=str(self._lines(events)),
            output=str(self.folder / f"{again}.parquet"),
            threads=threads,
        )

    def _run(self, name: str, *turns: Turn) -> list[Took]:
        """Let programs begin together and leave together."""
        running = [_start(name, turn) for turn in turns]
        for _ in ("begun", "done"):
            for one in running:
                assert one.stdout is not None  # noqa: S101  # it is a pipe
                one.stdout.readline()
            for one in running:
                _tell(one, b"")
        return [_finished(one) for one in running]


def _start(name: str, turn: Turn) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603  # this very program
        [sys.executable, "-m", "benchmarks.archive", "--worker", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    _tell(process, msgspec.json.encode(turn))
    return process


def _tell(process: subprocess.Popen[bytes], what: bytes) -> None:
    assert process.stdin is not None  # noqa: S101  # it is a pipe
    with suppress(BrokenPipeError):  # it says why itself
        process.stdin.write(what + b"\n")
        process.stdin.flush()


async def _append(settings: dict[str, object], events: Sequence[AnyEvent]) -> None:
    event_log = wiring.open_log(Settings.model_validate(settings), partition="bench")
    for start in range(0, len(events), _BATCH):
        await event_log.append(events[start : start + _BATCH])
    await event_log.close()


def _finished(process: subprocess.Popen[bytes]) -> Took:
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    said = process.stdout.read()
    if process.wait() != 0:
        raise ChildProcessError("a turn failed")
    return msgspec.json.decode(said, type=Took)


def compare(options: argparse.Namespace, bench: Bench) -> dict[str, dict[int, list[list[Took]]]]:
    """Let everybody take turns, several times, at each size."""
    programs = {
        "archiver": bench.archivers,
        "two archivers": bench.pair,
        **(bench.on_kafka() if bench.servers else {}),
        "(reading the log)": bench.reading,
        "DuckDB, one thread": bench.duckdb,
        "DuckDB, two threads": bench.duckdb_pair,
    }
    found: dict[str, dict[int, list[list[Took]]]] = {name: {} for name in programs}
    for events in options.events:
        bench.prepare(events)
        for number in range(options.rounds):
            for name, program in programs.items():
                print(f"{events} events, round {number + 1}: {name}", file=sys.stderr)
                found[name].setdefault(events, []).append(program(events))
    return found


def table(found: dict[str, dict[int, list[list[Took]]]], events: int) -> str:
    """Show medians and their spread at one size."""
    peer = _cpu(found["DuckDB, one thread"][events])
    heads = f"{'':22}{'events/s':>26}{'cores':>7}{'CPU us/event':>22}"
    lines = [f"{heads}{'x DuckDB':>10}{'bytes/event':>13}"]
    for name, sizes in found.items():
        turns = sizes[events]
        rates = [_rate(turn) for turn in turns]
        costs = [_of_all(turn) for turn in turns]
        cores = [sum(one.cpu_seconds for one in turn) / _seconds(turn) for turn in turns]
        written = _written(turns[0]) / events
        ratio = _cpu(turns) / peer
        lines.append(
            f"{name:22}{_spread(rates):>26}{statistics.median(cores):>7.2f}"
            f"{_spread(costs):>22}{ratio:>10.2f}{written:>13.0f}"
        )
    return "\n".join(lines)


def memory(found: dict[str, dict[int, list[list[Took]]]]) -> str:
    """Show the most memory that a process had, by how many events it archived."""
    sizes = list(found["archiver"])
    lines = [f"{'peak MiB':22}" + "".join(f"{size:>12}" for size in sizes)]
    for name in ("archiver", "archiver, Kafka", "two archivers, Kafka", "DuckDB, one thread"):
        if name in found:
            peaks = [max(one.peak_bytes for turn in found[name][size] for one in turn)
                     for size in sizes]  # fmt: skip
            lines.append(f"{name:22}" + "".join(f"{peak / 2**20:>12.0f}" for peak in peaks))
    return "\n".join(lines)


def _rate(turn: Sequence[Took]) -> float:
    return sum(one.events for one in turn) / _seconds(turn)


def _seconds(turn: Sequence[Took]) -> float:
    return max(one.ended for one in turn) - min(one.began for one in turn)


def _written(turn: Sequence[Took]) -> int:
    return sum({one.output: one.written_bytes for one in turn}.values())


def _of_all(turn: Sequence[Took]) -> float:
    return sum(one.cpu_seconds for one in turn) / sum(one.events for one in turn) * 1e6


def _cpu(turns: Sequence[Sequence[Took]]) -> float:
    return statistics.median(_of_all(turn) for turn in turns)


def _spread(numbers: Sequence[float]) -> str:
    digits = 0 if numbers[0] >= 1_000 else 1
    middle = statistics.median(numbers)
    return f"{middle:.{digits}f} ({min(numbers):.{digits}f}-{max(numbers):.{digits}f})"


@contextmanager
def _kafka(folder: Path) -> Iterator[str]:
    home = os.environ.get("KAFKA_HOME")
    if not home:
        yield ""
        return
    broker = Broker(Path(home), folder / "kafka")
    try:
        broker.start()
        yield broker.bootstrap_servers
    finally:
        broker.stop()


def main() -> None:
    """Compare, and print tables; or take one turn."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.archive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=int, nargs="+", default=[50_000, 100_000, 200_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every turn's figures to this file")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logs.set_up()
    if options.worker:
        turn = msgspec.json.decode(sys.stdin.buffer.readline(), type=Turn)
        sys.stdout.buffer.write(msgspec.json.encode(WORKERS[options.worker](turn)))
        return
    if min(options.events) < 4 * WARM_UP:
        parser.error(f"--events: expected at least {4 * WARM_UP}, to have a warm-up")
    end_on_sigterm()
    with tempfile.TemporaryDirectory() as name, _kafka(Path(name)) as servers:
        found = compare(options, Bench(Path(name), servers))
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the end")
    for events in options.events:
        print(f"\n{events} events\n{table(found, events)}")
    print(f"\n{memory(found)}")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
