"""What it costs to forward an event to Kafka, beside three plain clients.

    KAFKA_HOME=folder python -m benchmarks.forward [--events N] [--rounds N] [--json FILE]

Each client sends the same events of about 1.5 kB to one Kafka, from appended to acknowledged by all
replicas, idempotent, batches and compression alike. Each turn is a process of its own: CPU is that
of all its threads, measured after a warm-up. The plain clients are handed bytes. Ours is handed
events, in batches as the sidecar's forwarder makes them, and encodes them. What the forwarder does
before, which is to parse, redact and hash a record, is measured apart.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.forward.clients import CLIENTS, WARM_UP, Sent, Turn
from benchmarks.forward.events import many, translation_us
from feedbackloop.log import codec
from feedbackloop.log.kafka_client import Cluster
from feedbackloop.log.kafka_topics import create_topics
from feedbackloop.log.topics import events_plan
from tests.apache_kafka import Broker

PARTITIONS = 4
TRANSLATED = 4_000


def compare(options: argparse.Namespace, servers: str, events: Path) -> dict[str, list[Sent]]:
    """Let every client take its turn, several times."""
    found: dict[str, list[Sent]] = {name: [] for name in options.only}
    for number in range(options.rounds):
        for name in options.only:
            topic = f"bench-{uuid.uuid4().hex}"
            plan = events_plan(
                topic,
                partitions=PARTITIONS,
                replication=1,
                kept_seconds=86_400,
                max_message_bytes=2**20,
            )
            create_topics(Cluster(bootstrap_servers=servers, client_id="bench"), [plan])
            print(f"round {number + 1} of {options.rounds}: {name}", file=sys.stderr)
            turn = Turn(servers, topic, options.compression, str(events))
            found[name].append(_apart(name, turn))
    return found


def table(found: dict[str, list[Sent]]) -> str:
    """Show medians, their spread, and what they are beside plain kafka-python's."""
    peer = found.get("kafka-python")
    lines = [f"{'':18}{'CPU us/event':>22}{'events/s':>22}{'times kafka-python':>20}"]
    for name, turns in found.items():
        ratio = ""
        if peer:
            ratio = f"{_median_cpu(turns) / _median_cpu(peer):.2f}"
        cpu = _spread([one.cpu_us for one in turns])
        rate = _spread([one.per_second for one in turns])
        lines.append(f"{name:18}{cpu:>22}{rate:>22}{ratio:>20}")
    return "\n".join(lines)


def _apart(name: str, turn: Turn) -> Sent:
    """Let a client take a turn in a process of its own."""
    done = subprocess.run(  # noqa: S603  # this very program
        [sys.executable, "-m", "benchmarks.forward", "--client", name],
        input=msgspec.json.encode(turn),
        check=True,
        stdout=subprocess.PIPE,
        timeout=300,
    )
    return msgspec.json.decode(done.stdout, type=Sent)


def _median_cpu(turns: Sequence[Sent]) -> float:
    return statistics.median(one.cpu_us for one in turns)


def _spread(numbers: Sequence[float]) -> str:
    digits = 0 if numbers[0] >= 1_000 else 1
    middle = statistics.median(numbers)
    return f"{middle:.{digits}f} ({min(numbers):.{digits}f}-{max(numbers):.{digits}f})"


def main() -> None:
    """Compare, and print a table; or take one turn."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forward",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compression", choices=["none", "gzip", "zstd"], default="zstd")
    parser.add_argument("--only", nargs="+", choices=CLIENTS, default=list(CLIENTS))
    parser.add_argument("--servers", help="a Kafka that runs; without it KAFKA_HOME is started")
    parser.add_argument("--json", type=Path, help="write every round's figures to this file")
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    # Ended from outside, it ends the Kafka that it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if options.client:
        turn = msgspec.json.decode(sys.stdin.buffer.read(), type=Turn)
        sys.stdout.buffer.write(msgspec.json.encode(CLIENTS[options.client](turn)))
        return
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.jsonl"
        lines = (codec.encode(one) for one in many(options.events + WARM_UP))
        events.write_bytes(b"\n".join(lines))
        if options.servers:
            _report(options, compare(options, options.servers, events))
            return
        broker = Broker(Path(os.environ["KAFKA_HOME"]), Path(folder) / "kafka")
        broker.start()
        try:
            _report(options, compare(options, broker.bootstrap_servers, events))
        finally:
            broker.stop()


def _report(options: argparse.Namespace, found: dict[str, list[Sent]]) -> None:
    (event,) = many(1)
    size = len(codec.encode(event))
    print(f"{options.events} events of {size} bytes, {options.compression} compression")
    print(table(found))
    bare = translation_us(TRANSLATED, redacted=False)
    whole = translation_us(TRANSLATED, redacted=True)
    print(f"before that, CPU us/event: {bare:.0f} to parse, hash and attribute")
    print(f"{whole - bare:27.0f} to redact")
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
