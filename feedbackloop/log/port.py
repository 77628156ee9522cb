"""What the loop asks of the log, of the spool before it, and of the topic of releases."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from feedbackloop.errors import RecordError
from feedbackloop.events import Alias, AnyEvent


class Offset(msgspec.Struct, frozen=True, order=True):
    """A place in one partition. ``position`` is -1 before the first entry."""

    partition: str
    position: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One record of the log.

    Attributes:
        offset: Where it stands.
        event: What it says; or why it cannot be read here, so that a reader counts it.
        raw: The bytes as stored: fields that a newer writer added survive in them.
    """

    offset: Offset
    event: AnyEvent | RecordError
    raw: bytes


class EventLog(Protocol):
    """Events in append-only partitions; a conversation never leaves its own.

    Every implementation keeps these promises, and ``tests/contracts/test_event_log.py``
    holds it to them:

    - An event that ``append`` returned from survives a restart of this process.
    - ``read`` yields a partition's entries in append order, each at least once.
    - Offsets grow strictly within their partition, but may have gaps.
    - A record that cannot be decoded is yielded with its error, never skipped in silence.
    - Readers take no lock and never disturb a writer.
    """

    async def append(self, events: Sequence[AnyEvent]) -> Sequence[Offset]:
        """Store ``events`` in their order and return their places, once all are durable.

        Two events of one conversation stay in their order through every failure and retry: whoever
        drops the second of two equal event ids reads them as they were appended.

        Raises:
            EventsRefused: If the log will never take some of them, for their own sake; all others
                are durable. To retry these would be in vain.
            LogUnavailable: If the log did not confirm in time. Its ``stored`` counts the events
                at the front that are durable: a caller retries those behind them. Any of these
                may or may not have been stored, so a retry can write them twice.
        """
        ...

    async def partitions(self) -> Sequence[str]:
        """Name the partitions that exist now, sorted; new ones may appear at any time."""
        ...

    def read(self, *, after: Offset) -> AsyncIterator[Entry]:
        """Yield what the partition of ``after`` holds now, from just past it, then stop.

        Raises:
            LogUnavailable: If entries after the offset were already removed by retention:
                a reader must know that it missed something.
        """
        ...

    async def identity(self, partition: str) -> str:
        """Name a partition for ever: one that was made anew under its old name has another.

        Raises:
            LogUnavailable: If there is no such partition yet, or the log does not answer.
        """
        ...

    async def beginning(self, partition: str) -> Offset:
        """Return the place just before the oldest entry that is still there.

        Its position is -1 if nothing was ever removed. Whoever read up to an earlier place has
        missed something.
        """
        ...

    async def end(self, partition: str) -> Offset:
        """Return the place of the partition's last entry, or position -1 if it is empty."""
        ...

    async def recent(self, partition: str, *, entries: int) -> Offset:
        """Return a place past which about the last ``entries`` entries stand, or all there are.

        To read from it misses nothing that retention left.
        """
        ...

    async def truncate(self, *, before: Offset) -> None:
        """Allow everything before ``before`` in its partition to be removed."""
        ...

    async def close(self) -> None:
        """Release what is held. Safe to call twice."""
        ...


class ReleaseTopic(Protocol):
    """The newest release document of each alias, as published by the scheduler's leader.

    Compacted: only the document with the highest epoch of an alias matters. Promises, held by
    ``tests/contracts/test_release_topic.py``:

    - A lower or equal epoch never replaces a higher one, in whichever order they arrive.
    - ``latest`` reads without a lock and needs no writer to be alive.
    """

    async def publish(self, alias: Alias, document: bytes, *, epoch: int) -> None:
        """Make ``document`` the newest of ``alias``; no effect if a newer epoch is there.

        Raises:
            LogUnavailable: If it was not confirmed; publish it again.
        """
        ...

    async def latest(self) -> Mapping[Alias, bytes]:
        """Return the document with the highest epoch of each alias."""
        ...

    async def close(self) -> None:
        """Release what is held. Safe to call twice."""
        ...


class Frame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One record of the spool.

    Attributes:
        position: Where it stands; grows strictly, and may have gaps.
        producer: Incarnation of the process that wrote it.
        seq: Its number within the incarnation, from 0, without gaps.
        at: When it was handed over, in UTC.
        payload: The bytes as handed over.
    """

    position: int
    producer: str
    seq: int
    at: datetime
    payload: bytes


class SpoolGap(msgspec.Struct, frozen=True, kw_only=True):
    """Frames that were shed or found damaged: their numbers, and why."""

    position: int
    producer: str
    first: int
    last: int
    reason: str
    first_at: datetime
    last_at: datetime


class Spool(Protocol):
    """Raw records of one process, on its own disk, on their way into the log.

    Thread-safe, and never blocks its caller: one writer thread does the input and output.
    Promises, held by ``tests/contracts/test_spool.py``:

    - ``written`` with None means: on disk (``durable``) or in the page cache (otherwise), so
      that a SIGKILL of this process cannot lose the record.
    - Memory and disk are bounded. What does not fit is shed, records that are not ``durable``
      first, and each shed range comes back from ``read`` as a ``SpoolGap``.
    - After any crash ``read`` yields every frame that was reported written and not yet
      released, in order, and invents none.
    """

    def offer(
        self,
        payload: bytes,
        *,
        durable: bool,
        written: Callable[[Exception | None], None] | None = None,
    ) -> None:
        """Hand over a record and return at once.

        Args:
            payload: The record. Not copied: do not change it.
            durable: True for what was promised to a client (votes): waits for ``fdatasync``.
                False for completions: the page cache is enough.
            written: Called once, on the writer thread, with None or with why it failed
                (``LogUnavailable`` if it was shed or the disk refused).
        """
        ...

    def offer_all(
        self,
        payloads: Sequence[bytes],
        *,
        written: Callable[[Sequence[Exception | None]], None],
    ) -> None:
        """Hand over several records that are not durable: one wake-up, one word for all.

        Args:
            payloads: The records, in order.
            written: Called once, on the writer thread, with one word for each record.
        """
        ...

    def read(self, *, after: int) -> Iterator[Frame | SpoolGap]:
        """Yield what stands past position ``after`` now (-1 for all), then stop."""
        ...

    def wait(self, *, after: int, timeout_seconds: float) -> bool:
        """Block until something stands past ``after``; False if the time ran out."""
        ...

    def release(self, *, through: int) -> None:
        """Remember durably that everything up to ``through`` was forwarded; free its disk."""
        ...

    def released(self) -> int:
        """Return the position through which everything was forwarded, -1 at first."""
        ...

    def behind_bytes(self) -> int:
        """Return how many bytes are written and not released. From any thread, at once."""
        ...

    def close(self) -> None:
        """Write and sync what is queued, then end the writer thread. Safe to call twice."""
        ...
