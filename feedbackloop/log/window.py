"""Leave out what the log holds twice: a forwarder repeats itself after a crash.

A repeat has the event id and the bytes of an entry that is among the last ``entries`` ones kept.
What a file holds follows from the entries before it alone, however they were cut into files, so
that two who archive the same partition write the same rows. Two records of one event that differ
are both kept: who reads decides which one knows more.
"""

from collections import deque
from collections.abc import Iterable


class Window:
    """The entries kept last, as event ids and the hashes of their bytes."""

    def __init__(self, entries: int, kept: Iterable[tuple[str, int]] = ()) -> None:
        self._entries = entries
        self._order: deque[str] = deque()
        self._hashes: dict[str, tuple[int, ...]] = {}
        for event_id, number in kept:
            self._keep(event_id, number)

    def keeps(self, event_id: str, number: int) -> bool:
        """Say whether an entry is none of those kept last; if so, it is one of them now."""
        known = self._hashes.get(event_id)
        if known is not None and number in known:
            return False
        self._keep(event_id, number)
        return True

    def _keep(self, event_id: str, number: int) -> None:
        known = self._hashes.get(event_id)
        self._hashes[event_id] = (number,) if known is None else (*known, number)
        self._order.append(event_id)
        if len(self._order) > self._entries:
            oldest = self._order.popleft()
            rest = self._hashes.pop(oldest)[1:]
            if rest:
                self._hashes[oldest] = rest
