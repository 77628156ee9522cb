"""What the two halves of a spool tell each other: a few whole numbers in memory that both see.

The halves may be two threads or two processes. Each number is stored at once, so that neither half
ever reads a torn one, and neither waits for the other.
"""

import threading
from collections.abc import Callable
from typing import Protocol

BYTES = 64
"""Of a board, where it is shared with another process."""


class _Cell:
    """One number of a board."""

    def __init__(self, place: int) -> None:
        self._place = place

    def __get__(self, board: "Board", owner: type) -> int:
        return board.cells[self._place]

    def __set__(self, board: "Board", value: int) -> None:
        board.cells[self._place] = value


class Board:
    """Numbers. The writer's: ``tail``, ``synced``, ``opened``, ``ending``; the rest: the reader's.

    Args:
        memory: ``BYTES`` long, zeros at first; None for memory of this process alone.
    """

    tail = _Cell(0)
    """Position of the last record that can be read."""
    synced = _Cell(1)
    """Position of the last record that is on disk."""
    through = _Cell(2)
    """Position through which everything was forwarded."""
    checkpoint = _Cell(3)
    """The same, as far as the disk knows it."""
    quarantined = _Cell(4)
    """How many damaged segments were kept."""
    waits = _Cell(5)
    """1 while the reader sleeps, and wants to be woken."""
    ending = _Cell(6)
    """1 once nothing more is written: the reader finishes, and ends."""
    opened = _Cell(7)
    """1 once there is a folder to read: its disk may have failed so far."""

    def __init__(self, memory: memoryview | None = None) -> None:
        self.cells = (memoryview(bytearray(BYTES)) if memory is None else memory).cast("q")

    def clear(self) -> None:
        """Say that there is nothing yet, as long as nobody else looks."""
        self.tail = self.synced = self.through = self.checkpoint = -1


class Rings(Protocol):
    """Tells a reader that something was written, wherever that reader is."""

    def ring(self) -> None:
        """Wake whoever waits. From any thread, at once."""
        ...


class Bell(Rings, Protocol):
    """The same, heard here."""

    def wait_for(self, happened: Callable[[], bool], timeout_seconds: float) -> bool:
        """Block until ``happened()``, looking whenever the bell rings; False if time ran out."""
        ...


class NearBell:
    """Between threads of one process."""

    def __init__(self) -> None:
        self._rung = threading.Condition()

    def ring(self) -> None:
        with self._rung:
            self._rung.notify_all()

    def wait_for(self, happened: Callable[[], bool], timeout_seconds: float) -> bool:
        with self._rung:
            return self._rung.wait_for(happened, timeout_seconds)
