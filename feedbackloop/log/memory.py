"""Log and store in this process: reference, and test double. They last for as long as it lives."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from feedbackloop.errors import LogUnavailable, StoreUnavailable
from feedbackloop.events import Alias, AnyEvent
from feedbackloop.log import codec
from feedbackloop.log.marks import Life
from feedbackloop.log.port import Entry, EventLog, Frame, Offset, SpoolGap, Stored
from feedbackloop.log.size import refuse_larger

NOON = datetime(2000, 1, 1, 12, tzinfo=UTC)


class MemoryEventLog:
    """Events in lists of bytes, by partition. Share ``store`` to be several processes."""

    def __init__(
        self,
        partition: str | None = "memory",
        store: dict[str, list[bytes]] | None = None,
        *,
        max_event_bytes: int = 64 * 2**20,
    ) -> None:
        self.store: dict[str, list[bytes]] = {} if store is None else store
        self._partition = partition
        self._max_event_bytes = max_event_bytes
        self._removed: dict[str, int] = {}
        self.identities: dict[str, str] = {}
        """Set one to make its partition anew."""
        self.away = False
        """Set to be unavailable for a while."""

    async def append(self, events: Sequence[AnyEvent]) -> Sequence[Offset]:
        if self.away or self._partition is None:
            raise LogUnavailable("this log cannot be written now")
        encoded = [codec.encode(event) for event in events]
        records = self.store.setdefault(self._partition, [])
        start = len(records)
        records.extend(one for one in encoded if len(one) <= self._max_event_bytes)
        refuse_larger(encoded, max_event_bytes=self._max_event_bytes)
        return [Offset(self._partition, position) for position in range(start, len(records))]

    async def partitions(self) -> Sequence[str]:
        return sorted(self.store)

    async def read(self, *, after: Offset) -> AsyncIterator[Entry]:
        records = self.store.get(after.partition, [])
        removed = self._removed.get(after.partition, 0)
        if 0 <= after.position < removed - 1:
            raise LogUnavailable(f"what followed position {after.position} was removed")
        for position in range(max(after.position + 1, removed), len(records)):
            raw = records[position]
            offset = Offset(after.partition, position)
            yield Entry(offset=offset, event=codec.read(raw), raw=raw)

    async def identity(self, partition: str) -> str:
        if self.away or partition not in self.store:
            raise LogUnavailable(f"there is no partition {partition} now")
        return self.identities.get(partition, f"{partition}-0")

    async def beginning(self, partition: str) -> Offset:
        return Offset(partition, self._removed.get(partition, 0) - 1)

    async def end(self, partition: str) -> Offset:
        return Offset(partition, len(self.store.get(partition, [])) - 1)

    async def recent(self, partition: str, *, entries: int) -> Offset:
        end = await self.end(partition)
        first = self._removed.get(partition, 0)
        return Offset(partition, max(first - 1, end.position - entries))

    async def truncate(self, *, before: Offset) -> None:
        self._removed[before.partition] = max(0, before.position)

    async def close(self) -> None:
        pass


class MemoryReleaseTopic:
    """The newest document of each alias in a dictionary."""

    def __init__(self, store: dict[Alias, tuple[int, bytes]] | None = None) -> None:
        self.store: dict[Alias, tuple[int, bytes]] = {} if store is None else store

    async def publish(self, alias: Alias, document: bytes, *, epoch: int) -> None:
        if epoch > self.store.get(alias, (-1, b""))[0]:
            self.store[alias] = (epoch, document)

    async def latest(self) -> Mapping[Alias, bytes]:
        return {alias: document for alias, (_, document) in self.store.items()}

    async def close(self) -> None:
        pass


class MemorySpool:
    """Raw records in a list; tells at once.

    ``refusing`` makes it a full disk, ``nearly_full`` one that soon is.
    """

    producer = "memory"

    def __init__(self, *, clock: Callable[[], datetime] = lambda: NOON) -> None:
        self.refusing = self.nearly_full = False
        self._clock = clock
        self._entries: list[Frame | SpoolGap] = []
        self._seq = 0
        self._through = -1
        self._arrived = threading.Condition()

    def offer(
        self,
        payload: bytes,
        *,
        durable: bool,
        written: Callable[[Exception | None], None] | None = None,
    ) -> None:
        del durable
        error = self._store(payload)
        if written is not None:
            written(error)

    def offer_all(
        self,
        payloads: Sequence[bytes],
        *,
        written: Callable[[Sequence[Exception | None]], None],
    ) -> None:
        written([self._store(payload) for payload in payloads])

    def read(self, *, after: int) -> Iterator[Frame | SpoolGap]:
        yield from [one for one in self._entries if one.position > max(after, self._through)]

    def wait(self, *, after: int, timeout_seconds: float) -> bool:
        with self._arrived:
            return self._arrived.wait_for(lambda: len(self._entries) - 1 > after, timeout_seconds)

    def release(self, *, through: int) -> None:
        self._through = max(self._through, through)

    def released(self) -> int:
        return self._through

    def is_nearly_full(self, adding: int) -> bool:
        del adding
        return self.nearly_full

    @property
    def refusal(self) -> Exception | None:
        return LogUnavailable("the spool refuses") if self.refusing else None

    def troubles(self) -> Mapping[tuple[str, str], int]:
        gaps = sum(isinstance(one, SpoolGap) for one in self._entries)
        return {("shed", "refused"): gaps} if gaps else {}

    def behind_bytes(self) -> int:
        behind = [one for one in self._entries if one.position > self._through]
        return sum(len(one.payload) for one in behind if isinstance(one, Frame))

    def close(self) -> None:
        pass

    def _store(self, payload: bytes) -> Exception | None:
        with self._arrived:
            seq, now, position = self._seq, self._clock(), len(self._entries)
            self._seq += 1
            if self.refusing:
                self._entries.append(
                    SpoolGap(
                        position=position,
                        producer=self.producer,
                        first=seq,
                        last=seq,
                        reason="refused",
                        first_at=now,
                        last_at=now,
                    )
                )
                return LogUnavailable("the spool refuses")
            self._entries.append(
                Frame(position=position, producer=self.producer, seq=seq, at=now, payload=payload)
            )
            self._arrived.notify_all()
            return None


class MemoryMark:
    """A mark in this process."""

    def __init__(self, marks: dict[str, Life], producer: str) -> None:
        self._marks = marks
        self._producer = producer

    def give(self, following: int) -> None:
        self._marks[self._producer] = replace(self._marks[self._producer], given=following)

    def wrote(self, following: int) -> None:
        self._marks[self._producer] = replace(self._marks[self._producer], written=following)

    def remove(self) -> None:
        self._marks.pop(self._producer, None)


class MemoryMarks:
    """Marks in a dictionary: of one process, after others that had the same ``marks`` and died."""

    def __init__(self, marks: dict[str, Life] | None = None) -> None:
        self.marks: dict[str, Life] = {} if marks is None else marks
        self._own: set[str] = set()

    def begin(self, producer: str) -> MemoryMark:
        self._own.add(producer)
        self.marks[producer] = Life(producer=producer, given=0, written=0)
        return MemoryMark(self.marks, producer)

    def dead(self) -> Sequence[Life]:
        return [one for name, one in sorted(self.marks.items()) if name not in self._own]

    def remove(self, producer: str) -> None:
        self.marks.pop(producer, None)


class MemoryStore:
    """Objects in a dictionary. Share ``objects`` to be several processes."""

    name = "memory"

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects: dict[str, bytes] = {} if objects is None else objects
        self._one_at_a_time = threading.Lock()
        self.away = False
        """Set to be unavailable for a while."""

    def create(self, key: str, data: bytes) -> bool:
        self._check()
        with self._one_at_a_time:
            created = key not in self.objects
            self.objects.setdefault(key, data)
        return created

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        self._check()
        found = self.objects.get(key)
        end = None if length is None else start + length
        return None if found is None else found[start:end]

    def list(self, prefix: str) -> Sequence[Stored]:
        self._check()
        inside = prefix.rstrip("/") + "/" if prefix else ""
        return sorted(Stored(k, len(v)) for k, v in self.objects.items() if k.startswith(inside))

    def remove(self, key: str) -> None:
        self._check()
        self.objects.pop(key, None)

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("this store does not answer now")


class AllPartitions:
    """Sharing with nobody."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log

    async def mine(self) -> Sequence[str]:
        return await self._log.partitions()

    async def reached(self, last: Offset) -> None:
        pass

    async def close(self) -> None:
        pass
