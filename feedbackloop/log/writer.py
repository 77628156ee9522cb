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
from collections.abc import Sequence
from itertools import accumulate

import msgspec

from feedbackloop.log import recovery, segment
from feedbackloop.log.disk import Disk

_SPARE = "spare"


class _Live(msgspec.Struct, kw_only=True):
    """The segment that is being written."""

    handle: int
    name: str
    base: int
    size: int


class _Held(msgspec.Struct, frozen=True):
    """Frames that may not be on disk yet."""

    first_seq: int
    frames: Sequence[bytes]


class Writer:
    """The writing end of a folder of segments.

    Args:
        disk: The folder.
        producer: Incarnation of this process, 32 ASCII characters at most.
        segment_bytes: Size at which a segment is sealed.
        reserved: Whether a segment has its room on the disk before anything is written to it, and
            the one after it, too: a disk that fills up is met between segments.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        producer: str,
        segment_bytes: int,
        reserved: bool = False,
    ) -> None:
        self._disk = disk
        self._producer = producer
        self._segment_bytes = segment_bytes
        self._reserved = reserved
        self._next, self.last = 0, -1
        """Position of the last record, -1 if there is none."""
        self._live: _Live | None = None
        self._spare: int | None = None
        self._unsynced: list[_Held] = []
        self.suspects = 0
        """Segments that were left because the disk failed while they were written."""
        self.is_tight = False
        """Whether the disk had no room to reserve for the next segment."""

    def open(self, *, after: int = -1) -> None:
        """Make the folder ready, before anything else.

        Args:
            after: Position that readers are past: nothing may be written up to it.

        Raises:
            OSError: If the disk refuses. It may be called again.
        """
        self._disk.remove(_SPARE)
        self._next, self.last = recovery.recover(self._disk, after=after)

    def append(self, frames: Sequence[bytes], *, first_seq: int) -> list[int]:
        """Append whole frames; return their positions.

        Raises:
            OSError: If the disk refused; nothing of ``frames`` is left behind.
        """
        if self._live is None and self._unsynced:
            self._rewrite()
        live = self._room_for(sum(map(len, frames)), first_seq)
        positions = self._write(live, frames)
        self._unsynced.append(_Held(first_seq, frames))
        return positions

    def sync(self) -> None:
        """Make everything appended survive a loss of power.

        Raises:
            OSError: If neither this segment nor a new one could be synced. It may be called again.
        """
        if not self._unsynced:
            return
        if self._live is not None:
            try:
                self._disk.sync(self._live.handle)
            except OSError:
                # Left first: should a new segment fail to open, nobody may write to this one again.
                self._leave(self._live)
            else:
                self._unsynced = []
                return
        self._rewrite()

    def unsynced_bytes(self) -> int:
        """Return how much was appended since the last sync."""
        return sum(len(frame) for held in self._unsynced for frame in held.frames)

    def live(self) -> tuple[str, int]:
        """Return the name of the segment that is being written, and how much of it is used."""
        live = self._live
        return ("", 0) if live is None else (live.name, live.size)

    def room(self) -> int:
        """Return how many bytes more the disk will certainly take."""
        used = self.live()[1] or self._segment_bytes
        return self._segment_bytes * (1 if self._spare is None else 2) - used

    def close(self) -> None:
        """Give the segment back, unsynced and with what it had reserved."""
        if self._live is not None:
            self._cut(self._live)
            self._close(self._live.handle)
        if self._spare is not None:
            self._close(self._spare)
            with contextlib.suppress(OSError):
                self._disk.remove(_SPARE)
        self._live = self._spare = None

    def _room_for(self, size: int, first_seq: int) -> _Live:
        """Return the live segment, or else seal it and begin the next."""
        live = self._live
        if live is not None and live.size + size <= self._segment_bytes:
            return live
        if live is not None:
            self._cut(live)
            self.sync()
            if self._live is not None:
                self._close(self._live.handle)
                self._end(self._live)
        return self._begin(first_seq, segment.HEADER_BYTES + size)

    def _begin(self, first_seq: int, size: int) -> _Live:
        base = self._next
        name = segment.name(base)
        head = segment.encode(
            segment.SegmentHeader(
                base=base, previous=self.last, first_seq=first_seq, producer=self._producer
            )
        )
        handle, made = self._create(name, max(size, self._segment_bytes))
        try:
            _write_whole(self._disk, handle, head, 0)
            # Frames that outlive a loss of power are nobody's if their segment's head does not.
            self._disk.sync(handle)
            if made != name:
                self._disk.replace(made, name)
            self._disk.sync_folder()
        except OSError:
            # Left behind, a segment without a header would stand in the way of the next try.
            self._close(handle)
            for one in (made, name):
                with contextlib.suppress(OSError):
                    self._disk.remove(one)
            raise
        self._live = _Live(handle=handle, name=name, base=base, size=len(head))
        if self._reserved:
            self._put_by()
        return self._live

    def _create(self, name: str, size: int) -> tuple[int, str]:
        """Open a file for a segment; return its handle and what it is called for now."""
        spare, self._spare = self._spare, None
        if spare is not None and size <= self._segment_bytes:
            return spare, _SPARE
        if spare is not None:
            self._close(spare)
            self._disk.remove(_SPARE)
        return self._reserve(name, size), name

    def _reserve(self, name: str, size: int) -> int:
        # What an earlier try could not remove: nothing of it was ever acknowledged.
        self._disk.remove(name)
        handle = self._disk.create(name)
        try:
            if self._reserved:
                self._disk.reserve(handle, size)
        except OSError:
            self._close(handle)
            with contextlib.suppress(OSError):
                self._disk.remove(name)
            raise
        return handle

    def _put_by(self) -> None:
        """Reserve the next segment's room while there is some."""
        try:
            self._spare = self._reserve(_SPARE, self._segment_bytes)
        except OSError:
            self._spare = None
        self.is_tight = self._spare is None

    def _write(self, live: _Live, frames: Sequence[bytes]) -> list[int]:
        try:
            _write_whole(self._disk, live.handle, b"".join(frames), live.size)
        except OSError:
            self._give_up(live)
            raise
        ends = list(accumulate(map(len, frames), initial=live.base + live.size))
        live.size = ends.pop() - live.base
        self.last = ends[-1]
        return ends

    def _give_up(self, live: _Live) -> None:
        """Leave a segment after a torn write, nothing of which may be read."""
        if not self._cut(live):
            # What the torn write can have left stands before the next segment.
            self._leave(live, torn_bytes=2**32)
            return
        try:
            self._disk.sync(live.handle)
        except OSError:
            self._leave(live)
            return
        self._unsynced = []
        self._close(live.handle)
        self._end(live)
        if live.size == segment.HEADER_BYTES:
            with contextlib.suppress(OSError):
                self._disk.remove(live.name)

    def _cut(self, live: _Live) -> bool:
        """Let a segment end where its last frame does; say whether it does."""
        try:
            self._disk.truncate(live.handle, live.size)
        except OSError:
            return False
        return True

    def _leave(self, live: _Live, *, torn_bytes: int = 0) -> None:
        """Never touch a segment again: nobody knows what of it is on disk."""
        self.suspects += 1
        self._close(live.handle)
        self._end(live)
        self._next += torn_bytes

    def _end(self, live: _Live) -> None:
        self._next = live.base + live.size
        self._live = None

    def _rewrite(self) -> None:
        """Write what was not synced to a new segment, and sync that."""
        held = self._unsynced
        size = segment.HEADER_BYTES + self.unsynced_bytes()
        live = self._begin(held[0].first_seq, size)
        try:
            for one in held:
                _write_whole(self._disk, live.handle, b"".join(one.frames), live.size)
                live.size += sum(map(len, one.frames))
                self.last = live.base + live.size - len(one.frames[-1])
            self._disk.sync(live.handle)
        except OSError:
            self._leave(live)
            # It holds copies alone, and there will be others.
            with contextlib.suppress(OSError):
                self._disk.remove(live.name)
            raise
        self._unsynced = []

    def _close(self, handle: int) -> None:
        with contextlib.suppress(OSError):
            self._disk.close(handle)


def _write_whole(disk: Disk, handle: int, data: bytes, at: int) -> None:
    # A full disk takes part of the data first and refuses only the rest.
    while data:
        taken = disk.write(handle, data, at)
        if taken <= 0:
            raise OSError("the disk took no bytes")
        data = data[taken:]
        at += taken
