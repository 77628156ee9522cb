"""The embedded log: partitions of segment files in folders, no broker.

    {root}/{topic}/{partition}/00000000000000000000.seg

A partition has one writing process, which holds its lock; readers take none.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path

import msgspec

from feedbackloop.errors import LogUnavailable, MalformedEvent
from feedbackloop.events import Alias, AnyEvent
from feedbackloop.log import codec, reader, segment
from feedbackloop.log.folder import LocalDisk
from feedbackloop.log.frames import MAX_PAYLOAD_BYTES
from feedbackloop.log.port import Entry, Frame, Offset, SpoolGap
from feedbackloop.log.size import refuse_larger
from feedbackloop.log.thread import Group, Nobody, Pending, WriterThread
from feedbackloop.log.writer import Writer

EVENTS = "feedbackloop.events"
RELEASES = "feedbackloop.releases"
_IDENTITY = "identity"
# What a thread reads at a time: each hand-over costs as much as ten records.
_BATCH = 2_000
_BATCH_BYTES = 4 * 2**20
_EVENT_BYTES = 8 * 2**10


class _Place(Nobody):
    """Looks whether readers find what is written."""

    def __init__(self, disk: LocalDisk) -> None:
        self._disk = disk

    def check(self) -> None:
        self._disk.check()


class Partition:
    """The writing end of one partition: awaitable, many callers at once, one sync for all."""

    def __init__(
        self, disk: LocalDisk, *, producer: str, segment_bytes: int, now_ns: Callable[[], int]
    ) -> None:
        disk.lock()
        _identify(disk, producer)
        self._disk = disk
        self._now_ns = now_ns
        self._seq = 0
        writer = Writer(disk, producer=producer, segment_bytes=segment_bytes)
        writer.open()
        self._thread = WriterThread(writer, name=f"log-{producer[:8]}", aside=_Place(disk))
        self._thread.start()

    async def append(self, payloads: Sequence[bytes]) -> list[int]:
        """Store records in order; return their positions once all are on disk."""
        if not payloads:
            return []
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[list[int]] = loop.create_future()
        now, first = self._now_ns(), self._seq
        self._seq += len(payloads)
        records = [
            Pending(seq=seq, at_ns=now, payload=payload)
            for seq, payload in enumerate(payloads, first)
        ]
        self._thread.hand_over(Group(records=records, durable=True, told=_waker(loop, stored)))
        return await stored

    def close(self) -> None:
        """Write and sync what is queued, and let another process write."""
        self._thread.close()
        self._disk.unlock()


def _identify(disk: LocalDisk, producer: str) -> None:
    """Name a new partition after the incarnation that made it."""
    if _IDENTITY in disk.names():
        return
    unfinished = _IDENTITY + ".tmp"
    disk.remove(unfinished)
    handle = disk.create(unfinished)
    try:
        disk.write(handle, producer.encode(), 0)
        disk.sync(handle)
    finally:
        disk.close(handle)
    disk.replace(unfinished, _IDENTITY)
    disk.sync_folder()


def _waker(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[list[int]]
) -> Callable[[Sequence[int], Exception | None], None]:
    def settle(positions: Sequence[int], error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(list(positions))
        else:
            future.set_exception(error)

    def told(positions: Sequence[int], error: Exception | None) -> None:
        # A loop that has closed has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, positions, error)

    return told


class Topic:
    """The partitions of one topic, and the one that this process writes, if any.

    Args:
        root: Folder of the log.
        name: Of the topic.
        partition: The one to write, or None to read only.
        producer: Incarnation of this process.
        segment_bytes: Size at which a segment is sealed.
        now_ns: The clock.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        partition: str | None,
        producer: str,
        segment_bytes: int,
        now_ns: Callable[[], int],
    ) -> None:
        self._folder = root / name
        self.own = partition
        self._partition: Partition | None = None
        if partition is not None:
            self._partition = Partition(
                self.disk(partition),
                producer=producer,
                segment_bytes=segment_bytes,
                now_ns=now_ns,
            )

    def disk(self, partition: str) -> LocalDisk:
        """Return one partition's folder."""
        return LocalDisk(self._folder / partition)

    def partitions(self) -> list[str]:
        """Name the partitions that exist, sorted."""
        if not self._folder.exists():
            return []
        return sorted(path.name for path in self._folder.iterdir() if path.is_dir())

    async def append(self, payloads: Sequence[bytes]) -> tuple[str, list[int]]:
        """Store records; return the partition and their positions."""
        if self._partition is None or self.own is None:
            raise LogUnavailable("this log was opened to be read: it has no partition to write")
        return self.own, await self._partition.append(payloads)

    def identity(self, partition: str) -> str:
        """Name one partition for ever.

        Raises:
            LogUnavailable: If no process has opened it to write yet.
        """
        found = self.disk(partition).read(_IDENTITY, 0, 64).decode("ascii", "replace")
        if not found:
            raise LogUnavailable(f"partition {partition} was not opened by its writer yet")
        return found

    def records(self, partition: str, *, after: int) -> Iterator[Frame | SpoolGap]:
        """Yield what one partition holds past a position."""
        return reader.read(self.disk(partition), after=after)

    def close(self) -> None:
        """Release what is held. Safe to call twice."""
        if self._partition is not None:
            self._partition.close()
        self._partition = None


class SegmentEventLog:
    """Events in segment files."""

    def __init__(self, topic: Topic, *, max_event_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self._topic = topic
        self._max_event_bytes = max_event_bytes

    async def append(self, events: Sequence[AnyEvent]) -> Sequence[Offset]:
        encoded = [codec.encode(one) for one in events]
        fitting = [one for one in encoded if len(one) <= self._max_event_bytes]
        partition, positions = await self._topic.append(fitting)
        refuse_larger(encoded, max_event_bytes=self._max_event_bytes)
        return [Offset(partition, position) for position in positions]

    async def partitions(self) -> Sequence[str]:
        return await asyncio.to_thread(self._topic.partitions)

    async def read(self, *, after: Offset) -> AsyncIterator[Entry]:
        records = self._topic.records(after.partition, after=after.position)
        while batch := await asyncio.to_thread(_take, records):
            for record in batch:
                yield _entry(after.partition, record)

    async def identity(self, partition: str) -> str:
        return await asyncio.to_thread(self._topic.identity, partition)

    async def beginning(self, partition: str) -> Offset:
        position = await asyncio.to_thread(reader.beginning, self._topic.disk(partition))
        return Offset(partition, position)

    async def end(self, partition: str) -> Offset:
        position = await asyncio.to_thread(reader.end, self._topic.disk(partition))
        return Offset(partition, position)

    async def recent(self, partition: str, *, entries: int) -> Offset:
        disk = self._topic.disk(partition)
        end = await asyncio.to_thread(reader.end, disk)
        # Positions count bytes, and an event rarely has more of them than this.
        start = end - entries * _EVENT_BYTES
        return Offset(partition, await asyncio.to_thread(reader.record_at, disk, start))

    async def truncate(self, *, before: Offset) -> None:
        await asyncio.to_thread(discard, self._topic.disk(before.partition), before.position)

    async def close(self) -> None:
        await asyncio.to_thread(self._topic.close)


def _take(records: Iterator[Frame | SpoolGap]) -> list[Frame | SpoolGap]:
    taken: list[Frame | SpoolGap] = []
    size = 0
    for record in islice(records, _BATCH):
        taken.append(record)
        size += len(record.payload) if isinstance(record, Frame) else 0
        if size >= _BATCH_BYTES:
            break
    return taken


def _entry(partition: str, record: Frame | SpoolGap) -> Entry:
    offset = Offset(partition, record.position)
    if isinstance(record, Frame):
        return Entry(offset=offset, event=codec.read(record.payload), raw=record.payload)
    lost = f"records {record.first} to {record.last} of {record.producer} are {record.reason}"
    return Entry(offset=offset, event=MalformedEvent(lost), raw=b"")


def discard(disk: LocalDisk, before: int) -> None:
    """Remove the segments that hold nothing from position ``before`` on, but never the last."""
    names = reader.segments(disk)
    for name, following in pairwise(names):
        if segment.base(following) > before:
            break
        disk.remove(name)
    disk.sync_folder()


class _Published(msgspec.Struct, frozen=True, kw_only=True):
    alias: Alias
    epoch: int
    document: msgspec.Raw


class SegmentReleaseTopic:
    """Release documents in segment files; each look reads only what is new."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._seen: dict[str, int] = {}
        self._newest: dict[Alias, _Published] = {}

    async def publish(self, alias: Alias, document: bytes, *, epoch: int) -> None:
        record = _Published(alias=alias, epoch=epoch, document=msgspec.Raw(document))
        await self._topic.append([msgspec.json.encode(record)])

    async def latest(self) -> Mapping[Alias, bytes]:
        await asyncio.to_thread(self._catch_up)
        return {alias: bytes(one.document) for alias, one in self._newest.items()}

    async def close(self) -> None:
        await asyncio.to_thread(self._topic.close)

    def _catch_up(self) -> None:
        for partition in self._topic.partitions():
            for record in self._topic.records(partition, after=self._seen.get(partition, -1)):
                self._seen[partition] = record.position
                if isinstance(record, Frame):
                    self._take(msgspec.json.decode(record.payload, type=_Published))

    def _take(self, one: _Published) -> None:
        known = self._newest.get(one.alias)
        if known is None or one.epoch > known.epoch:
            # Raw is a view of the whole frame: copied, so that the frame can go.
            self._newest[one.alias] = msgspec.structs.replace(one, document=one.document.copy())
