"""One topic of Kafka, read without a group: whoever reads keeps the offsets."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import msgspec
from kafka import TopicPartition
from kafka import errors as kafka_errors

from feedbackloop.errors import LogUnavailable
from feedbackloop.log.kafka_client import Cluster, Link, admin, explain, open_consumer
from feedbackloop.log.kafka_topics import trouble_with

_POLL_MS = 500
_BATCH = 2_000


class Record(msgspec.Struct, frozen=True):
    """A record as it lies in a partition; ``value`` is None where it removes its key."""

    position: int
    key: bytes | None
    value: bytes | None


class Bounds(msgspec.Struct, frozen=True):
    """What a partition holds now: positions from ``first`` on, and before ``end``."""

    first: int
    end: int


class KafkaReader:
    """One topic's partitions. Every method belongs to one thread.

    Args:
        patience_seconds: How long an answer may take.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        *,
        patience_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._consumer: Any = None
        self._link = Link()
        self._at: tuple[int, int] | None = None

    def partitions(self) -> list[int]:
        """Return the numbers of the partitions there are.

        Raises:
            LogUnavailable: If the topic is not there, or no broker answers.
        """
        with self._consuming() as consumer:
            found = sorted(consumer.partitions_for_topic(self._topic))
        if not found:
            raise self._why()
        return found

    def bounds(self, partition: int) -> Bounds:
        """Return what a partition holds.

        Raises:
            LogUnavailable: If it is not there, or its leader does not answer.
        """
        place = TopicPartition(self._topic, partition)
        wait_ms = round(self._patience_seconds * 1_000)
        with self._consuming() as consumer:
            end = consumer.end_offsets([place], timeout_ms=wait_ms)[place]
            first = consumer.beginning_offsets([place], timeout_ms=wait_ms)[place]
        return Bounds(first, end)

    def take(self, partition: int, position: int, *, end: int) -> list[Record]:
        """Return some records from ``position`` on and before ``end``; wait for the first.

        An empty list says that there are none: compaction may have taken the last ones.

        Raises:
            LogUnavailable: If retention has removed the position, or no leader answers.
        """
        place = TopicPartition(self._topic, partition)
        until = self._clock() + self._patience_seconds
        with self._consuming() as consumer:
            self._seek(consumer, place, position)
            while self._clock() < until:
                found = consumer.poll(timeout_ms=_POLL_MS, max_records=_BATCH).get(place, [])
                if found:
                    self._at = (partition, found[-1].offset + 1)
                    records = [Record(one.offset, one.key, one.value) for one in found]
                    return [one for one in records if one.position < end]
                if (consumer.position(place, timeout_ms=_POLL_MS) or 0) >= end:
                    return []
        raise self._why()

    def remove(self, partition: int, before: int) -> None:
        """Let everything before a position be removed.

        Raises:
            LogUnavailable: If it was not, and why.
        """
        with admin(self._cluster) as client:
            client.delete_records({TopicPartition(self._topic, partition): before})

    def close(self) -> None:
        """End the client."""
        consumer, self._consumer, self._at = self._consumer, None, None
        if consumer is not None:
            consumer.close(autocommit=False)

    def _seek(self, consumer: Any, place: TopicPartition, position: int) -> None:  # noqa: ANN401  # untyped
        if self._at is None or self._at[0] != place.partition:
            consumer.assign([place])
            self._at = None
        if self._at != (place.partition, position):
            consumer.seek(place, position)

    @contextmanager
    def _consuming(self) -> Generator[Any]:
        """Lend the consumer; one that failed is not used again."""
        try:
            if self._consumer is None:
                self._link = Link()
                self._consumer = open_consumer(self._cluster, self._link)
            yield self._consumer
        except kafka_errors.OffsetOutOfRangeError as error:
            self.close()
            raise LogUnavailable(
                f"what was asked for of {self._topic} was removed, or never there",
                reason="removed",
            ) from error
        except kafka_errors.KafkaTimeoutError as error:
            raise self._why() from error
        except kafka_errors.KafkaError as error:
            self.close()
            raise explain(self._cluster, error) from error

    def _why(self) -> LogUnavailable:
        """Say why nothing comes, and use another client next time."""
        trouble = self._link.trouble()
        self.close()
        if trouble is not None:
            return explain(self._cluster, trouble)
        known = trouble_with(self._cluster, self._topic)
        return known or LogUnavailable(
            f"Kafka at {self._cluster.bootstrap_servers} did not answer in"
            f" {self._patience_seconds:g} s"
        )
