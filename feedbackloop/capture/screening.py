"""Which recognisers a text is worth: most texts hold no sign of what most of them look for.

All signs are looked for at once (Aho and Corasick, Efficient string matching, 1975), which takes as
long however many there are; digits are signs, too.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ahocorasick_rs import AhoCorasick, Implementation

from feedbackloop.capture.recognisers import (
    ALONE,
    ALONE_LEAST,
    AtDigits,
    Recogniser,
    first_digits,
)

_DIGITS = "0123456789"


@runtime_checkable
class Signed(Protocol):
    """A recogniser that finds something only where one of its signs stands.

    Attributes:
        signs: In small letters; digits, dashes and brackets as ASCII has them.
    """

    signs: Collection[str]


class Look(NamedTuple):
    """What a first look at a text shows.

    Attributes:
        places: Where digits begin, as far as something may be found there; see ``AtDigits.at``.
        worth: The places of recognisers that may find something, in order.
    """

    places: Sequence[int]
    worth: Sequence[int]


class Screen:
    """Knows the signs of all recognisers.

    Args:
        recognisers: Those without signs are worth every text.
    """

    def __init__(self, recognisers: Sequence[Recogniser]) -> None:
        owners: dict[str, set[int]] = {digit: set() for digit in _DIGITS}
        for number, one in enumerate(recognisers):
            for sign in _signs(one):
                owners.setdefault(sign, set()).add(number)
        self._owners = list(owners.values())
        self._search = AhoCorasick(list(owners), implementation=Implementation.DFA)
        self._all = range(len(recognisers))
        signed = set().union(*self._owners)
        self._always = [number for number in self._all if number not in signed]
        alone = (n for n in owners["0"] if getattr(recognisers[n], "finds_alone", True))
        self._at_digits = sorted({*self._always, *owners["0"]})
        self._at_alone = sorted({*self._always, *alone})

    def look(self, text: str) -> Look:
        """Look at a text, in which digits, dashes and brackets are ASCII's; see ``plain``."""
        small = text.lower()
        try:
            hits = self._search.find_matches_as_indexes(small, overlapping=True)
        except UnicodeError:
            return Look(first_digits(text), self._all)  # half a character stands in it
        if not hits:
            return Look((), self._always)
        places, seen, end = [], set(), -1
        for sign, start, after in hits:
            if sign >= len(_DIGITS):
                seen.add(sign)
            elif start == end:
                end = after
            else:
                places.append(start)
                end = after
        if len(small) != len(text):  # in few scripts a small letter is two
            places = first_digits(text)
        look = self._at(text, places)
        if not seen:
            return look
        others = (number for sign in seen for number in self._owners[sign])
        return Look(look.places, sorted({*look.worth, *others}))

    def _at(self, text: str, places: Sequence[int]) -> Look:
        """Say what the digits in a text are worth: most numbers stand alone, and are too short."""
        kept, worth = [], self._always
        for place in places:
            alone = ALONE.match(text, place)
            if alone is None:
                worth = self._at_digits
            elif alone.end() - place < ALONE_LEAST:
                continue
            elif worth is not self._at_digits:
                worth = self._at_alone
            kept.append(place)
        return Look(kept, worth)


def _signs(one: Recogniser) -> Collection[str]:
    if isinstance(one, AtDigits):
        return _DIGITS
    return one.signs if isinstance(one, Signed) else ()
