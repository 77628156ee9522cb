"""Numbers that are nothing but digits, told apart by how they are grouped and by their sums.

Digits with single separators between them make a run, and each few groups of a run that have a
known shape are checked: ``999-99-9999``. So a text costs one scan, however many kinds of number
are known, and a number is found beside others.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from re import compile as regex
from typing import NamedTuple

from feedbackloop.capture.recognisers import ALONE_LEAST, AtDigits, Context, Found, joins

_RUN = regex(r"[0-9]+(?:[ .\-/][0-9]+)*")
_GROUP = regex(r"[0-9]+")
_SHAPE = str.maketrans("012345678", "999999999")
_BARE = str.maketrans("", "", " .-/")
_GROUPS = 8  # of the longest shape
_SHORT = 40  # characters of a run that is like many others
_REMEMBERED = 1_000  # shapes of such runs


class Number(NamedTuple):
    """A kind of number.

    Attributes:
        kind: What it is: ``US_SSN``.
        is_valid: Whether digits of the right length are such a number.
        shapes: How it is written; a 9 stands for any digit.
        loose: Ways of writing it that count only in its context.
        context: Words that announce it.
    """

    kind: str
    is_valid: Callable[[str], bool]
    shapes: Sequence[str] = ()
    loose: Sequence[str] = ()
    context: Context | None = None


_Window = tuple[int, int, Sequence[tuple[Number, bool]]]


class DigitRecogniser(AtDigits):
    """Finds numbers of known shapes, of which none is shorter than ``ALONE_LEAST``."""

    finds_alone = True

    def __init__(self, numbers: Sequence[Number]) -> None:
        self.kinds = frozenset(one.kind for one in numbers)
        self._by_shape: dict[str, list[tuple[Number, bool]]] = {}
        for one in numbers:
            for shape in (*one.shapes, *one.loose):
                known = self._by_shape.setdefault(shape, [])
                known.append((one, shape in one.loose))
        self._longest = max(map(len, self._by_shape))
        self._windows_of = lru_cache(_REMEMBERED)(self._windows)

    def at(self, text: str, places: Sequence[int]) -> list[Found]:
        found: list[Found] = []
        end = 0
        for start in places:
            match = None if start < end else _RUN.match(text, start)
            if match is None:
                continue
            end = match.end()
            if end - start >= ALONE_LEAST:
                for first, last, known in self._known(match.group()):
                    found += _checked(text, start + first, start + last, known)
        return found

    def _known(self, run: str) -> list[_Window]:
        find = self._windows_of if len(run) <= _SHORT else self._windows
        return find(run.translate(_SHAPE))

    def _windows(self, shape: str) -> list[_Window]:
        """Return the parts of a run that are written like some numbers."""
        windows: list[_Window] = []
        groups = [one.span() for one in _GROUP.finditer(shape)]
        for number, (first, _) in enumerate(groups):
            for _, last in groups[number : number + _GROUPS]:
                if last - first > self._longest:
                    break
                if known := self._by_shape.get(shape[first:last]):
                    windows.append((first, last, known))
        return windows


def _checked(text: str, start: int, end: int, known: Sequence[tuple[Number, bool]]) -> list[Found]:
    digits = text[start:end].translate(_BARE)
    found: list[Found] = []
    # Most digits are no such number, which is seen sooner than what stands beside them.
    valid = [one for one in known if one[0].is_valid(digits)]
    if not valid or not _stands_alone(text, start, end):
        return found
    for number, is_loose in valid:
        near = number.context is not None and number.context.near(text, start, end)
        if near or not is_loose:
            # What is announced by name outranks what only looks like it.
            found.append(Found(start, end, number.kind))
            if near:
                break
    return found


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Say whether digits are no part of a word, of a fraction, or of a longer number."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if joins(text, start - 1) or joins(text, end):
        return False
    inner = text[start:end].strip("0123456789")
    sign = inner[:1] or "."
    if sign == " ":
        return True
    is_longer = before == sign and text[start - 2 : start - 1].isdigit()
    return not is_longer and not (after == sign and text[end + 1 : end + 2].isdigit())
