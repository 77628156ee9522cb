"""How alike two user turns are, without a model.

The largest of three views, since each is blind where another sees: character trigrams forgive
inflection and typing errors, weighted words forgive order, edit distance forgives neither but
sees short texts.
"""

from collections import Counter
from collections.abc import Mapping
from difflib import SequenceMatcher
from math import sqrt
from re import UNICODE
from re import compile as regex

_WORDS = regex(r"\w+", UNICODE)
_LONG = 2_000  # beyond this the matcher's quadratic worst case would show


def similarity(one: str, other: str, *, idf: Mapping[str, float] | None = None) -> float:
    """Compare two texts: 0 is unrelated, 1 identical but for case and white space.

    Args:
        one: A user turn.
        other: Another; the order does not matter.
        idf: Weight of each word from the traffic's own counts; unknown words weigh 1.
    """
    one, other = folded(one), folded(other)
    if one == other:
        return 1.0
    if not one or not other:
        return 0.0
    return max(_trigrams(one, other), _words(one, other, idf or {}), _edits(one, other))


def folded(text: str) -> str:
    """Reduce a text to what is compared: case folded, white space joined."""
    return " ".join(text.casefold().split())


def _trigrams(one: str, other: str) -> float:
    """Cosine of the counts of three characters in a row."""
    left, right = _grams(one), _grams(other)
    dot = sum(count * right[gram] for gram, count in left.items())
    length = sqrt(sum(n * n for n in left.values()) * sum(n * n for n in right.values()))
    return dot / length if length else 0.0


def _grams(text: str) -> Counter[str]:
    padded = f" {text} "
    return Counter(padded[i : i + 3] for i in range(len(padded) - 2))


def _words(one: str, other: str, idf: Mapping[str, float]) -> float:
    """Jaccard index of the two sets of words, each word with its weight."""
    left, right = set(_WORDS.findall(one)), set(_WORDS.findall(other))
    together = sum(idf.get(word, 1.0) for word in left | right)
    return sum(idf.get(word, 1.0) for word in left & right) / together if together else 0.0


def _edits(one: str, other: str) -> float:
    """Share of characters in matching runs; the sorted order makes it symmetric."""
    first, second = sorted((one[:_LONG], other[:_LONG]))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()
