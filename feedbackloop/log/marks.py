"""How far each producer of a spool has numbered, in memory that outlives its process.

A record that waits in memory when its process is killed is gone, and so is the word that it ever
had a number. A mark keeps that word: the next number, stored before the record is handed over.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """What a mark says of a producer that has died.

    Attributes:
        producer: Incarnation of the process.
        given: The number that it would have given next.
        written: Every number below this one stood in a segment, as a record or within a gap.
    """

    producer: str
    given: int
    written: int


class Mark(Protocol):
    """The mark of the producer that lives. Neither waits nor fails, whatever the disk does."""

    def give(self, following: int) -> None:
        """Note that every number below ``following`` is given."""
        ...

    def wrote(self, following: int) -> None:
        """Note that every number below ``following`` stands in a segment."""
        ...

    def remove(self) -> None:
        """Take the mark away: nothing is left to be said. Safe to call twice."""
        ...


class Marks(Protocol):
    """The marks of one spool's producers.

    Promises, held by ``tests/contracts/test_marks.py``:

    - What was noted last is read after a kill of the process. A loss of power may take it.
    - A producer that lives is never among the dead.
    """

    def begin(self, producer: str) -> Mark:
        """Make the mark of a new producer, which has given no number yet.

        Raises:
            OSError: If there is no room, or no place, for it.
        """
        ...

    def dead(self) -> Sequence[Life]:
        """Return what producers of this spool have left that did not come to their end."""
        ...

    def remove(self, producer: str) -> None:
        """Take away the mark of a dead producer, for whom everything is said."""
        ...


class NoMark:
    """Notes nothing."""

    def give(self, following: int) -> None:
        pass

    def wrote(self, following: int) -> None:
        pass

    def remove(self) -> None:
        pass


class Unmarked:
    """Of a spool whose producers leave no marks."""

    def begin(self, producer: str) -> Mark:
        del producer
        return NoMark()

    def dead(self) -> Sequence[Life]:
        return ()

    def remove(self, producer: str) -> None:
        pass
