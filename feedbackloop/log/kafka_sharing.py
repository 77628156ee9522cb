"""Partitions shared by a consumer group. Nothing is read by it: whoever reads keeps the offsets."""

from collections.abc import Iterable, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from feedbackloop.errors import LogUnavailable
from feedbackloop.log.kafka_client import Cluster, Link, explain, open_member
from feedbackloop.log.kafka_names import name, number
from feedbackloop.log.port import Offset
from feedbackloop.log.worker import Worker

_POLL_MS = 50
_COMMIT_MS = 5_000


class GroupSharing:
    """This process as a member of a consumer group.

    Its committed offsets are what was archived: whoever watches groups sees the lag.

    Args:
        cluster: Where Kafka is.
        topic: Of events.
        group: Name of the group.
    """

    def __init__(self, cluster: Cluster, topic: str, *, group: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._group = group
        self._consumer: Any = None
        self._link = Link()
        self._worker = Worker("kafka-share")

    async def mine(self) -> Sequence[str]:
        return await self._worker.call(self._assigned)

    async def reached(self, last: Offset) -> None:
        await self._worker.call(self._commit, last)

    async def close(self) -> None:
        await self._worker.call(self._leave)
        self._worker.close()

    def _assigned(self) -> list[str]:
        """Take part in the group, and name what it gave us."""
        try:
            if self._consumer is None:
                self._link = Link()
                self._consumer = open_member(self._cluster, self._link, group=self._group)
                self._consumer.subscribe([self._topic], listener=_Paused(self._consumer))
            self._consumer.poll(timeout_ms=_POLL_MS)
            return sorted(name(one.partition) for one in self._consumer.assignment())
        except kafka_errors.KafkaError as error:
            trouble = self._link.trouble() or error
            self._drop()
            raise explain(self._cluster, trouble) from error

    def _commit(self, last: Offset) -> None:
        place = TopicPartition(self._topic, number(last.partition))
        try:
            if self._consumer is not None and place in self._consumer.assignment():
                offset = OffsetAndMetadata(last.position + 1, "", -1)
                self._consumer.commit({place: offset}, timeout_ms=_COMMIT_MS)
        except (kafka_errors.KafkaError, LogUnavailable):
            # Only a dashboard misses it: the next one says more anyway.
            return

    def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(autocommit=False)

    def _drop(self) -> None:
        """Let go of a consumer that failed."""
        try:
            self._leave()
        except kafka_errors.KafkaError:
            return


class _Paused(ConsumerRebalanceListener):  # type: ignore[misc]  # the library is not typed
    """Fetches nothing of what is assigned."""

    def __init__(self, consumer: Any) -> None:  # noqa: ANN401  # the library is not typed
        self._consumer = consumer

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Keep the consumer from reading them."""
        self._consumer.pause(*assigned)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Let them go: what was read of them and not published is read again by others."""
