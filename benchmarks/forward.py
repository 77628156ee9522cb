"""What it costs to forward an event to Kafka, beside three plain clients.

    KAFKA_HOME=folder python -m benchmarks.forward [--events N] [--rounds N] [--json FILE]

Each client sends the same events of about 1.5 kB to one Kafka, from appended to acknowledged by all
replicas, idempotent, batches and compression alike. Each turn is a process of its own: CPU is that
of all its threads, measured after a warm-up. The plain clients are handed bytes. Ours is handed
events, in batches as the sidecar's forwarder makes them, and encodes them. What the forwarder does
before, which is to parse, redact and hash a record, is measured apart.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import msgspec

from feedbackloop.capture import record
from feedbackloop.capture.attribution import Attribution
from feedbackloop.capture.identity import TenantKeys
from feedbackloop.capture.record import Closed, Opened
from feedbackloop.events import (
    BASE,
    Alias,
    AnyEvent,
    Arm,
    CompletionId,
    ConversationId,
    Outcome,
    TenantId,
    UserId,
)
from feedbackloop.log import codec
from feedbackloop.log.key import key
from feedbackloop.log.port import Frame
from services.sidecar.forwarder import Translator
from tests.apache_kafka import Broker

PARTITIONS = 4
BATCH = 500  # as the forwarder reads them from the spool
BATCH_BYTES = 128 * 2**10
LINGER_MS = 50
TURNS = 4  # of a conversation
WARM_UP = 4_000
TENANT = TenantId("default")
KEYS = TenantKeys(
    current="k001",
    receipts={"k001": b"r" * 32},
    pseudonym=b"p" * 32,
    chain=b"c" * 32,
    holdout=b"h" * 32,
)
WORDS = (
    "the model answers a question about orders that were shipped to another address and asks"
    " whether to send the parcel again or to pay the price back within a few days"
)


class Sent(msgspec.Struct):
    """What one turn of a client took.

    Attributes:
        cpu_us: CPU microseconds an event, of all threads.
        per_second: Events acknowledged a second.
    """

    cpu_us: float
    per_second: float


def frames(count: int) -> list[Frame]:
    """Make records as the sidecar's hot path writes them, two for each event."""
    random = Random(1)
    made = []
    for number in range(count):
        opened, closed = _exchange(random, number)
        for half in (opened, closed):
            made.append(
                Frame(
                    position=len(made),
                    producer="bench",
                    seq=len(made),
                    at=_moment(number),
                    payload=record.encode(half),
                )
            )
    return made


def translated(given: Sequence[Frame]) -> list[AnyEvent]:
    """Do what the forwarder does before it appends."""
    translator = Translator({TENANT: KEYS}, Attribution(), lambda _payload, _reason: None)
    return [event for frame in given for event in translator.events(frame)]


def feedbackloop(servers: str, topic: str, compression: str, count: int) -> Sent:
    """Append events as the forwarder does."""
    from feedbackloop.log.kafka import KafkaEventLog  # noqa: PLC0415  # one client a process
    from feedbackloop.log.kafka_client import Cluster  # noqa: PLC0415
    from feedbackloop.log.kafka_writer import Terms  # noqa: PLC0415

    events = translated(frames(count + WARM_UP))
    cluster = Cluster(bootstrap_servers=servers, client_id="bench")
    codec_name = None if compression == "none" else compression
    terms = Terms(ack_seconds=60, linger_seconds=LINGER_MS / 1_000, compression=codec_name)

    async def run() -> Sent:
        log = KafkaEventLog(cluster, terms, topic=topic)
        try:
            for start in range(0, WARM_UP, BATCH):
                await log.append(events[start : start + BATCH])
            began = _clocks()
            for start in range(WARM_UP, len(events), BATCH):
                await log.append(events[start : start + BATCH])
            return _sent(began, len(events) - WARM_UP)
        finally:
            await log.close()

    return asyncio.run(run())


def kafka_python(servers: str, topic: str, compression: str, count: int) -> Sent:
    """Send bytes with kafka-python's producer."""
    from kafka import KafkaProducer  # noqa: PLC0415

    producer = KafkaProducer(
        bootstrap_servers=servers,
        acks="all",
        enable_idempotence=True,
        linger_ms=LINGER_MS,
        batch_size=BATCH_BYTES,
        compression_type=None if compression == "none" else compression,
        metrics_enabled=False,
    )

    def send(messages: Sequence[tuple[bytes, bytes]]) -> None:
        sent = [producer.send(topic, key=name, value=value) for name, value in messages]
        producer.flush()
        for one in sent:
            one.get(0)

    return _turn(send, count)


def confluent(servers: str, topic: str, compression: str, count: int) -> Sent:
    """Send bytes with confluent-kafka's producer, which is C."""
    from confluent_kafka import Producer  # noqa: PLC0415

    producer = Producer(
        {
            "bootstrap.servers": servers,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "compression.type": compression,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    failed: list[object] = []

    def delivered(error: object, _message: object) -> None:
        if error is not None:
            failed.append(error)

    def send(messages: Sequence[tuple[bytes, bytes]]) -> None:
        for name, value in messages:
            producer.produce(topic, key=name, value=value, on_delivery=delivered)
            producer.poll(0)
        producer.flush()
        if failed:
            raise RuntimeError(str(failed[0]))

    return _turn(send, count)


def aiokafka(servers: str, topic: str, compression: str, count: int) -> Sent:
    """Send bytes with aiokafka's producer."""
    from aiokafka import AIOKafkaProducer  # noqa: PLC0415

    messages = _messages(count + WARM_UP)

    async def send(producer: AIOKafkaProducer, some: Sequence[tuple[bytes, bytes]]) -> None:
        sent = [await producer.send(topic, key=name, value=value) for name, value in some]
        for one in sent:
            await one

    async def run() -> Sent:
        producer = AIOKafkaProducer(
            bootstrap_servers=servers,
            acks="all",
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            compression_type=None if compression == "none" else compression,
        )
        await producer.start()
        try:
            await send(producer, messages[:WARM_UP])
            began = _clocks()
            await send(producer, messages[WARM_UP:])
            return _sent(began, count)
        finally:
            await producer.stop()

    return asyncio.run(run())


def preparing(_servers: str, _topic: str, _compression: str, count: int) -> Sent:
    """Do what comes before, and send nothing: parse, redact, hash, look for retries."""
    given = frames(count + WARM_UP)
    translated(given[: 2 * WARM_UP])
    began = _clocks()
    events = translated(given[2 * WARM_UP :])
    return _sent(began, len(events))


def encoding(_servers: str, _topic: str, _compression: str, count: int) -> Sent:
    """Write events as bytes, and send nothing; part of what ours takes."""
    events = translated(frames(count))
    began = _clocks()
    for event in events:
        key(event)
        codec.encode(event)
    return _sent(began, len(events))


CLIENTS: dict[str, Callable[[str, str, str, int], Sent]] = {
    "kafka-python": kafka_python,
    "feedbackloop": feedbackloop,
    "aiokafka": aiokafka,
    "confluent-kafka": confluent,
    "(preparing)": preparing,
    "(encoding)": encoding,
}


def compare(options: argparse.Namespace, servers: str) -> dict[str, list[Sent]]:
    """Let every client take its turn, several times."""
    from feedbackloop.log.kafka_client import Cluster  # noqa: PLC0415
    from feedbackloop.log.kafka_topics import create_topics  # noqa: PLC0415
    from feedbackloop.log.topics import events_plan  # noqa: PLC0415

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
            found[name].append(_apart(options, name, servers, topic))
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


def _apart(options: argparse.Namespace, name: str, servers: str, topic: str) -> Sent:
    """Run one turn in a process of its own."""
    done = subprocess.run(  # noqa: S603  # this very program
        [
            *(sys.executable, "-m", "benchmarks.forward", "--turn", name),
            *("--servers", servers, "--topic", topic),
            *("--events", str(options.events), "--compression", options.compression),
        ],
        check=True,
        stdout=subprocess.PIPE,
        timeout=300,
    )
    return msgspec.json.decode(done.stdout, type=Sent)


def _turn(send: Callable[[Sequence[tuple[bytes, bytes]]], None], count: int) -> Sent:
    messages = _messages(count + WARM_UP)
    send(messages[:WARM_UP])
    began = _clocks()
    send(messages[WARM_UP:])
    return _sent(began, count)


def _messages(count: int) -> list[tuple[bytes, bytes]]:
    return [(key(event), codec.encode(event)) for event in translated(frames(count))]


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _sent(began: tuple[float, float], count: int) -> Sent:
    cpu, now = _clocks()
    return Sent(cpu_us=(cpu - began[0]) / count * 1e6, per_second=count / (now - began[1]))


def _moment(number: int) -> datetime:
    return datetime.fromtimestamp(1_772_625_600 + number, UTC)


def _exchange(random: Random, number: int) -> tuple[Opened, Closed]:
    at_ns = (1_772_625_600 + number) * 10**9
    name = CompletionId(f"chatcmpl-{number:024d}")
    asked = " ".join(random.choices(WORDS.split(), k=60))
    said = " ".join(random.choices(WORDS.split(), k=70))
    user = UserId(f"{number // TURNS:032x}")
    body = {"model": "assistant", "messages": [{"role": "user", "content": asked}]}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": said},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 70, "completion_tokens": 80, "total_tokens": 150}
    opened = Opened(
        completion_id=name,
        tenant=TENANT,
        conversation=ConversationId(f"{number // TURNS:016x}"),
        user=user,
        endpoint="chat",
        alias=Alias("assistant"),
        assigned=BASE,
        release=BASE,
        release_seq=0,
        arm=Arm.STABLE,
        propensity=1.0,
        epoch=0,
        body=msgspec.json.encode(body),
        headers={},
        accepted_ns=at_ns,
    )
    closed = Closed(
        completion_id=name,
        release=BASE,
        release_seq=0,
        status=200,
        streamed=False,
        body=msgspec.json.encode({"choices": [choice], "usage": usage}),
        first_token_ns=at_ns + 10**8,
        ended_ns=at_ns + 10**9,
        outcome=Outcome.COMPLETE,
    )
    return opened, closed


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
    parser.add_argument("--turn", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--topic", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        turn = CLIENTS[options.turn]
        sent = turn(options.servers, options.topic, options.compression, options.events)
        sys.stdout.buffer.write(msgspec.json.encode(sent))
        return
    if options.servers:
        _report(options, compare(options, options.servers))
        return
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(os.environ["KAFKA_HOME"]), Path(folder))
        broker.start()
        try:
            _report(options, compare(options, broker.bootstrap_servers))
        finally:
            broker.stop()


def _report(options: argparse.Namespace, found: dict[str, list[Sent]]) -> None:
    (event,) = translated(frames(1))
    size = len(codec.encode(event))
    print(f"{options.events} events of {size} bytes, {options.compression} compression")
    print(table(found))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
