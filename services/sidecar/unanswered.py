"""Requests that were opened and have not closed: what was asked waits for what was answered."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta

import msgspec

from feedbackloop.capture.record import Opened
from feedbackloop.events import CompletionId
from feedbackloop.log.port import Frame

MEMORY_BYTES = 96 * 2**20
"""What open requests may take; beyond it the oldest counts as ended."""
_GIVEN_UP = 1_000  # requests whose end may still come
_GIVEN_UP_BYTES = 32 * 2**20
_PATIENCE = timedelta(hours=1)  # longer than a reply takes: after that its end was shed


class Waiting(msgspec.Struct, frozen=True):
    """An opened request whose end was not yet read, and the entry just before it."""

    before: int
    frame: Frame
    opened: Opened

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return len(self.opened.body) + 1_000


class Unanswered:
    """Those of one spool, in its order. Memory is bounded, and so is what they hold up.

    Args:
        held_bytes: How much of the spool a request that is open may hold up.
        memory_bytes: How much all of them may take.
    """

    def __init__(self, *, held_bytes: int, memory_bytes: int = MEMORY_BYTES) -> None:
        self._held_bytes = held_bytes
        self._memory_bytes = memory_bytes
        self._open: dict[CompletionId, Waiting] = {}
        self._open_bytes = 0
        self._given_up: OrderedDict[CompletionId, Waiting] = OrderedDict()
        self._given_up_bytes = 0

    def anew(self) -> "Unanswered":
        """Return an empty one with the same bounds."""
        return Unanswered(held_bytes=self._held_bytes, memory_bytes=self._memory_bytes)

    def add(self, waiting: Waiting) -> None:
        """Wait for a request's end."""
        self._take(waiting.opened.completion_id)
        self._open[waiting.opened.completion_id] = waiting
        self._open_bytes += waiting.size

    def end(self, name: CompletionId) -> Waiting | None:
        """Return the request that has ended, also one that was given up; None if it is unknown."""
        return self._take(name) or self._forget(name)

    def gone(self, newest: Frame) -> Sequence[Waiting]:
        """Give up, and return, whose end will not come, or is not waited for any more.

        An incarnation has died if a younger one wrote ``newest``; an end that does not come was
        shed, and its request would keep the spool from letting go for ever.
        """
        found: list[Waiting] = []
        # They were opened in order: the oldest stand first.
        while (oldest := next(iter(self._open.values()), None)) is not None:
            if self._open_bytes <= self._memory_bytes and not self._is_gone(oldest.frame, newest):
                break
            self._take(oldest.opened.completion_id)
            self._give_up(oldest)
            found.append(oldest)
        return found

    def left_by_the_dead(self, alive: str) -> Sequence[Waiting]:
        """Take out, and return, what no incarnation but ``alive`` has opened."""
        left = [one for one in self._open.values() if one.frame.producer != alive]
        for one in left:
            self._take(one.opened.completion_id)
        return left

    def before_first(self) -> int | None:
        """Return the place before the oldest one; None if none is open."""
        return next((one.before for one in self._open.values()), None)

    def _is_gone(self, frame: Frame, newest: Frame) -> bool:
        return (
            frame.producer != newest.producer
            or newest.at - frame.at > _PATIENCE
            or newest.position - frame.position > self._held_bytes
        )

    def _take(self, name: CompletionId) -> Waiting | None:
        taken = self._open.pop(name, None)
        self._open_bytes -= 0 if taken is None else taken.size
        return taken

    def _give_up(self, waiting: Waiting) -> None:
        self._given_up[waiting.opened.completion_id] = waiting
        self._given_up_bytes += waiting.size
        while len(self._given_up) > _GIVEN_UP or self._given_up_bytes > _GIVEN_UP_BYTES:
            self._forget(next(iter(self._given_up)))

    def _forget(self, name: CompletionId) -> Waiting | None:
        forgotten = self._given_up.pop(name, None)
        self._given_up_bytes -= 0 if forgotten is None else forgotten.size
        return forgotten
