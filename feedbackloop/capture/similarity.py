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
_ASCII = regex(r"\w+")
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
    best = max(_trigrams(one, other), _words(one, other, idf or {}))
    return max(best, _edits(one, other)) if _most_kept(one, other, best) > best else best


def is_similar(
    one: str, other: str, *, least: float, idf: Mapping[str, float] | None = None
) -> bool:
    """Say whether ``similarity`` is ``least`` or more, at less cost.

    Args:
        one: A user turn.
        other: Another; the order does not matter.
        least: In [0, 1].
        idf: As for ``similarity``.
    """
    one, other = folded(one), folded(other)
    if one == other or least <= 0:
        return least <= 1
    one, other = one[:_LONG], other[:_LONG]
    if not one or not other:
        return False
    return (
        _words(one, other, idf or {}) >= least
        or _trigrams(one, other) >= least
        or (_most_kept(one, other, least) >= least and _edits(one, other) >= least)
    )


def _trigrams(one: str, other: str) -> float:
    """Cosine of the counts of three characters in a row."""
    left, right = _grams(one), _grams(other)
    dot = sum([left[gram] * right[gram] for gram in left.keys() & right.keys()])
    length = sqrt(_square(left) * _square(right))
    return dot / length if length else 0.0


def _square(counts: Counter[tuple[str, str, str]]) -> int:
    return sum([n * n for n in counts.values()])


def _grams(text: str) -> Counter[tuple[str, str, str]]:
    padded = f" {text} "
    return Counter(zip(padded, padded[1:], padded[2:], strict=False))


def _words(one: str, other: str, idf: Mapping[str, float]) -> float:
    """Jaccard index of the two sets of words, each word with its weight."""
    left, right = set(_split(one)), set(_split(other))
    if not idf:
        return len(left & right) / len(left | right) if left or right else 0.0
    together = sum(idf.get(word, 1.0) for word in left | right)
    return sum(idf.get(word, 1.0) for word in left & right) / together if together else 0.0


def _split(text: str) -> list[str]:
    return (_ASCII if text.isascii() else _WORDS).findall(text)


def _edits(one: str, other: str) -> float:
    """Share of the longer text that need not be edited to get the other."""
    return 1 - edit_distance(one, other) / max(len(one), len(other))


def _most_kept(one: str, other: str, least: float) -> float:
    """Return an upper bound of ``_edits``, or less than ``least`` if that is sure to be less.

    What is not edited stands in both texts, in one order.

    References:
        Hyyrö, "Bit-Parallel LCS-length Computation Revisited", AWOCA 2004.
    """
    shorter, longer = sorted((len(one), len(other)))
    if 1 - (longer - shorter) / longer < least:
        return -1.0
    places = _places(one)
    everywhere = rest = (1 << len(one)) - 1
    for character in other:
        same = rest & places.get(character, 0)
        rest = (rest + same | rest - same) & everywhere
    common = len(one) - rest.bit_count()
    return 1 - (longer - common) / longer


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
    places = _places(one)
    everywhere = (1 << len(one)) - 1
    rises, falls = everywhere, 0
    for character in other:
        equal = places.get(character, 0)
        diagonal = ((((equal & rises) + rises) ^ rises) | equal | falls) & everywhere
        # The table's first row rises by one for each character of ``other``.
        rises_across = (falls | everywhere ^ (diagonal | rises)) << 1 | 1
        falls_across = (rises & diagonal) << 1
        rises = (falls_across | everywhere ^ everywhere & (diagonal | rises_across)) & everywhere
        falls = rises_across & diagonal
    # Down the table's last column.
    return len(other) + rises.bit_count() - falls.bit_count()


def _places(text: str) -> dict[str, int]:
    """Return where each character stands, as bits."""
    places: dict[str, int] = {}
    for place, character in enumerate(text):
        places[character] = places.get(character, 0) | 1 << place
    return places
