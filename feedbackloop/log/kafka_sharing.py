"""Partitions shared by a consumer group. Nothing is read by it: whoever reads keeps the offsets."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from feedbackloop.errors import LogUnavailable
from feedbackloop.log.kafka_client import Cluster, Link, explain, open_member
from feedbackloop.log.kafka_names import name, number
from feedbackloop.log.port import Offset
from feedbackloop.log.worker import Worker

_JOIN_MS = 3_000
_COMMIT_MS = 1_000
_ASK_SECONDS = 0.2


class GroupSharing:
    """This process as a member of a consumer group.

    Taking part takes attention all the time: to join, and to hear that others have. So it is a task
    of its own, whatever else the process does. Its committed offsets are what was archived: whoever
    watches groups sees the lag.

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
        self._member: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._mine: Sequence[str] = ()
        self._trouble: LogUnavailable | None = None
        self._reached: dict[str, int] = {}

    async def mine(self) -> Sequence[str]:
        if self._member is None:
            self._member = asyncio.create_task(self._take_part())
        await self._heard.wait()
        if self._member.done():
            member, self._member = self._member, None
            member.result()
        if self._trouble is not None:
            raise self._trouble
        return self._mine

    async def reached(self, last: Offset) -> None:
        self._reached[last.partition] = last.position

    async def close(self) -> None:
        member, self._member = self._member, None
        if member is not None:
            member.cancel()
        await self._worker.call(self._commit)
        await self._worker.call(self._leave)
        self._worker.close()

    async def _take_part(self) -> None:
        """Ask for this member's partitions, for ever."""
        try:
            while True:
                try:
                    self._mine = await self._worker.call(self._assigned)
                    self._trouble = None
                except LogUnavailable as error:
                    self._trouble = error
                self._heard.set()
                await self._worker.call(self._commit)
                await asyncio.sleep(_ASK_SECONDS)
        finally:
            self._heard.set()

    def _assigned(self) -> list[str]:
        """Take part in the group, and name what it gave us."""
        try:
            if self._consumer is None:
                self._link = Link()
                self._consumer = open_member(self._cluster, self._link, group=self._group)
                self._consumer.subscribe([self._topic])
            # Not the consumer's poll, which would read, and returns late although it has joined.
            coordinator = self._consumer._coordinator  # noqa: SLF001  # there is no public way
            joined = coordinator.poll(timeout_ms=_JOIN_MS)
            if joined and coordinator.rebalance_in_progress() and not coordinator.need_rejoin():
                # A join that took longer than it was waited for can be forgotten half way.
                self._leave()
                return []
            return sorted(name(one.partition) for one in self._consumer.assignment())
        except kafka_errors.KafkaError as error:
            trouble = self._link.trouble() or error
            self._leave()
            raise explain(self._cluster, trouble) from error

    def _commit(self) -> None:
        """Say what is archived; if it cannot be said now, the next one says more anyway."""
        if self._consumer is None or not self._consumer._coordinator.stable():  # noqa: SLF001
            return
        own = self._consumer.assignment()
        offsets = {
            place: OffsetAndMetadata(position + 1, "", -1)
            for partition, position in self._reached.items()
            if (place := TopicPartition(self._topic, number(partition))) in own
        }
        if offsets:
            with contextlib.suppress(kafka_errors.KafkaError):
                self._consumer.commit(offsets, timeout_ms=_COMMIT_MS)
                self._reached.clear()

    def _leave(self) -> None:
        """Leave the group, if there is anybody to be told."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(kafka_errors.KafkaError):
                consumer.close(autocommit=False)
