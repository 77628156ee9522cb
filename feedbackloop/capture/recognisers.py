"""What finds personal data in a text, and what several finds come to."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from re import Pattern
from re import compile as regex
from typing import NamedTuple, Protocol
from unicodedata import decimal

_WORD = r"[^\W_\u2e80-\U0003ffff]"
ALONE_BEFORE, ALONE_AFTER = rf"(?<!{_WORD})", rf"(?!{_WORD})"
"""No word goes on here. Scripts without spaces (from U+2E80 on) do not count: in them a number
stands right beside the word before it."""

_DIGITS = regex(r"[0-9]+")
_UNSPACED = "\u2e80"
ALONE = regex(
    r"(?<![\w+(])(?:[0-9]{1,5}|[0-9]{6,19}(?![ -][^\W\d_]))"
    r"(?!\w|:[0-9A-Fa-f:]|[ .\-/+()]{1,4}[0-9])"
)
"""A number that stands alone: no letter, sign or digit beside it makes it part of something."""

ALONE_LEAST = 8
"""Digits of the shortest number that anybody finds where it stands alone."""

_BEFORE, _AFTER = 60, 25  # characters in which a word must stand to say what a number is


class Found(NamedTuple):
    """Where something stands that names a person, or opens a door.

    Attributes:
        start: Its first character.
        end: Just past its last one.
        kind: What it is: ``EMAIL``.
    """

    start: int
    end: int
    kind: str


def joins(text: str, place: int) -> bool:
    """Say whether the character at a place belongs to a word, so that what is beside it does."""
    one = text[place : place + 1] if place >= 0 else ""
    return one.isalnum() and one < _UNSPACED


class Recogniser(Protocol):
    """Finds personal data of some kinds.

    An implementation promises that the same text always gives the same answer, and that it keeps
    nothing of it. It is called on one thread. If it raises, the text is withheld as a whole.
    """

    @property
    def kinds(self) -> Collection[str]:
        """Every kind that it may find: capital letters, digits and underscores."""
        ...

    def find(self, text: str) -> Iterable[Found]:
        """Say what stands where, in any order; finds may overlap."""
        ...


class AtDigits(ABC):
    """Finds what begins with digits, or just before some: a text is searched for these once.

    Attributes:
        finds_alone: Whether it finds anything at a number that stands alone; see ``ALONE``.
    """

    finds_alone = False

    def find(self, text: str) -> Iterable[Found]:
        """Say what stands where."""
        text = plain(text)
        return self.at(text, first_digits(text))

    @abstractmethod
    def at(self, text: str, places: Sequence[int]) -> Iterable[Found]:
        """Say what stands at places.

        Args:
            text: With ASCII's digits; see ``plain``.
            places: Where there is a digit and none before it, in order.
        """


def first_digits(text: str) -> list[int]:
    """Return where digits begin in a text that has ASCII's alone."""
    # Ten looks for one sign each cost less than one look for ten.
    if not any(map(text.__contains__, "0123456789")):
        return []
    return [match.start() for match in _DIGITS.finditer(text)]


class Context:
    """Words that say what a number is, where its form alone does not.

    Args:
        words: Patterns of whole words, divided by bars, in small letters.
        glued: The same for scripts that put no spaces between words.
    """

    def __init__(self, words: str, glued: str = "") -> None:
        whole = f"{ALONE_BEFORE}(?:{words}){ALONE_AFTER}"
        self._words = regex(f"{whole}|{glued}" if glued else whole)

    def near(self, text: str, start: int, end: int) -> bool:
        """Say whether one of the words stands shortly before a place, or right after it."""
        before = text[max(0, start - _BEFORE) : start].lower()
        return (
            self._words.search(before) is not None
            or self._words.search(text[end : end + _AFTER].lower()) is not None
        )


def merged(found: Iterable[Found]) -> Iterator[Found]:
    """Yield finds that do not overlap, in order, and cover all that was found.

    Of finds that overlap, the longest says the kind; of equally long ones, the first given.
    """
    start = end = length = -1
    kind = ""
    for one in sorted(found, key=lambda one: one.start):
        if one.start >= end:
            if kind:
                yield Found(start, end, kind)
            start, end, length, kind = one.start, one.end, one.end - one.start, one.kind
            continue
        end = max(end, one.end)
        if one.end - one.start > length:
            length, kind = one.end - one.start, one.kind
    if kind:
        yield Found(start, end, kind)


def plain(text: str) -> str:
    """Write digits, dashes, spaces and signs of all scripts as ASCII has them, one for one."""
    # Most letters that ASCII lacks are none of these signs, and translating is slow.
    return text if text.isascii() or _ODD.search(text) is None else text.translate(_PLAIN)


def matches(pattern: Pattern[str], text: str, kind: str) -> Iterator[Found]:
    """Yield every match; of a pattern with a group, that group."""
    group = min(pattern.groups, 1)
    for match in pattern.finditer(text):
        yield Found(match.start(group), match.end(group), kind)


_PLAIN = {
    **{code: str(decimal(chr(code))) for code in range(128, 0x20000) if chr(code).isdecimal()},
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys((0xA0, 0x2007, 0x2009, 0x202F, 0x3000), " "),
    **dict.fromkeys(range(0x2010, 0x2016), "-"),
    0x2212: "-",
}
# Python searches quickly for signs below U+10000 alone; above, some more are taken for one of them.
_ABOVE = "\U00010000"
_ODD = regex(f"[{''.join(one for one in map(chr, _PLAIN) if one < _ABOVE)}{_ABOVE}-\U0001ffff]")
