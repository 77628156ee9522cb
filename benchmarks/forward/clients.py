"""The clients that are compared, each taking one turn: what it is given, and what it took."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from benchmarks.forward.events import frames, translated
from feedbackloop.log import codec
from feedbackloop.log.key import key

BATCH = 500  # as the forwarder reads them from the spool
BATCH_BYTES = 128 * 2**10
LINGER_MS = 50
WARM_UP = 4_000
PREPARED = 5_000


class Turn(msgspec.Struct):
    """What a client is given.

    Attributes:
        events: A file with an event a line, as bytes go to Kafka; the first ones are to warm up.
    """

    servers: str
    topic: str
    compression: str
    events: str

    def encoded(self) -> list[bytes]:
        """Return the events as bytes."""
        return Path(self.events).read_bytes().splitlines()

    def messages(self) -> list[tuple[bytes, bytes]]:
        """Return keys and values, as plain clients are handed them."""
        return [(key(codec.decode(one)), one) for one in self.encoded()]


class Sent(msgspec.Struct):
    """What one turn of a client took.

    Attributes:
        cpu_us: CPU microseconds an event, of all threads.
        per_second: Events acknowledged a second.
    """

    cpu_us: float
    per_second: float


def feedbackloop(turn: Turn) -> Sent:
    """Append events as the forwarder does."""
    from feedbackloop.log.kafka import KafkaEventLog  # noqa: PLC0415  # one client a process
    from feedbackloop.log.kafka_client import Cluster  # noqa: PLC0415  # as above
    from feedbackloop.log.kafka_writer import Terms  # noqa: PLC0415  # as above

    events = [codec.decode(one) for one in turn.encoded()]
    cluster = Cluster(bootstrap_servers=turn.servers, client_id="bench")
    codec_name = None if turn.compression == "none" else turn.compression
    terms = Terms(ack_seconds=60, linger_seconds=LINGER_MS / 1_000, compression=codec_name)

    async def run() -> Sent:
        log = KafkaEventLog(cluster, terms, topic=turn.topic)
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


def kafka_python(turn: Turn) -> Sent:
    """Send bytes with kafka-python's producer."""
    from kafka import KafkaProducer  # noqa: PLC0415  # one client a process

    producer = KafkaProducer(
        bootstrap_servers=turn.servers,
        acks="all",
        enable_idempotence=True,
        linger_ms=LINGER_MS,
        batch_size=BATCH_BYTES,
        compression_type=None if turn.compression == "none" else turn.compression,
        metrics_enabled=False,
    )

    def send(messages: Sequence[tuple[bytes, bytes]]) -> None:
        sent = [producer.send(turn.topic, key=name, value=value) for name, value in messages]
        producer.flush()
        for one in sent:
            one.get(0)

    return _timed(send, turn.messages())


def confluent(turn: Turn) -> Sent:
    """Send bytes with confluent-kafka's producer, which is C."""
    from confluent_kafka import Producer  # noqa: PLC0415  # one client a process

    producer = Producer(
        {
            "bootstrap.servers": turn.servers,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "compression.type": turn.compression,
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
            producer.produce(turn.topic, key=name, value=value, on_delivery=delivered)
            producer.poll(0)
        producer.flush()
        if failed:
            raise RuntimeError(str(failed[0]))

    return _timed(send, turn.messages())


def aiokafka(turn: Turn) -> Sent:
    """Send bytes with aiokafka's producer."""
    from aiokafka import AIOKafkaProducer  # noqa: PLC0415  # one client a process

    messages = turn.messages()

    async def send(producer: AIOKafkaProducer, some: Sequence[tuple[bytes, bytes]]) -> None:
        sent = [await producer.send(turn.topic, key=name, value=value) for name, value in some]
        for one in sent:
            await one

    async def run() -> Sent:
        producer = AIOKafkaProducer(
            bootstrap_servers=turn.servers,
            acks="all",
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            compression_type=None if turn.compression == "none" else turn.compression,
        )
        await producer.start()
        try:
            await send(producer, messages[:WARM_UP])
            began = _clocks()
            await send(producer, messages[WARM_UP:])
            return _sent(began, len(messages) - WARM_UP)
        finally:
            await producer.stop()

    return asyncio.run(run())


def preparing(turn: Turn) -> Sent:
    """Do what comes before, and send nothing: parse, redact, hash, look for retries."""
    given = frames(PREPARED + 1_000)
    del turn
    translated(given[:2_000])
    began = _clocks()
    events = translated(given[2_000:])
    return _sent(began, len(events))


def encoding(turn: Turn) -> Sent:
    """Write events as bytes, and send nothing; part of what ours takes."""
    events = [codec.decode(one) for one in turn.encoded()]
    began = _clocks()
    for event in events:
        key(event)
        codec.encode(event)
    return _sent(began, len(events))


CLIENTS: dict[str, Callable[[Turn], Sent]] = {
    "kafka-python": kafka_python,
    "feedbackloop": feedbackloop,
    "aiokafka": aiokafka,
    "confluent-kafka": confluent,
    "(preparing)": preparing,
    "(encoding)": encoding,
}


def _timed(
    send: Callable[[Sequence[tuple[bytes, bytes]]], None], messages: Sequence[tuple[bytes, bytes]]
) -> Sent:
    send(messages[:WARM_UP])
    began = _clocks()
    send(messages[WARM_UP:])
    return _sent(began, len(messages) - WARM_UP)


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _sent(began: tuple[float, float], count: int) -> Sent:
    cpu, now = _clocks()
    return Sent(cpu_us=(cpu - began[0]) / count * 1e6, per_second=count / (now - began[1]))
