"""Texts that were searched before: each turn of a conversation brings all earlier ones again."""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b

from feedbackloop.capture.recognisers import Found

_SHORTEST = 64  # characters below which searching costs no more than remembering


class Searched:
    """What was found in the last texts, by keyed hashes of them: no text is kept.

    Args:
        capacity: Of how many texts; a place takes about 300 bytes and 100 for each find.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._key = secrets.token_bytes(32)
        self._found: OrderedDict[bytes, Sequence[Found]] = OrderedDict()

    def search(
        self, text: str, find: Callable[[str], Sequence[Found] | None]
    ) -> Sequence[Found] | None:
        """Return what ``find`` says of a text, or said; None, which is a failure, is asked anew."""
        if len(text) < _SHORTEST:
            return find(text)
        total = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._key)
        name = total.digest()
        found = self._found.get(name)
        if found is None:
            found = find(text)
            if found is not None:
                self._keep(name, found)
        else:
            self._found.move_to_end(name)
        return found

    def _keep(self, name: bytes, found: Sequence[Found]) -> None:
        self._found[name] = found
        if len(self._found) > self._capacity:
            self._found.popitem(last=False)
