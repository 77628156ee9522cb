"""Records into one topic of Kafka, in order, whatever happens to the client.

The library's producer is good as long as nothing goes wrong for good. A batch that fails for good
lets those behind it overtake it, and most such failures leave the producer unusable. So the first
one ends it, on its own thread and before it sends anything else; a new producer is opened, and
what was not acknowledged is sent again in its order. Duplicates carry equal event ids.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from kafka import errors as kafka_errors
from kafka.partitioner import murmur2

from feedbackloop.errors import EventsRefused, LogUnavailable
from feedbackloop.log.kafka_client import Cluster, Link, explain, open_producer
from feedbackloop.log.kafka_topics import trouble_with

_LOOK_SECONDS = 0.25
_END_SECONDS = 5.0
_DIAGNOSE_SECONDS = 15.0
_BATCH_BYTES = 128 * 2**10
_FRAMING_BYTES = 128
"""More than what a record and its batch add to key and value."""

_OWN_FAULT = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.InvalidRecordError,
)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How records are written.

    Attributes:
        ack_seconds: How long an append waits before it reports the log as unavailable.
        rebuild_seconds: How long nothing is acknowledged before the client is thrown away.
        window_bytes: Most bytes handed to the client and not acknowledged.
        max_message_bytes: A larger record is refused.
        linger_seconds: How long the client waits for a fuller batch.
        compression: Kafka's word, or None.
    """

    ack_seconds: float = 5.0
    rebuild_seconds: float = 180.0
    window_bytes: int = 8 * 2**20
    max_message_bytes: int = 12 * 2**20
    linger_seconds: float = 0.05
    compression: str | None = "zstd"


class Outgoing:
    """A record on its way, and what became of it.

    Attributes:
        name: Two records of one name are the same record.
        alone: Whether it is sent by itself, because a batch with it was refused.
        partition: Where it is going, once it was handed to the client.
        position: Where it is; -1 until it is acknowledged.
        refused: Why Kafka will never take it; empty if it is not known that it will not.
    """

    __slots__ = ("alone", "future", "key", "name", "partition", "position", "refused", "value")

    def __init__(self, name: str, key: bytes, value: bytes | None) -> None:
        self.name = name
        self.key = key
        self.value = value
        self.future: Any = None
        self.alone = False
        self.partition = -1
        self.position = -1
        self.refused = ""

    def size(self) -> int:
        """Return how many bytes it takes on the way."""
        return len(self.key) + len(self.value or b"") + _FRAMING_BYTES

    def settled(self) -> bool:
        """Say whether nothing more will happen to it."""
        return self.position >= 0 or self.refused != ""


class _Client:
    """One producer, from its opening to its first failure.

    Raises:
        LogUnavailable: If no broker lets us in.
    """

    def __init__(self, cluster: Cluster, terms: Terms) -> None:
        self.link = Link()
        self.failure: BaseException | None = None
        self.producer = open_producer(
            cluster,
            self.link,
            linger_ms=round(terms.linger_seconds * 1_000),
            batch_size=_BATCH_BYTES,
            compression_type=terms.compression,
            max_request_size=terms.max_message_bytes + 2**20,
        )

    def send(self, topic: str, one: Outgoing) -> None:
        """Hand a record over."""
        one.future = self.producer.send(
            topic, value=one.value, key=one.key, partition=one.partition
        )
        one.future.add_errback(self._fail)

    def wait(self) -> None:
        """Let it send what it has, without its usual wait for more, and look a little later."""
        with contextlib.suppress(kafka_errors.KafkaError):
            self.producer.flush(_LOOK_SECONDS)

    def end(self, seconds: float) -> None:
        """End its thread, whatever it thinks of its state."""
        if seconds and self.failure is None:
            # Out of time it raises, and leaves its thread running.
            with contextlib.suppress(kafka_errors.KafkaError):
                self.producer.close(seconds)
        sender = self.producer._sender  # noqa: SLF001  # there is no public way
        self._force_close()
        if sender.is_alive():
            self.link.cut()
        sender.join(_END_SECONDS)
        with contextlib.suppress(kafka_errors.KafkaError):
            self.producer.close(0)

    def _fail(self, error: BaseException) -> None:
        """Stop before anything is sent that comes after a record that failed for good.

        Called on the client's thread, before it looks for more to send.
        """
        if self.failure is None:
            self.failure = error
            self._force_close()

    def _force_close(self) -> None:
        self.producer._sender.force_close()  # noqa: SLF001  # there is no public way


class KafkaWriter:
    """One topic's records. Every method but ``stop`` belongs to one thread.

    Args:
        clock: Seconds that only grow.
        on_rebuild: Told, in a word, why a client was thrown away.
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        terms: Terms,
        *,
        clock: Callable[[], float],
        on_rebuild: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._terms = terms
        self._clock = clock
        self._on_rebuild = on_rebuild
        self._waiting: dict[str, Outgoing] = {}
        self._client: _Client | None = None
        self._moved_at = clock()
        self._stopping = threading.Event()
        self._diagnosis: tuple[float, LogUnavailable | None] | None = None

    def deliver(self, records: Sequence[Outgoing]) -> list[Outgoing]:
        """Return the records once all are acknowledged.

        One that an earlier call gave up waiting for is waited for again, not sent again.

        Raises:
            EventsRefused: If Kafka will never take some of them.
            LogUnavailable: If the time ran out.
        """
        mine = self._admit(records)
        until = self._clock() + self._terms.ack_seconds
        cause: LogUnavailable | None = None
        while not all(one.settled() for one in mine):
            if self._stopping.is_set():
                cause = LogUnavailable("this log is closing", reason="closing")
                break
            if self._clock() >= until:
                break
            cause = self._push()
            if cause is not None:
                self._stopping.wait(_LOOK_SECONDS)
        self._answer(mine, cause)
        return mine

    def stop(self) -> None:
        """Let a delivery that is under way end now. From any thread."""
        self._stopping.set()

    def close(self) -> None:
        """End the client and its thread."""
        self._end_client(0 if self._waiting else self._terms.ack_seconds)

    def _admit(self, records: Iterable[Outgoing]) -> list[Outgoing]:
        if not self._waiting:
            self._moved_at = self._clock()
        mine = [self._waiting.setdefault(one.name, one) for one in records]
        named = {one.name for one in mine}
        for old in [one for one in self._waiting.values() if one.settled()]:
            if old.name not in named:
                del self._waiting[old.name]
        for one in mine:
            if not one.settled() and one.size() > self._terms.max_message_bytes:
                one.refused = "too_large"
        return mine

    def _answer(self, mine: Sequence[Outgoing], cause: LogUnavailable | None) -> None:
        """Forget what is reported, and report it."""
        if not all(one.settled() for one in mine):
            stored = 0
            # A refused one is reported when all the others are stored: until then it stays.
            while mine[stored].position >= 0:
                self._waiting.pop(mine[stored].name, None)
                stored += 1
            cause = cause or self._diagnose()
            raise LogUnavailable(str(cause), reason=cause.reason, stored=stored) from cause
        for one in mine:
            self._waiting.pop(one.name, None)
        refused = {place: one.refused for place, one in enumerate(mine) if one.refused}
        if refused:
            limit = self._terms.max_message_bytes
            raise EventsRefused(refused, why=f"max_message_bytes is {limit}; see the topic's too")

    def _push(self) -> LogUnavailable | None:
        """Send what may be sent and look what became of it; return why nothing can be sent."""
        if self._clock() - self._moved_at > self._terms.rebuild_seconds:
            self._moved_at = self._clock()
            self._start_over("no_acknowledgement")
        try:
            client = self._client = self._client or _Client(self._cluster, self._terms)
            self._send(client)
        except LogUnavailable as error:
            return error
        except kafka_errors.KafkaTimeoutError as error:
            return self._diagnose(error)
        except kafka_errors.KafkaError as error:
            # A client that was ended while we sent says so: what ended it is the cause.
            if client.failure is None:
                return explain(self._cluster, error)
        client.wait()
        self._collect()
        return None if client.failure is None else self._recover(client.failure)

    def _send(self, client: _Client) -> None:
        """Hand over what comes next, as far as the window reaches."""
        partitions = sorted(client.producer.partitions_for(self._topic))
        for one in self._next():
            one.partition = partitions[_bucket(one.key) % len(partitions)]
            client.send(self._topic, one)

    def _next(self) -> Iterator[Outgoing]:
        used = 0
        for one in list(self._waiting.values()):
            if one.settled():
                continue
            if one.future is None:
                if used and (one.alone or used + one.size() > self._terms.window_bytes):
                    return
                yield one
            used += one.size()
            if one.alone:
                return

    def _collect(self) -> None:
        """Take over what was acknowledged."""
        for one in self._waiting.values():
            future = one.future
            if future is not None and future.is_done and future.exception is None:
                one.position = future.value.offset
                one.value = one.future = None
                self._moved_at = self._clock()

    def _recover(self, failure: BaseException) -> LogUnavailable | None:
        """Make ready to send again what a client that failed did not deliver."""
        own_fault = isinstance(failure, _OWN_FAULT)
        self._start_over("refused" if own_fault else "failed")
        return None if own_fault else explain(self._cluster, failure)

    def _start_over(self, why: str) -> None:
        """Throw the client away; what it did not deliver is sent again, in order."""
        self._end_client(0)
        self._collect()
        for one in self._waiting.values():
            error = None if one.future is None else one.future.exception
            one.future = None
            if isinstance(error, _OWN_FAULT):
                if one.alone:
                    large = not isinstance(error, kafka_errors.InvalidRecordError)
                    one.refused, one.value = ("too_large" if large else "refused"), None
                one.alone = True
        self._on_rebuild(why)

    def _end_client(self, seconds: float) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.end(seconds)

    def _diagnose(self, error: BaseException | None = None) -> LogUnavailable:
        """Ask Kafka itself what is wrong, now and then; a timeout alone says nothing."""
        now = self._clock()
        if self._diagnosis is None or now - self._diagnosis[0] >= _DIAGNOSE_SECONDS:
            self._diagnosis = (now, trouble_with(self._cluster, self._topic))
        known = self._diagnosis[1]
        if known is not None:
            return known
        trouble = (self._client and self._client.link.trouble()) or error
        if trouble is not None:
            return explain(self._cluster, trouble)
        return LogUnavailable(
            f"Kafka at {self._cluster.bootstrap_servers} did not acknowledge in"
            f" {self._terms.ack_seconds:g} s"
        )


@lru_cache(maxsize=8_192)
def _bucket(key: bytes) -> int:
    """Hash a key as Kafka's own clients do. Cached: in Python it costs as much as the sending."""
    return int(murmur2(key)) & 0x7FFFFFFF
