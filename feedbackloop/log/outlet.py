"""The half of a spool that is read and released, in the process that writes it or in another."""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from feedbackloop.log import reader, recovery, segment
from feedbackloop.log.board import Bell, Board
from feedbackloop.log.disk import Disk
from feedbackloop.log.port import Frame, SpoolGap

_CHECKPOINT = "released"


class SpoolOutlet:
    """Reads what a board says is written. See ``log/port.py`` for what it promises.

    Args:
        disk: The folder; another may write to it.
        producer: Who writes.
        board: How far the writer is, and how far we are.
        bell: Rings when something was written.
        closed: Called once, by the first ``close``.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        producer: str,
        board: Board,
        bell: Bell,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self.producer = producer
        self._disk = disk
        self._board = board
        self._bell = bell
        self._closed: Callable[[], None] | None = closed
        self._damaged: set[int] = set()

    def open(self) -> None:
        """Learn from the disk what was released, before anything else.

        Raises:
            OSError: If the disk refuses. It may be called again.
        """
        self._board.through = self._board.checkpoint = checkpoint(self._disk)

    def read(self, *, after: int) -> Iterator[Frame | SpoolGap]:
        # What was released may be gone, and nobody asks for it.
        start, tail = max(after, self._board.through), self._board.tail
        for one in reader.read(self._disk, after=start, through=tail, numbered=True):
            if isinstance(one, SpoolGap) and one.reason == reader.DAMAGED:
                self._damaged.add(one.position)
            yield one

    def wait(self, *, after: int, timeout_seconds: float) -> bool:
        return self._bell.wait_for(lambda: self._board.tail > after, timeout_seconds)

    def release(self, *, through: int) -> None:
        board = self._board
        board.through = max(board.through, through)
        # A checkpoint that outlives what it stands for would hide what was lost behind it.
        through = min(board.through, board.synced)
        if through <= board.checkpoint:
            return
        _write_checkpoint(self._disk, through)
        board.checkpoint = through
        names = reader.segments(self._disk)
        for name, following in pairwise(names):
            if segment.base(following) > through and not _ends_by(self._disk, following, through):
                break
            self._drop(name, segment.base(following))

    def released(self) -> int:
        return self._board.through

    def troubles(self) -> Mapping[tuple[str, str], int]:
        # Whoever writes counts them all.
        return {}

    def behind_bytes(self) -> int:
        return max(0, self._board.tail - max(0, self._board.through))

    def close(self) -> None:
        if self._closed is not None:
            self._closed()
        self._closed = None

    def _drop(self, name: str, end: int) -> None:
        """Free a segment that was forwarded; a damaged one is kept for people to look at."""
        base = segment.base(name)
        damaged = {place for place in self._damaged if base <= place < end}
        self._damaged -= damaged
        if damaged:
            recovery.quarantine(self._disk, name)
            self._board.quarantined += 1
        else:
            self._disk.remove(name)


def _ends_by(disk: Disk, following: str, through: int) -> bool:
    """Say whether the segment before ``following`` holds nothing past ``through``."""
    head = segment.decode(disk.read(following, 0, segment.HEADER_BYTES))
    return head is not None and head.previous <= through


def behind_bytes(disk: Disk) -> int:
    """Say how far the reader of a spool is behind its writer; takes no lock, and never waits."""
    return max(0, reader.end(disk) - max(0, checkpoint(disk)))


def checkpoint(disk: Disk) -> int:
    """Return the position through which everything was forwarded, -1 at first."""
    if _CHECKPOINT not in disk.names():
        return -1
    raw = disk.read(_CHECKPOINT, 0, 32)
    # Damaged, it is worth nothing: what is forwarded twice is counted once.
    return int(raw) if raw.strip().lstrip(b"-").isdigit() else -1


def _write_checkpoint(disk: Disk, through: int) -> None:
    unfinished = _CHECKPOINT + ".tmp"
    disk.remove(unfinished)
    handle = disk.create(unfinished)
    try:
        disk.write(handle, str(through).encode(), 0)
        disk.sync(handle)
    finally:
        disk.close(handle)
    disk.replace(unfinished, _CHECKPOINT)
    disk.sync_folder()
