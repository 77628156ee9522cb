"""Make a folder of segments ready for a new writer, whatever the last one left."""

import contextlib

from feedbackloop.log import reader, segment
from feedbackloop.log.disk import Disk
from feedbackloop.log.frames import RawFrame

DAMAGED = ".damaged"
"""What the name of a segment ends in that is kept for people to look at."""
_KEPT = 4  # such segments in one folder: they hold what people wrote


def recover(disk: Disk, *, after: int) -> tuple[int, int]:
    """Cut the torn tail of the last segment, and remove a segment that holds no frame.

    Damage further in is left for readers to name.

    Args:
        disk: The folder; nobody else writes to it.
        after: Position that readers are past.

    Returns:
        The position at which the next segment may begin, and that of the last record, or -1.
    """
    free, last = after + 1, after
    for name in reversed(reader.segments(disk)):
        frame = _last_frame(disk, name)
        base = segment.base(name)
        if frame is not None:
            _truncate(disk, name, frame.end)
            return max(free, base + frame.end), base + frame.start
        # Its place is not used again: a reader may be past it.
        free = max(free, base + segment.HEADER_BYTES)
        head = segment.decode(disk.read(name, 0, segment.HEADER_BYTES))
        last = last if head is None else max(last, head.previous)
        _put_away(disk, name)
    return free, last


def _last_frame(disk: Disk, name: str) -> RawFrame | None:
    last = None
    for found in reader.scanned(disk, name, segment.HEADER_BYTES, sealed=False):
        if isinstance(found, RawFrame):
            last = found
    return last


def _put_away(disk: Disk, name: str) -> None:
    size = disk.size(name)
    if any(disk.read(name, segment.HEADER_BYTES, size)):
        quarantine(disk, name)
    else:
        disk.remove(name)
    disk.sync_folder()


def quarantine(disk: Disk, name: str) -> None:
    """Keep a damaged segment under another name; the oldest one that is kept may go for it."""
    disk.replace(name, name + DAMAGED)
    kept = sorted(one for one in disk.names() if one.endswith(DAMAGED))
    for old in kept[:-_KEPT]:
        with contextlib.suppress(OSError):
            disk.remove(old)


def _truncate(disk: Disk, name: str, size: int) -> None:
    handle = disk.open(name)
    try:
        if disk.size(name) > size:
            disk.truncate(handle, size)
        disk.sync(handle)
    finally:
        disk.close(handle)
