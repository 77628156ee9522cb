"""The log and the topic of releases on Kafka.

Partition 3 of the topic of events is called ``events-3``, and an entry's position is its offset.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec

from feedbackloop.errors import LogUnavailable
from feedbackloop.events import Alias, AnyEvent
from feedbackloop.log import codec
from feedbackloop.log.kafka_client import Cluster
from feedbackloop.log.kafka_names import name as _name
from feedbackloop.log.kafka_names import number as _number
from feedbackloop.log.kafka_reader import Bounds, KafkaReader, Record
from feedbackloop.log.kafka_topics import identity
from feedbackloop.log.kafka_writer import KafkaWriter, Outgoing, Terms
from feedbackloop.log.key import key
from feedbackloop.log.port import Entry, Offset
from feedbackloop.log.worker import Worker

EVENTS = "feedbackloop.events"
RELEASES = "feedbackloop.releases"


class KafkaEventLog:
    """Events in one topic of Kafka, keyed by tenant and conversation.

    Nothing is opened before it is used, so that a process starts without Kafka. One thread writes
    and one reads, each with a client of its own.
    """

    def __init__(
        self,
        cluster: Cluster,
        terms: Terms,
        *,
        topic: str = EVENTS,
        clock: Callable[[], float] = time.monotonic,
        on_rebuild: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._topic = _Topic(cluster, terms, topic, clock=clock, on_rebuild=on_rebuild)

    async def append(self, events: Sequence[AnyEvent]) -> Sequence[Offset]:
        sent = await self._topic.deliver(
            [Outgoing(one.event_id, key(one), codec.encode(one)) for one in events]
        )
        return [Offset(_name(one.partition), one.position) for one in sent]

    async def partitions(self) -> Sequence[str]:
        return sorted(_name(number) for number in await self._topic.partitions())

    async def read(self, *, after: Offset) -> AsyncIterator[Entry]:
        async for one in self._topic.read(_number(after.partition), after.position):
            yield Entry(
                offset=Offset(after.partition, one.position),
                event=codec.read(one.value or b""),
                raw=one.value or b"",
            )

    async def identity(self, partition: str) -> str:
        return await self._topic.identity(_number(partition))

    async def beginning(self, partition: str) -> Offset:
        bounds = await self._topic.bounds(_number(partition))
        return Offset(partition, bounds.first - 1)

    async def end(self, partition: str) -> Offset:
        bounds = await self._topic.bounds(_number(partition))
        return Offset(partition, bounds.end - 1)

    async def recent(self, partition: str, *, entries: int) -> Offset:
        bounds = await self._topic.bounds(_number(partition))
        return Offset(partition, max(bounds.first, bounds.end - entries) - 1)

    async def truncate(self, *, before: Offset) -> None:
        await self._topic.remove(_number(before.partition), before.position)

    async def close(self) -> None:
        await self._topic.close()


class _Published(msgspec.Struct, frozen=True, kw_only=True):
    alias: Alias
    epoch: int
    document: msgspec.Raw


class KafkaReleaseTopic:
    """Release documents in a compacted topic, each under the key of its alias and its epoch.

    Compaction keeps the last record of a key, not the highest epoch: under the alias alone, a
    leader that slept and published its old document last would make Kafka forget the newer one.
    So each document has a key of its own, and whoever publishes removes those with lower epochs.
    """

    def __init__(
        self,
        cluster: Cluster,
        terms: Terms,
        *,
        topic: str = RELEASES,
        clock: Callable[[], float] = time.monotonic,
        on_rebuild: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._topic = _Topic(cluster, terms, topic, clock=clock, on_rebuild=on_rebuild)
        self._seen: dict[int, int] = {}
        self._held: dict[Alias, dict[int, bytes]] = {}

    async def publish(self, alias: Alias, document: bytes, *, epoch: int) -> None:
        await self._catch_up()
        held = self._held.get(alias, {})
        if any(known >= epoch for known in held):
            return
        record = _Published(alias=alias, epoch=epoch, document=msgspec.Raw(document))
        name = _release_key(alias, epoch)
        # First the new one: between the two, a reader that starts must not find none.
        await self._topic.deliver([Outgoing(name, name.encode(), msgspec.json.encode(record))])
        old = [_release_key(alias, known) for known in held if known < epoch]
        await self._topic.deliver([Outgoing(f"-{one}", one.encode(), None) for one in old])

    async def latest(self) -> Mapping[Alias, bytes]:
        await self._catch_up()
        return {alias: held[max(held)] for alias, held in self._held.items() if held}

    async def close(self) -> None:
        await self._topic.close()

    async def _catch_up(self) -> None:
        try:
            await self._read_on()
        except LogUnavailable as error:
            if error.reason != "removed":
                raise
            # The topic was made anew: what it said before is not what it says.
            self._seen, self._held = {}, {}
            await self._read_on()

    async def _read_on(self) -> None:
        for partition in await self._topic.partitions():
            after = self._seen.get(partition, -1)
            async for record in self._topic.read(partition, after):
                self._seen[partition] = record.position
                self._take(record)

    def _take(self, record: Record) -> None:
        alias, _, epoch = (record.key or b"").decode().rpartition("/")
        held = self._held.setdefault(Alias(alias), {})
        if record.value is None:
            held.pop(int(epoch), None)
        else:
            one = msgspec.json.decode(record.value, type=_Published)
            held[one.epoch] = bytes(one.document)


class _Topic:
    """One topic, written and read: the two clients behind their two threads."""

    def __init__(
        self,
        cluster: Cluster,
        terms: Terms,
        topic: str,
        *,
        clock: Callable[[], float],
        on_rebuild: Callable[[str], None],
    ) -> None:
        self._writer = KafkaWriter(cluster, topic, terms, clock=clock, on_rebuild=on_rebuild)
        self._reader = KafkaReader(cluster, topic, patience_seconds=terms.ack_seconds, clock=clock)
        self._writing = Worker("kafka-write")
        self._reading = Worker("kafka-read")
        self._cluster = cluster
        self._name = topic

    async def deliver(self, records: Sequence[Outgoing]) -> Sequence[Outgoing]:
        return await self._writing.call(self._writer.deliver, records)

    async def partitions(self) -> Sequence[int]:
        return await self._reading.call(self._reader.partitions)

    async def identity(self, partition: int) -> str:
        return await self._reading.call(identity, self._cluster, self._name, partition)

    async def bounds(self, partition: int) -> Bounds:
        return await self._reading.call(self._reader.bounds, partition)

    async def read(self, partition: int, after: int) -> AsyncIterator[Record]:
        bounds = await self.bounds(partition)
        if 0 <= after < bounds.first - 1:
            raise LogUnavailable(
                f"what followed position {after} was removed up to {bounds.first}", reason="removed"
            )
        if after >= bounds.end:
            raise LogUnavailable(
                f"position {after} of {self._name} is past its end {bounds.end}: it was cut, or"
                " removed and made anew",
                reason="removed",
            )
        position = max(after + 1, bounds.first)
        while position < bounds.end:
            records = await self._reading.call(
                self._reader.take, partition, position, end=bounds.end
            )
            for one in records:
                yield one
            position = records[-1].position + 1 if records else bounds.end

    async def remove(self, partition: int, before: int) -> None:
        await self._reading.call(self._reader.remove, partition, before)

    async def close(self) -> None:
        # What is being written would otherwise be waited for.
        self._writer.stop()
        await self._writing.call(self._writer.close)
        await self._reading.call(self._reader.close)
        self._writing.close()
        self._reading.close()


def _release_key(alias: Alias, epoch: int) -> str:
    return f"{alias}/{epoch:012d}"
