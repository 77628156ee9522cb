"""Write frames into segments, one thread at a time, and survive what disks do.

Not thread-safe: a ``Writer`` belongs to the one thread that writes. What it promises:

- ``append`` either returns, and the frames are in the page cache, or raises, and then nothing of
  them can be read.
- ``sync`` either returns, and everything appended is on disk, or raises. After a failed sync the
  segment is never synced again: the kernel may have dropped its pages and marked them clean. What
  was not yet synced is written once more, to a new segment; a reader may then see it twice.

References:
    Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
"""

import contextlib

from feedbackloop.log import segment
from feedbackloop.log.disk import Disk
from feedbackloop.log.frames import RawFrame, scan


class Writer:
    """The writing end of a folder of segments.

    Args:
        disk: The folder.
        producer: Incarnation of this process, 32 ASCII characters at most.
        segment_bytes: Size at which a segment is sealed.
    """

    def __init__(self, disk: Disk, *, producer: str, segment_bytes: int) -> None:
        self._disk = disk
        self._producer = producer
        self._segment_bytes = segment_bytes
        self._handle: int | None = None
        self._base, self._last = recover(disk)
        self._size = 0
        self._unsynced: list[tuple[int, bytes]] = []
        self.suspects = 0

    def append(self, frames: bytes, *, first_seq: int) -> int:
        """Append whole frames; return the position of the first.

        Raises:
            OSError: If the disk refused; nothing of ``frames`` is left behind.
        """
        if self._handle is None or self._size >= self._segment_bytes:
            self._roll(first_seq)
        position = self._base + self._size
        self._write(frames)
        self._last = position
        self._unsynced.append((first_seq, frames))
        return position

    def sync(self) -> None:
        """Make everything appended survive a loss of power.

        Raises:
            OSError: If neither this segment nor a new one could be synced.
        """
        if self._handle is None or not self._unsynced:
            return
        try:
            self._disk.sync(self._handle)
        except OSError:
            self._rewrite()
        self._unsynced.clear()

    def close(self) -> None:
        """Give the segment back, unsynced."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                self._disk.close(self._handle)
        self._handle = None

    def _roll(self, first_seq: int) -> None:
        """Seal the segment, if there is one, and begin the next."""
        if self._handle is not None:
            self.sync()
        self._begin(first_seq)

    def _begin(self, first_seq: int) -> None:
        base = self._base + self._size
        head = segment.encode(
            segment.SegmentHeader(
                base=base, previous=self._last, first_seq=first_seq, producer=self._producer
            )
        )
        name = segment.name(base)
        handle = self._disk.create(name)
        try:
            _write_whole(self._disk, handle, head, 0)
            self._disk.sync_folder()
        except OSError:
            # Left behind, a segment without a header would stand in the way of the next try.
            with contextlib.suppress(OSError):
                self._disk.close(handle)
            with contextlib.suppress(OSError):
                self._disk.remove(name)
            raise
        self.close()
        self._handle, self._base, self._size = handle, base, len(head)

    def _write(self, data: bytes) -> None:
        assert self._handle is not None  # noqa: S101  # opened by append
        try:
            _write_whole(self._disk, self._handle, data, self._size)
        except OSError:
            self._cut()
            raise
        self._size += len(data)

    def _cut(self) -> None:
        """Remove a torn write; if even that fails, leave the segment for good."""
        assert self._handle is not None  # noqa: S101  # only called while writing
        try:
            self._disk.truncate(self._handle, self._size)
        except OSError:
            self.suspects += 1
            torn = self._handle
            self._handle = None
            # The next segment begins past anything that the torn write can have left.
            self._size += 2**32
            with contextlib.suppress(OSError):
                self._disk.close(torn)

    def _rewrite(self) -> None:
        """Write what was not synced to a new segment, and sync that."""
        self.suspects += 1
        held, self._unsynced = self._unsynced, []
        # Closed first: should a new segment fail to open, nobody may write to this one again.
        self.close()
        self._begin(held[0][0])
        for _, frames in held:
            self._last = self._base + self._size
            self._write(frames)
        assert self._handle is not None  # noqa: S101  # begun above
        self._disk.sync(self._handle)


def _write_whole(disk: Disk, handle: int, data: bytes, at: int) -> None:
    # A full disk takes part of the data first and refuses only the rest.
    while data:
        taken = disk.write(handle, data, at)
        if taken <= 0:
            raise OSError("the disk took no bytes")
        data = data[taken:]
        at += taken


def recover(disk: Disk) -> tuple[int, int]:
    """Make the folder ready for a new writer.

    Returns:
        The position at which the next segment may begin, and that of the last record, or -1.

    The torn tail of the last segment is cut at its last whole frame; a segment that holds no
    frame is removed. Damage further in is left for readers to name.
    """
    for name in sorted(disk.names(), reverse=True):
        if not segment.is_segment(name):
            continue
        size = disk.size(name)
        data = disk.read(name, 0, size)
        whole = [f for f in scan(data, segment.HEADER_BYTES) if isinstance(f, RawFrame)]
        if not whole:
            disk.remove(name)
            disk.sync_folder()
            continue
        if whole[-1].end < size:
            _truncate(disk, name, whole[-1].end)
        return segment.base(name) + whole[-1].end, segment.base(name) + whole[-1].start
    return 0, -1


def _truncate(disk: Disk, name: str, size: int) -> None:
    handle = disk.open(name)
    try:
        disk.truncate(handle, size)
        disk.sync(handle)
    finally:
        disk.close(handle)
