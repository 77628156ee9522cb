"""A spool shared with a child process: memory that both see, and a pipe that wakes the child.

The child inherits the handles. It holds the lock of the spool's folder with its parent, so that
nobody else opens the folder before both are gone; and it meets the end of the pipe once its parent
is gone, however that came about.
"""

import contextlib
import mmap
import os
from collections.abc import Callable

import msgspec

from feedbackloop.log.board import BYTES, Board, NearBell


class Handles(msgspec.Struct, frozen=True, kw_only=True):
    """What a child has to be told of the spool that it inherits.

    Attributes:
        producer: Incarnation of the process that writes.
        board: Memory with the board.
        bell: Where the pipe is read.
        lock: Holds the folder's lock for as long as it is open.
        folder: The folder itself, wherever it is by now; -1 from a parent that does not share it.
    """

    producer: str
    board: int
    bell: int
    lock: int
    folder: int = -1


class Share:
    """The parent's end, and the bell that it rings."""

    def __init__(self) -> None:
        self._memory = os.memfd_create("feedbackloop-spool")
        os.ftruncate(self._memory, BYTES)
        self.board = open_board(self._memory)
        self._heard, self._rings = os.pipe()
        # Full of calls that were not heard yet, it needs no further one.
        os.set_blocking(self._rings, False)
        self._lock = self._folder = -1

    def hold(self, *, lock: int, folder: int) -> None:
        """Keep a folder and its lock until ``close``, for the child to have; once."""
        self._lock, self._folder = os.dup(lock), os.dup(folder)

    def handles(self, producer: str) -> Handles:
        """Return what the child is to inherit."""
        return Handles(
            producer=producer,
            board=self._memory,
            bell=self._heard,
            lock=self._lock,
            folder=self._folder,
        )

    def ring(self) -> None:
        if self.board.waits:
            self.board.waits = 0
            self.call()

    def call(self) -> None:
        """Wake the child, whatever it waits for."""
        with contextlib.suppress(OSError):
            os.write(self._rings, b".")

    def close(self) -> None:
        """Give the handles back; a child that still lives ends. Safe to call twice."""
        for handle in (self._memory, self._heard, self._rings, self._lock, self._folder):
            if handle >= 0:
                os.close(handle)
        self._memory = self._heard = self._rings = self._lock = self._folder = -1


class FarBell:
    """The child's end of the pipe; somebody has to ``listen`` for the others."""

    def __init__(self, handles: Handles) -> None:
        self._board = open_board(handles.board)
        self._handle = handles.bell
        self._near = NearBell()

    def fileno(self) -> int:
        """Return what can be read when the bell rang, or nobody can ring it any more."""
        return self._handle

    def listen(self) -> bool:
        """Wake those who wait here; False if the parent is gone."""
        heard = os.read(self._handle, 4096)
        self.ring()
        return bool(heard)

    def ring(self) -> None:
        self._near.ring()

    def wait_for(self, happened: Callable[[], bool], timeout_seconds: float) -> bool:
        def look() -> bool:
            # First of all: whatever happens after the look rings.
            self._board.waits = 1
            return happened()

        try:
            return self._near.wait_for(look, timeout_seconds)
        finally:
            self._board.waits = 0


def open_board(memory: int) -> Board:
    """Map a board that another process may have mapped, too."""
    return Board(memoryview(mmap.mmap(memory, BYTES)))
