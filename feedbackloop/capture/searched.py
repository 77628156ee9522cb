"""Texts that were searched before: each turn of a conversation brings all earlier ones again."""

from collections.abc import Callable, Sequence
from hashlib import blake2b

from feedbackloop.capture.placeholders import Numbers
from feedbackloop.capture.recognisers import Found
from feedbackloop.capture.remembered import Remembered

_TEXT_FINDS = 2
_SHORTEST = 64  # characters below which searching costs no more than remembering


class Searched:
    """What was found in the last texts, by hashes of them: no text is kept.

    Args:
        capacity: How many finds, at 150 bytes; a text counts as two.
    """

    def __init__(self, capacity: int = 30_000) -> None:
        self._found: Remembered[bytes, Sequence[Found]] = Remembered(capacity)

    def search(
        self, text: str, find: Callable[[str, Numbers], Sequence[Found] | None], numbers: Numbers
    ) -> Sequence[Found] | None:
        """Return what ``find`` says of a text, or said; None, which is a failure, is asked anew."""
        if len(text) < _SHORTEST:
            return find(text, numbers)
        name = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        found = self._found.get(name)
        if found is None:
            found = find(text, numbers)
            if found is not None:
                self._found.put(name, found, weight=len(found) + _TEXT_FINDS)
        else:
            self._found.freshen(name)
        return found
