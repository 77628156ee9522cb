"""The spool: a bounded queue of raw records on the process' own disk, before the log.

Whatever does not fit is shed, completions before votes, and what was shed is written down as a
gap as soon as there is room for it.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from feedbackloop.errors import LogUnavailable
from feedbackloop.log import killed, reader
from feedbackloop.log.board import Board, NearBell, Rings
from feedbackloop.log.claim import Claim, Unclaimed
from feedbackloop.log.disk import Disk
from feedbackloop.log.frames import HEADER_BYTES, MAX_PAYLOAD_BYTES, Kind
from feedbackloop.log.marks import Mark, Marks, NoMark, Unmarked
from feedbackloop.log.outlet import SpoolOutlet, checkpoint
from feedbackloop.log.port import Frame, SpoolGap
from feedbackloop.log.shed import Shed
from feedbackloop.log.thread import Group, Pending, WriterThread
from feedbackloop.log.writer import Writer

SEGMENT_BYTES = 16 * 2**20
"""Of a spool that has room enough."""
_UNMARKED = Unmarked()
_UNCLAIMED = Unclaimed()
_RESERVE = 0.1  # of memory and disk, kept for what was promised to a client
_AMPLE = 0.75  # of memory and disk: beyond it, large bodies are better left out


class SpoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a spool may hold.

    Attributes:
        memory_bytes: Records that wait for the writer thread.
        disk_bytes: Records on disk that were not yet released.
        segment_bytes: Size at which a segment is sealed: what is released leaves in these. Two of
            them are reserved on the disk, the one that is written and the next.
    """

    memory_bytes: int = 64 * 2**20
    disk_bytes: int = 2 * 2**30
    segment_bytes: int = SEGMENT_BYTES


class SpoolQueue:
    """The spool over a disk. See ``log/port.py`` for what it promises.

    Nothing is read or written before ``start``, or ``open`` and ``work`` are called instead. What
    producers that died here had numbered and not written, as ``marks`` say, is declared first. A
    disk that fails then is as one that fails later: what comes is shed, and it is tried again.

    With a ``far`` board and bell another process reads and releases: the half of this one that
    does so is then not to be used.
    """

    def __init__(  # noqa: PLR0913  # one for each thing outside
        self,
        disk: Disk,
        *,
        producer: str,
        limits: SpoolLimits,
        now_ns: Callable[[], int],
        marks: Marks = _UNMARKED,
        claim: Claim = _UNCLAIMED,
        far: tuple[Board, Rings] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.producer = producer
        self.unmarked = ""
        """Why this producer has no mark, if it should have one."""
        self._disk = disk
        self._limits = limits
        self._now_ns = now_ns
        self._claim = claim
        self._is_closed = False
        self._mutex = threading.Lock()
        self._seq = 0
        self._written = 0
        self._queued_bytes = self._disk_bytes = 0
        self._shed = Shed()
        self._recounted = -1
        self._writer = self._make_writer()
        self._is_far = far is not None
        bell = NearBell()
        self._board, self._rings = far or (Board(), bell)
        self._board.clear()
        self._outlet = SpoolOutlet(disk, producer=producer, board=self._board, bell=bell)
        self._marks = marks
        self._mark = self._marked(marks)
        name = f"spool-{producer[:8]}"
        self._thread = WriterThread(self._writer, name=name, aside=self, clock=clock)

    def start(self, *, patience_seconds: float = 0.0) -> None:
        """Let a thread of its own open it and write; wait a while until it is open or refused."""
        self._thread.start(patience_seconds=patience_seconds)

    def open(self) -> None:
        """Make the folder ours and ready, and declare what the dead had not written, unless it is.

        Raises:
            OSError: If the disk refuses. It may be called again.
            SettingsError: If another process has it open.
        """
        if self._board.opened:
            return
        self._claim.take()
        try:
            after = checkpoint(self._disk)
            killed.declare(self._disk, self._marks, after=after, now_ns=self._now_ns)
            self._writer.open(after=after)
            self._outlet.open()
            end, held = reader.end(self._disk), self._written_bytes()
            self._claim.keep()
        except OSError:
            self._claim.give_back()
            raise
        with self._mutex:
            self._disk_bytes = held + self._queued_bytes
        self._recounted = after
        self._board.tail = self._board.synced = end
        self._board.opened = 1

    def check(self) -> None:
        """Look whether the folder is still in its place; raises OSError if it is not."""
        self._claim.check()

    def is_nearly_full(self, adding: int) -> bool:
        limits = self._limits
        return (
            self._writer.is_tight
            or self._queued_bytes + adding > limits.memory_bytes * _AMPLE
            or self._disk_bytes + adding > limits.disk_bytes * _AMPLE
        )

    @property
    def refusal(self) -> Exception | None:
        """Why the disk took nothing when it was tried last; None if it did."""
        return self._thread.refusal

    def work(self) -> None:
        """Write and sync what is due, in a spool without a thread."""
        self._thread.work()
        self._thread.tick()

    def offer(
        self,
        payload: bytes,
        *,
        durable: bool,
        written: Callable[[Exception | None], None] | None = None,
    ) -> None:
        def told(errors: Sequence[Exception | None]) -> None:
            if written is not None:
                written(errors[0])

        self._offer([payload], durable=durable, written=told)

    def offer_all(
        self,
        payloads: Sequence[bytes],
        *,
        written: Callable[[Sequence[Exception | None]], None],
    ) -> None:
        self._offer(payloads, durable=False, written=written)

    def read(self, *, after: int) -> Iterator[Frame | SpoolGap]:
        if self._board.opened:
            yield from self._outlet.read(after=after)

    def wait(self, *, after: int, timeout_seconds: float) -> bool:
        return self._outlet.wait(after=after, timeout_seconds=timeout_seconds)

    def release(self, *, through: int) -> None:
        if self._board.opened:
            self._outlet.release(through=through)
            self._recount()

    def released(self) -> int:
        return self._outlet.released()

    def close(self) -> None:
        if self._is_closed:
            return
        self._thread.close()
        if not self._is_far:
            with contextlib.suppress(OSError):
                self.release(through=self.released())
        # Where the folder is gone, whoever opens what is in its place has to know of us.
        if not self._shed and not self._queued_bytes and self.refusal is None:
            self._mark.remove()
        self._claim.give_back()
        self._is_closed = True

    def behind_bytes(self) -> int:
        return self._outlet.behind_bytes()

    def backlog_bytes(self) -> int:
        """Return how many bytes of segments were not yet freed."""
        return self._disk_bytes

    def troubles(self) -> Mapping[tuple[str, str], int]:
        with self._mutex:
            shed = {("shed", reason): count for reason, count in self._shed.records.items()}
        segments = {"suspect": self._writer.suspects, "quarantined": self._board.quarantined}
        return shed | {("segment", what): count for what, count in segments.items()}

    def _make_writer(self) -> Writer:
        return Writer(
            self._disk,
            producer=self.producer,
            segment_bytes=self._limits.segment_bytes,
            reserved=True,
        )

    def _marked(self, marks: Marks) -> Mark:
        """Begin this producer's mark; without one it goes on, as long as it lives."""
        try:
            return marks.begin(self.producer)
        except OSError as error:
            self.unmarked = str(error)
            return NoMark()

    def _recount(self) -> None:
        """Learn what the disk holds, once its reader has let go of some of it."""
        through = self._board.checkpoint
        if through <= self._recounted:
            return
        # Not under the mutex: nobody who offers may wait for a disk.
        written = self._written_bytes()
        with self._mutex:
            self._disk_bytes = written + self._queued_bytes
        self._recounted = through

    def _written_bytes(self) -> int:
        """Count what segments hold; of the one that is being written, not what it reserves."""
        live, used = self._writer.live()
        return sum(used if name == live else size for name, size in reader.sequence(self._disk))

    def _offer(
        self,
        payloads: Sequence[bytes],
        *,
        durable: bool,
        written: Callable[[Sequence[Exception | None]], None],
    ) -> None:
        now = self._now_ns()
        records: list[Pending] = []
        errors: list[Exception | None] = []
        with self._mutex:
            # First of all: whatever happens to them from here on, they have had their numbers.
            self._mark.give(self._seq + len(payloads))
            for payload in payloads:
                seq = self._seq
                self._seq += 1
                reason = self._full(len(payload), durable=durable)
                if reason is not None:
                    self._shed.note(seq, now, reason)
                    errors.append(LogUnavailable(f"the spool is full: {reason}"))
                    continue
                records.append(self._counted(Pending(seq=seq, at_ns=now, payload=payload)))
                errors.append(None)
            if records:
                self._hand_over(records, durable=durable, errors=errors, written=written)
        if not records:
            written(errors)

    def _full(self, size: int, *, durable: bool) -> str | None:
        share = 1.0 if durable else 1.0 - _RESERVE
        if size > MAX_PAYLOAD_BYTES:
            return "too_large"
        if self._queued_bytes + size > self._limits.memory_bytes * share:
            return "memory_full"
        if self._disk_bytes + size > self._limits.disk_bytes * share:
            return "disk_full"
        return None if durable or self._has_room(size) else "disk_full"

    def _has_room(self, size: int) -> bool:
        """Say whether a completion leaves room for votes on a disk that others have filled."""
        if not self._writer.is_tight:
            return True
        room = self._writer.room() - self._queued_bytes - size
        return room > self._limits.segment_bytes * _RESERVE

    def _counted(self, record: Pending) -> Pending:
        size = len(record.payload) + HEADER_BYTES
        self._queued_bytes += size
        self._disk_bytes += size
        return record

    def _hand_over(
        self,
        records: Sequence[Pending],
        *,
        durable: bool,
        errors: list[Exception | None],
        written: Callable[[Sequence[Exception | None]], None],
    ) -> None:
        size = sum(len(one.payload) for one in records) + HEADER_BYTES * len(records)

        def told(_: Sequence[int], error: Exception | None) -> None:
            with self._mutex:
                self._queued_bytes -= size
            if error is None:
                self._note_written(records[-1].seq + 1)
            # What was shed has its word already.
            written(errors if error is None else [one or error for one in errors])

        self._thread.hand_over(Group(records=records, durable=durable, told=told))

    def _note_written(self, following: int) -> None:
        # Those that wait for a sync are told later than those behind them.
        if following > self._written:
            self._written = following
            self._mark.wrote(following)

    def wrote(self, position: int) -> None:
        """Learn on the writer thread that everything up to ``position`` can be read."""
        self._board.tail = max(self._board.tail, position)
        self._rings.ring()

    def synced(self, position: int) -> None:
        """Learn on the writer thread that everything up to ``position`` is on disk."""
        self._board.synced = max(self._board.synced, position)
        self.wrote(position)

    def refused(self, records: Sequence[Pending]) -> None:
        """Write down that the disk took nothing of these."""
        with self._mutex:
            for one in records:
                if one.kind is Kind.RECORD:
                    self._disk_bytes -= len(one.payload) + HEADER_BYTES
            self._shed.put_back(records)

    def notes(self, through: int | None) -> Sequence[Pending]:
        """Hand over what is known to be missing before record ``through``."""
        if through is None and self._is_far:
            # Between two writes, so that nothing is counted twice. What is removed meanwhile
            # cannot be measured: next time.
            with contextlib.suppress(OSError):
                self._recount()
        if not self._shed:
            return ()
        with self._mutex:
            if through is None and self._queued_bytes:
                return ()  # what is queued was offered before some of it
            return self._shed.take(through)
