"""Which words are forms of one, or respellings? Told by their letters, in whatever language."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import ceil
from re import compile as regex

from feedbackloop.capture.similarity import edit_distance

_HANGUL = regex(r"[\uac00-\ud7af]+")
_STEM_LETTERS = 3
_STEM_SHARE = 0.6  # of the shorter form that two forms of one word begin with
_FORM_SHARE = 0.42  # of the longer form
_MENDED = 0.7  # share of letters in common at which a word is a respelling of another
_MENDED_LETTERS = 4
_SHARE_MENDED = 1 - _MENDED + 1e-9
_PART_LETTERS = 5
_ADDED_LETTERS = 4  # by a word put before another; methanol is no kind of ethanol
_PART_SHARE = 0.75  # of the shorter word
_REMEMBERED = 20_000  # words: nearly all that people say in a language
_LANES = 64  # letters are told apart by so many bits, which is enough to tell words apart


def is_form(word: str, other: str) -> bool:
    """Say whether two words are forms of one, or one of them is misspelt."""
    if word == other:
        return True
    if word.isdecimal() or other.isdecimal():
        return False
    shorter, longer = len(word), len(other)
    if shorter > longer:
        shorter, longer = longer, shorter
    begin = 0
    if word[0] == other[0]:
        pairs = zip(word, other, strict=False)
        begin = next((n for n, (a, b) in enumerate(pairs) if a != b), shorter)
    if not word.isascii() and _HANGUL.match(word):
        return begin >= 2 or begin >= longer / 2  # noqa: PLR2004  # a syllable is half a word
    if begin >= _STEM_LETTERS and begin >= max(_STEM_SHARE * shorter, _FORM_SHARE * longer):
        return True
    if shorter < _MENDED_LETTERS or longer - shorter > _SHARE_MENDED * longer:
        return False  # each edit mends one letter of length
    return _is_respelling(word, other, longer)


def _is_respelling(word: str, other: str, longer: int) -> bool:
    if word[0] == other[0] and sorted(word) == sorted(other):
        return True
    # Most pairs are told apart by what costs little.
    if (_letters(word) ^ _letters(other)).bit_count() > _most_apart(len(word), len(other)):
        return False
    return edit_distance(word, other) <= _SHARE_MENDED * longer


def is_part(word: str, other: str) -> bool:
    """Say whether most of a word's letters stand in another in a row: kettle, tea-kettle."""
    shorter = min(len(word), len(other))
    if shorter < _PART_LETTERS or word.isdecimal() or other.isdecimal():
        return False
    size = ceil(max(_PART_LETTERS, _PART_SHARE * shorter))
    part, whole = sorted((word, other), key=len)
    return any(part[start : start + size] in whole for start in range(shorter - size + 1))


def is_end(word: str, other: str) -> bool:
    """Say whether another word is a compound of this one: "contract", "gym-contract"."""
    most = len(other) - _ADDED_LETTERS
    return _STEM_LETTERS < len(word) <= most and other.endswith(word)


@lru_cache(maxsize=4_096)
def parts(word: str) -> tuple[str, ...]:
    """Return the shortest runs of letters that a part of a word can be; such words share one."""
    return tuple(word[n : n + _PART_LETTERS] for n in range(len(word) - _PART_LETTERS + 1))


class Forms:
    """Words, in which forms of others are looked up without comparing each with each.

    Args:
        words: In their order.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._same: dict[str, list[int]] = {}
        self._stems: dict[str, list[int]] = {}
        self._sizes: dict[int, list[tuple[int, int]]] = {}
        for place, word in enumerate(words):
            self._same.setdefault(word, []).append(place)
            self._stems.setdefault(_stem(word), []).append(place)
            if len(word) >= _MENDED_LETTERS:
                self._sizes.setdefault(len(word), []).append((place, _letters(word)))

    def __contains__(self, word: str) -> bool:
        """Say whether a word is one of these, or a form of one."""
        return word in self._same or next(self.like(word), None) is not None

    def like(self, word: str) -> Iterator[int]:
        """Yield the places of the words that another is a form of, but is not, in their order."""
        return (place for place in self._near(word) if is_form(word, self._words[place]))

    def named(self, words: Sequence[str]) -> list[str]:
        """Write words as these have them, where they are forms of each other."""
        names = {word: self._name(word) for word in set(words)}
        return [names[word] for word in words]

    def twins(self, words: Sequence[str]) -> list[int | None]:
        """Pair each word with the first of these that is left: itself, or else a form of it."""
        taken: set[int] = set()
        found: list[int | None] = []
        for word in words:
            twin = next((one for one in self._same.get(word, ()) if one not in taken), None)
            if twin is None:
                twin = next((one for one in self.like(word) if one not in taken), None)
            if twin is not None:
                taken.add(twin)
            found.append(twin)
        return found

    def _name(self, word: str) -> str:
        if word in self._same:
            return word
        return next((self._words[place] for place in self.like(word)), word)

    def _near(self, word: str) -> list[int]:
        """Return where forms of a word can stand, and little else."""
        near = {*self._stems.get(_stem(word), ())}
        letters = _letters(word)
        for size, most in _sizes_near(len(word)):
            for place, known in self._sizes.get(size, ()):
                if (known ^ letters).bit_count() <= most:
                    near.add(place)
        return sorted(near)


def _stem(word: str) -> str:
    """Return what two forms of one word have in common at least."""
    syllables = not word.isascii() and _HANGUL.match(word)
    return word[:1] if syllables else word[:_STEM_LETTERS]


@lru_cache(maxsize=_REMEMBERED)
def _letters(word: str) -> int:
    """Return a word's letters as bits, those that stand twice as others; some may share one."""
    once = twice = 0
    for letter in word:
        bit = 1 << ord(letter) % _LANES
        twice |= once & bit
        once |= bit
    return twice << _LANES | once


@lru_cache(maxsize=1_024)
def _most_apart(size: int, other: int) -> int:
    """Return in how many letters respellings of such lengths can differ, in either direction.

    An edit takes one letter and puts another, or does one of the two.
    """
    return 2 * int(_SHARE_MENDED * max(size, other)) - abs(size - other)


@lru_cache(maxsize=1_024)
def _sizes_near(size: int) -> tuple[tuple[int, int], ...]:
    """Return how long the respellings of a word can be, and how far apart such two at most."""
    sizes = range(_MENDED_LETTERS, 2 * size) if size >= _MENDED_LETTERS else ()
    return tuple(
        (other, _most_apart(size, other))
        for other in sizes
        if abs(size - other) <= _SHARE_MENDED * max(size, other)
    )
