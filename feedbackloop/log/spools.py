"""The spools of one machine: each process' own, and those that dead processes have left.

    {root}/{name}/                   the spool of the process of that name
    {root}/{name}.orphan-{hex}/      one that was taken over, so that its name is free again

Whoever holds a spool's lock owns it. The lock of a dead process is free: the next one that looks
takes it, moves the folder aside, and forwards what is in it under its producer's name and numbers.
If it dies on the way, the folder's lock is free again.
"""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from feedbackloop.errors import SettingsError
from feedbackloop.log import killed, reader
from feedbackloop.log.board import Bell
from feedbackloop.log.claim import FolderClaim, Unclaimed
from feedbackloop.log.folder import LOCK, LocalDisk
from feedbackloop.log.marks import Marks, Unmarked
from feedbackloop.log.outlet import SpoolOutlet, behind_bytes, checkpoint
from feedbackloop.log.recovery import DAMAGED
from feedbackloop.log.share import Handles, Share, open_board
from feedbackloop.log.spool import SpoolLimits, SpoolQueue

_ORPHAN = ".orphan-"
_UNMARKED = Unmarked()
_GRACE_SECONDS = 1.0  # for what an opening does beside waiting


def open_spool(  # noqa: PLR0913  # one for each thing outside
    folder: Path,
    *,
    producer: str,
    limits: SpoolLimits,
    now_ns: Callable[[], int],
    marks: Marks = _UNMARKED,
    share: Share | None = None,
    patience_seconds: float = 0.5,
) -> SpoolQueue:
    """Open the spool of one process in a folder of its own.

    Args:
        folder: Of the spool.
        producer: Incarnation of this process.
        limits: Of the spool.
        now_ns: The clock.
        marks: Of the spool's producers.
        share: Lets another process read it, and hold its lock with us.
        patience_seconds: How long one that is about to end may take for it, and a disk that stands
            still.

    Returns:
        A spool that takes records. If its disk refuses, it says so, and tries it again.

    Raises:
        SettingsError: If another process has it open.
    """
    disk = LocalDisk(folder)
    spool = SpoolQueue(
        disk,
        producer=producer,
        limits=limits,
        now_ns=now_ns,
        marks=marks,
        claim=FolderClaim(disk, share, patience_seconds=patience_seconds),
        far=None if share is None else (share.board, share),
    )
    spool.start(patience_seconds=patience_seconds + _GRACE_SECONDS)
    refusal = spool.refusal
    if isinstance(refusal, SettingsError):
        spool.close()
        raise refusal
    return spool


def open_outlet(folder: Path, handles: Handles, *, bell: Bell) -> SpoolOutlet:
    """Open what another process has shared, to read and release it, wherever it is by now."""
    disk = LocalDisk(folder, held=handles.folder)
    board = open_board(handles.board)
    outlet = SpoolOutlet(disk, producer=handles.producer, board=board, bell=bell)
    outlet.open()
    return outlet


def adopt(
    root: Path,
    *,
    own: str,
    limits: SpoolLimits,
    untouched_since: float,
    now_ns: Callable[[], int],
    marks: Callable[[Path], Marks] = lambda _: _UNMARKED,
) -> SpoolQueue | None:
    """Take over one spool whose process is dead; None if there is none.

    Args:
        root: Where spools are.
        own: Name of this process' spool.
        limits: Of the spool; nothing is written to it, but for what its marks say is missing.
        untouched_since: Seconds since 1970. What was written later is left alone: its process may
            be about to start again.
        now_ns: The clock.
        marks: Returns those of the spool in a folder.

    Returns:
        A spool to be read and released. Closed when all of it is released, it is gone.
    """
    for folder in _others(root, own):
        disk = LocalDisk(folder)
        if not disk.try_lock():
            continue
        if _is_fresh(disk, untouched_since) or not _has_left(disk, marks(folder), now_ns):
            disk.unlock()
            continue
        if _ORPHAN not in folder.name:
            disk.move(root / f"{folder.name}{_ORPHAN}{secrets.token_hex(4)}")
        spool = SpoolQueue(
            disk,
            producer=secrets.token_hex(16),
            limits=limits,
            now_ns=now_ns,
            claim=_Orphan(disk),
        )
        spool.open()
        return spool
    return None


def spool_behind_bytes(folder: Path) -> int:
    """Say how much of a spool is not yet in the log; 0 where there is none."""
    return behind_bytes(LocalDisk(folder)) if folder.is_dir() else 0


def _others(root: Path, own: str) -> Iterator[Path]:
    if root.is_dir():
        yield from sorted(one for one in root.iterdir() if one.is_dir() and one.name != own)


def _has_left(disk: LocalDisk, marks: Marks, now_ns: Callable[[], int]) -> bool:
    """Declare what marks alone know of, while they are still found; is there anything to read?"""
    try:
        killed.declare(disk, marks, after=checkpoint(disk), now_ns=now_ns)
    except OSError:
        return False  # the marks stay for whoever looks next
    return bool(reader.segments(disk)) and behind_bytes(disk) > 0


def _is_fresh(disk: LocalDisk, untouched_since: float) -> bool:
    return disk.touched() > untouched_since


class _Orphan(Unclaimed):
    """The claim to a folder that is locked already."""

    def __init__(self, disk: LocalDisk) -> None:
        self._disk = disk

    def give_back(self) -> None:
        """Leave it; what was forwarded whole is removed, but for damaged segments."""
        disk = self._disk
        try:
            if disk.locked() >= 0 and not behind_bytes(disk):
                for name in disk.names():
                    if name != LOCK and not name.endswith(DAMAGED):
                        disk.remove(name)
                disk.vanish()
        finally:
            disk.unlock()
