"""What stands where personal data stood: ``[EMAIL_1]``."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from re import compile as regex

from feedbackloop.capture.recognisers import Found

PLACEHOLDER = regex(r"\[([A-Z][A-Z0-9_]*)_([1-9]\d{0,8})\]")
MEDIA, TOKENS, WITHHELD = "MEDIA", "TOKENS", "WITHHELD"
"""Kinds of what cannot be searched: pictures, sounds and files; a prompt in token ids; a text that
made a recogniser fail."""

RESERVED = frozenset({MEDIA, TOKENS, WITHHELD})

UNTRAINED = ("SECRET", "URL_CREDENTIALS", MEDIA, TOKENS, WITHHELD)
"""Kinds that no model should learn to say: what stood there was a secret, or was never searched."""

_SEPARATORS = str.maketrans("", "", " .-/()\u00a0")
_NUMBERED = regex(r"_(?<=[A-Z0-9]_)\d{1,9}\]")


def unnumbered(text: str) -> str:
    """Leave placeholders' numbers out: two cuts of one conversation may differ in them."""
    return _NUMBERED.sub("]", text) if "]" in text else text


def kinds(text: str) -> set[str]:
    """Return the kinds of the placeholders in a text."""
    return {match[1] for match in PLACEHOLDER.finditer(text)} if "[" in text else set()


class Tally:
    """What redaction did.

    Attributes:
        removed: How many were removed of each kind.
        failed: How many texts could not be searched, by recogniser and error.
    """

    def __init__(self) -> None:
        self.removed: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()


class Numbers:
    """Which value has which number, in the order in which they are met.

    Values are kept as hashes, in memory alone.

    Attributes:
        tally: What was removed and what could not be searched; several may count together.
    """

    def __init__(self, tally: Tally | None = None) -> None:
        self._of: dict[tuple[str, bytes], int] = {}
        self._last: dict[str, int] = {}
        self.tally = Tally() if tally is None else tally

    def __len__(self) -> int:
        return len(self._of)

    def branch(self) -> "Numbers":
        """Return numbers that go on from these."""
        one = Numbers(self.tally)
        one._of, one._last = dict(self._of), dict(self._last)  # one of us
        return one

    def heed(self, text: str) -> None:
        """Leave the numbers alone that placeholders in a text have already."""
        if "[" in text:
            for kind, number in PLACEHOLDER.findall(text):
                self._last[kind] = max(self._last.get(kind, 0), int(number))

    def placeholder(self, kind: str, value: str) -> str:
        """Return what stands for a value: the same for the same one, however it is written."""
        bare = value.lower().translate(_SEPARATORS)
        key = (kind, blake2b(bare.encode("utf-8", "surrogatepass"), digest_size=16).digest())
        number = self._of.get(key)
        if number is None:
            number = self._of[key] = self._last.get(kind, 0) + 1
            self._last[kind] = number
        self.tally.removed[kind] += 1
        return f"[{kind}_{number}]"

    def replaced(self, text: str, found: Sequence[Found]) -> str:
        """Put placeholders for what was found, in order and without overlaps.

        What is a placeholder already stays as it is.
        """
        if not found:
            return text
        taken = [match.span() for match in PLACEHOLDER.finditer(text)] if "[" in text else []
        # With one of nowhere, so that there is always one before.
        taken.insert(0, (-1, -1))
        firsts = [first for first, _ in taken]
        parts: list[str] = []
        at = 0
        for one in found:
            start, end, kind = one
            # A placeholder is never cut in two. They do not overlap: of those that begin before a
            # place, the last one alone can reach past it.
            first, last = taken[bisect_right(firsts, start) - 1]
            if end <= last:
                continue
            start = first if start < last else start
            end = max(end, taken[bisect_left(firsts, end) - 1][1])
            parts += (text[at:start], self.placeholder(kind, text[start:end]))
            at = end
        return "".join((*parts, text[at:]))
