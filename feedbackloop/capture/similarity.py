"""How alike two user turns are, without a model.

The largest of three views, since each is blind where another sees: character trigrams forgive
inflection and typing errors, weighted words forgive order, edit distance forgives neither but
sees short texts.
"""

from collections import Counter
from collections.abc import Mapping
from difflib import SequenceMatcher
from math import sqrt
from re import compile as regex

from feedbackloop.capture.words import MANNER

_UNSPACED = r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"  # kana and han: one word each
_WORDS = regex(rf"{_UNSPACED}|(?:(?!{_UNSPACED})\w)+")
_SUBJECT_WORDS = 4
_MENDED = 0.6  # above this, a word is a respelling of the other
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


def is_other_subject(one: str, other: str, *, strictly: bool = False) -> bool:
    """Say whether two turns differ only in what they are about: a new wish in the same words.

    "What is the capital of France?" and "What is the capital of Spain?" are as alike as a turn
    and its rephrasing. They are told apart by what was exchanged: a few content words for others
    that look nothing like them, everything else being equal. A mended spelling, another function
    word ("can" for "do") or manner ("briefly") is no other subject; another number is.

    Args:
        one: A user turn.
        other: Another.
        strictly: Whether any exchanged content word makes another subject, however much else
            changed: for turns that nothing but likeness shows to belong together.
    """
    left, right = _WORDS.findall(folded(one)[:_LONG]), _WORDS.findall(folded(other)[:_LONG])
    numbers = [sorted(word for word in words if word.isdecimal()) for words in (left, right)]
    if all(numbers) and numbers[0] != numbers[1]:
        return True
    if strictly:
        return _exchanges(_content(left, beyond=right), _content(right, beyond=left))
    changes = [
        (left[i:j], right[k:m])
        for tag, i, j, k, m in SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
        if tag != "equal"
    ]
    kept = len(left) - sum(len(gone) for gone, _ in changes)
    small = all(max(len(gone), len(new)) <= _SUBJECT_WORDS for gone, new in changes)
    return kept > 0 and small and bool(changes) and all(_exchanges(*change) for change in changes)


def _exchanges(gone: list[str], new: list[str]) -> bool:
    if not gone or not new or any(_is_manner(word) for word in [*gone, *new]):
        return False
    return _edits("".join(gone), "".join(new)) < _MENDED


def _content(words: list[str], *, beyond: list[str]) -> list[str]:
    return [word for word in words if word not in beyond and not _is_manner(word)]


def _is_manner(word: str) -> bool:
    return word in MANNER or word.endswith("ly")


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
