"""What the loop asks of the log, of the spool before it, and of the topic of releases."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from feedbackloop.errors import RecordError
from feedbackloop.events import Alias, AnyEvent
from feedbackloop.log.archive import ArchiveFile, Chain, Place
from feedbackloop.log.ledger import Decision, Ledger, Lineage


class Offset(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place in one partition. ``position`` is -1 before the first entry."""

    partition: str
    position: int


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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

        ``after`` may be any place: none of an entry, too.

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


class Outlet(Protocol):
    """The half of a spool that is read, by its process or by a child of it. Thread-safe."""

    @property
    def producer(self) -> str:
        """Name the incarnation that writes now; every other one that wrote here is dead."""
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

    def troubles(self) -> Mapping[tuple[str, str], int]:
        """Count since the start: (``shed``, why), (``segment``, ``suspect``/``quarantined``)."""
        ...

    def behind_bytes(self) -> int:
        """Return how many bytes are written and not released. From any thread, at once."""
        ...

    def close(self) -> None:
        """Write and sync what is queued, then end the writer thread. Safe to call twice."""
        ...


class Spool(Outlet, Protocol):
    """Raw records of one process, on its own disk, on their way into the log.

    A disk that fails, at the start or later, is tried again for as long as the process lives.

    Thread-safe, and never blocks its caller: one writer thread does the input and output.
    Promises, held by ``tests/contracts/test_spool.py``:

    - ``written`` with None means: on disk (``durable``) or in the page cache (otherwise), so
      that a SIGKILL of this process cannot lose the record.
    - Memory and disk are bounded. What does not fit is shed, records that are not ``durable``
      first, and each shed range comes back from ``read`` as a ``SpoolGap``. Long before that
      ``is_nearly_full``.
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
            written: Called once, on the writer thread, with None or with why it failed.
        """
        ...

    def offer_all(
        self, payloads: Sequence[bytes], *, written: Callable[[Sequence[Exception | None]], None]
    ) -> None:
        """Hand over several records that are not durable; ``written`` has a word for each."""
        ...

    def is_nearly_full(self, adding: int) -> bool:
        """Say whether so many bytes more would leave little room: large ones better stay out."""
        ...

    @property
    def refusal(self) -> Exception | None:
        """Why the disk took nothing when it was tried last; None if it did."""
        ...


class Stored(msgspec.Struct, frozen=True, order=True):
    """An object of a store: its key, and its size in bytes."""

    key: str
    size: int


class Store(Protocol):
    """Objects by key, each written once and whole: a folder, or an object store.

    A key is a relative path of plain parts. Blocking; safe to call from several threads and
    processes. Promises, held by ``tests/contracts/test_store.py``:

    - However many create one key, at once or after a crash, it has one content for ever: that of
      the one who was told True. Whoever is not told, because the answer was lost, may be that one.
    - An object is durable, whole and listed once ``create`` has returned, and never seen in part.
    - Only ``remove`` takes an object away.

    All of it raises ``StoreUnavailable`` if the store does not answer; the call may be repeated.
    """

    @property
    def name(self) -> str:
        """Say where it is, for people: without any secret."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Store ``data`` unless there is an object of that key; say whether it was stored."""
        ...

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> bytes | None:
        """Return an object, or ``length`` bytes of it from ``start`` on; None if it is not there.

        A range has to begin within the object; one that reaches past its end is cut there.
        """
        ...

    def list(self, prefix: str) -> Sequence[Stored]:
        """Return the objects whose key begins with the folder ``prefix`` (or all), by key."""
        ...

    def remove(self, key: str) -> None:
        """Take an object away; no error if it is not there."""
        ...


class Draft(Protocol):
    """Entries on their way into one file of the archive."""

    place: Place
    entries: int
    """Of the log, repeats counted."""
    rows: int
    unreadable: int
    end: int
    """Position of the last entry taken; just before the start if there is none."""
    last: str
    """Digest of that entry's bytes."""
    first_at: datetime | None
    """Earliest time of an event in it."""

    @property
    def size(self) -> int:
        """Return about how many bytes of memory it takes."""
        ...

    def add(self, entries: Sequence[Entry]) -> None:
        """Take entries in, which follow on those before; repeats are left out."""
        ...

    def finish(self, *, written_at: datetime) -> bytes:
        """Return the whole file; nothing may be added any more. Twice is once."""
        ...

    def following(self) -> "Draft":
        """Begin the file after this one, once this one is published."""
        ...


class Archive(Protocol):
    """The log's entries in files, for as long as anybody wants them. Blocking.

    Which files there are, and which of them count, is for ``log/archive.py`` to say.
    All of it raises ``StoreUnavailable`` if the store does not answer, and ``ArchiveDamaged`` if a
    file is not what it says.
    """

    def lineages(self) -> Sequence[Lineage]:
        """Return what there are files of, sorted."""
        ...

    def ledger(self) -> Ledger:
        """Return every decision."""
        ...

    def decide(self, known: Ledger, decision: Decision) -> bool:
        """Write a decision down; False if somebody decided something that is not in ``known``."""
        ...

    def chain(self, lineage: Lineage, decided: Ledger) -> Chain:
        """Return what is archived of a lineage."""
        ...

    def draft(self, archived: Chain) -> Draft:
        """Begin the file that comes next."""
        ...

    def publish(self, place: Place, data: bytes) -> bool:
        """Store a file; False if somebody has stored one that starts there."""
        ...

    def seal(self, files: Sequence[ArchiveFile], *, sealed_at: datetime) -> bool:
        """Store one file that holds a run of fresh ones; False if somebody has done so."""
        ...

    def remove(self, file: ArchiveFile) -> None:
        """Take a file away."""
        ...

    def check(self, file: ArchiveFile) -> None:
        """Read a file whole, and hold its rows against what it says of itself."""
        ...

    def rows(self, file: ArchiveFile) -> Iterator[tuple[int, bytes]]:
        """Yield the position and the bytes of each entry that a file holds, in order."""
        ...

    def entries(self, file: ArchiveFile) -> Iterator[Entry]:
        """Yield the entries that a file holds, in order, as the log had them."""
        ...
