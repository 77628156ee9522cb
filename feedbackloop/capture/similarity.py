"""How alike two user turns are, without a model.

The largest of three views, since each is blind where another sees: character trigrams forgive
inflection and typing errors, weighted words forgive order, edit distance forgives neither but
sees short texts.
"""

from collections import Counter
from collections.abc import Mapping
from math import sqrt
from re import compile as regex

from feedbackloop.capture.folding import folded

_UNSPACED = r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"  # kana and han: one word each
_WORDS = regex(rf"{_UNSPACED}|(?:(?!{_UNSPACED})\w)+")
_LONG = 2_000  # what a person retypes is shorter; what is pasted is told apart by its beginning


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
    one, other = one[:_LONG], other[:_LONG]
    if not one or not other:
        return 0.0
    return max(_trigrams(one, other), _words(one, other, idf or {}), _edits(one, other))


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
    """Share of the longer text that need not be edited to get the other."""
    return 1 - edit_distance(one, other) / max(len(one), len(other))


def edit_distance(one: str, other: str) -> int:
    """Count the characters to insert, delete or replace to turn one text into the other.

    One column of the classic table is held as the bits of two integers, so that each character
    of ``other`` costs a handful of operations on integers of ``len(one)`` bits.

    References:
        Myers, "A Fast Bit-Vector Algorithm for Approximate String Matching Based on Dynamic
        Programming", JACM 46(3), 1999; for the whole of both texts as in Hyyrö, "A Bit-Vector
        Algorithm for Computing Levenshtein and Damerau Edit Distances", 2003, figure 3.
    """
    if not one:
        return len(other)
    places: dict[str, int] = {}
    for place, character in enumerate(one):
        places[character] = places.get(character, 0) | 1 << place
    everywhere, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    rises, falls, distance = everywhere, 0, len(one)
    for character in other:
        equal = places.get(character, 0)
        diagonal = (((equal & rises) + rises) ^ rises) | equal | falls
        rises_across = falls | ~(diagonal | rises) & everywhere
        falls_across = rises & diagonal
        distance += bool(rises_across & last) - bool(falls_across & last)
        # The table's first row rises by one for each character of ``other``.
        rises_across = (rises_across << 1 | 1) & everywhere
        falls_across = falls_across << 1 & everywhere
        rises = falls_across | ~(diagonal | rises_across) & everywhere
        falls = rises_across & diagonal
    return distance
