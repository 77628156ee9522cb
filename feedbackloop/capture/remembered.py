"""What is remembered for a while, in bounded memory."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Remembered(Generic[_Key, _Value]):
    """Values by key. What was put in longest ago is forgotten once all of it weighs too much.

    Args:
        capacity: How much all values may weigh together; the last one stays, whatever it weighs.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: OrderedDict[_Key, tuple[_Value, int]] = OrderedDict()
        self.weight = 0
        """Of all that is remembered."""

    def __len__(self) -> int:
        return len(self._held)

    def items(self) -> Iterator[tuple[_Key, _Value]]:
        """Yield keys and values, the oldest first."""
        return ((key, value) for key, (value, _) in self._held.items())

    def get(self, key: _Key) -> _Value | None:
        """Return what is remembered under a key; None if nothing is."""
        held = self._held.get(key)
        return None if held is None else held[0]

    def freshen(self, key: _Key) -> None:
        """Count what is remembered under a key as put in now."""
        self._held.move_to_end(key)

    def put(self, key: _Key, value: _Value, *, weight: int) -> None:
        """Remember a value, in place of the one that the key had."""
        before = self._held.pop(key, None)
        if before is not None:
            self.weight -= before[1]
        self._held[key] = value, weight
        self.weight += weight
        while self.weight > self._capacity and len(self._held) > 1:
            _, (_, forgotten) = self._held.popitem(last=False)
            self.weight -= forgotten
