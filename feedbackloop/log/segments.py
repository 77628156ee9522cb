"""The embedded log: partitions of segment files in folders, no broker.

    {root}/{topic}/{partition}/00000000000000000000.seg

A partition has one writing process, which holds its lock; readers take none.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path

import msgspec

from feedbackloop.errors import LogUnavailable, MalformedEvent, SettingsError
from feedbackloop.events import Alias, AnyEvent
from feedbackloop.log import codec, reader, segment
from feedbackloop.log.frames import MAX_PAYLOAD_BYTES
from feedbackloop.log.port import Entry, Frame, Offset, SpoolGap
from feedbackloop.log.size import refuse_larger
from feedbackloop.log.spool import SpoolLimits, SpoolQueue, behind_bytes
from feedbackloop.log.thread import Group, Nobody, Pending, WriterThread
from feedbackloop.log.writer import Writer

EVENTS = "feedbackloop.events"
RELEASES = "feedbackloop.releases"
_LOCK = "lock"
_IDENTITY = "identity"
_BATCH = 256
_EVENT_BYTES = 8 * 2**10


class LocalDisk:
    """One folder of this machine, with a lock for its writer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locked: int | None = None

    def lock(self) -> None:
        """Become the folder's one writer, and make the folder if need be.

        Raises:
            SettingsError: If another process is it already.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(handle)
            raise SettingsError(
                f"{self._folder} is written by process {owner}: give this one a name of its own"
            ) from error
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        self._locked = handle

    def unlock(self) -> None:
        """Let another process write. Safe to call twice."""
        if self._locked is not None:
            os.close(self._locked)
        self._locked = None

    def names(self) -> Sequence[str]:
        try:
            return [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []

    def create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        return os.open(self._folder / name, flags, 0o600)

    def reserve(self, handle: int, size: int) -> None:
        os.posix_fallocate(handle, 0, size)

    def open(self, name: str) -> int:
        return os.open(self._folder / name, os.O_WRONLY)

    def write(self, handle: int, data: bytes, at: int) -> int:
        return os.pwrite(handle, data, at)

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def sync(self, handle: int) -> None:
        os.fdatasync(handle)

    def sync_folder(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def size(self, name: str) -> int:
        return (self._folder / name).stat().st_size

    def read(self, name: str, start: int, length: int) -> bytes:
        # Removed since it was listed: whoever needed it would have been told by its successor.
        with contextlib.suppress(FileNotFoundError), (self._folder / name).open("rb") as file:
            file.seek(start)
            return file.read(length)
        return b""

    def replace(self, source: str, target: str) -> None:
        (self._folder / source).replace(self._folder / target)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)


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
        self._thread = WriterThread(writer, name=f"log-{producer[:8]}", aside=Nobody())
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
    return list(islice(records, _BATCH))


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


def open_spool(
    folder: Path, *, producer: str, limits: SpoolLimits, now_ns: Callable[[], int]
) -> SpoolQueue:
    """Open the spool of one process in a folder of its own."""
    disk = LocalDisk(folder)
    disk.lock()
    spool = SpoolQueue(disk, producer=producer, limits=limits, now_ns=now_ns, closed=disk.unlock)
    spool.start()
    return spool


def spool_behind_bytes(folder: Path) -> int:
    """Say how much of a spool is not yet in the log; 0 where there is none."""
    return behind_bytes(LocalDisk(folder)) if folder.is_dir() else 0
