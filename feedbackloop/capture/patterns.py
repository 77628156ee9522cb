"""Patterns of a team's own: what they find, and that they end.

Python's engine tries every way to match, and some patterns have more ways than a text has seconds.
So what a pattern may cost is worked out before it is used: every repeat has an upper limit, and the
ways in which one place of a text can be tried are counted, and limited.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from feedbackloop.capture.checksums import ean, luhn, mod_11_10, mod_97, verhoeff
from feedbackloop.capture.recognisers import Context, Found

CHECKSUMS: Mapping[str, Callable[[str], bool]] = {
    "luhn": luhn,
    "mod_97": mod_97,
    "mod_11_10": mod_11_10,
    "verhoeff": verhoeff,
    "ean": ean,
}
"""Sums by which a pattern's finds can be checked, by name."""

_LETTERED = frozenset({"mod_97"})
_MOST_WAYS = 10_000
_NOT_ALNUM = re.compile(r"[\W_]+")
_parser = import_module("re._parser")  # no other door leads to a pattern's parts


class PatternRecogniser:
    """Finds what a pattern matches.

    Args:
        kind: What it is.
        pattern: In Python's syntax; with a group, what is in the first one is found.
        checksum: Name of a sum that the digits must have; of ``mod_97``, the letters too.
        context: Words of which one must stand near; none to find it anywhere.

    Raises:
        ValueError: If the pattern is none, may take too long, or matches nothing at all.
    """

    def __init__(
        self, kind: str, pattern: str, *, checksum: str | None = None, context: tuple[str, ...] = ()
    ) -> None:
        self.kinds = frozenset({kind})
        self._kind = kind
        self._pattern = _bounded(pattern)
        self._group = min(self._pattern.groups, 1)
        self._checksum = checksum
        words = "|".join(re.escape(word.lower()) for word in context)
        self._context = Context(words) if words else None

    def find(self, text: str) -> Iterator[Found]:
        """Say where it stands."""
        for match in self._pattern.finditer(text):
            start, end = match.span(self._group)
            is_near = self._context is None or self._context.near(text, start, end)
            if start < end and is_near and self._is_valid(text[start:end]):
                yield Found(start, end, self._kind)

    def _is_valid(self, found: str) -> bool:
        if self._checksum is None:
            return True
        bare = _NOT_ALNUM.sub("", found).upper()
        if self._checksum not in _LETTERED:
            bare = "".join(one for one in bare if one in "0123456789")
        return bare.isascii() and len(bare) > 4 and CHECKSUMS[self._checksum](bare)  # noqa: PLR2004  # IBAN's head


def _bounded(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
        tree = _parser.parse(pattern)
    except re.error as error:
        raise ValueError(f"no pattern: {error}") from error
    if compiled.fullmatch("") is not None:
        raise ValueError("matches nothing at all: expected at least one character")
    ways = _ways(tree)
    if ways > _MOST_WAYS:
        raise ValueError(
            f"may be tried in {ways} ways at one place, and {_MOST_WAYS} are allowed: expected"
            " fewer or narrower repeats"
        )
    return compiled


def _ways(tree: Any) -> int:  # noqa: ANN401  # the parser's own types have no names
    """Count the ways in which a sequence can be tried at one place."""
    total = 1
    for operation, argument in tree:
        total *= _ways_of(str(operation), argument)
        if total > _MOST_WAYS:
            return total
    return total


def _ways_of(operation: str, argument: Any) -> int:  # noqa: ANN401
    if operation in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, inner = argument
        if int(most) > _MOST_WAYS:
            raise ValueError("has a repeat without a limit: write {1,40} instead of + or *")
        each = _ways(inner)
        # Every count of repeats is a way, and each repeat can be tried in its own ways.
        return sum(min(each**count, _MOST_WAYS + 1) for count in range(int(least), int(most) + 1))
    if operation == "BRANCH":
        return sum(_ways(branch) for branch in argument[1])
    if operation == "SUBPATTERN":
        return _ways(argument[3])
    if operation in ("ASSERT", "ASSERT_NOT"):
        return _ways(argument[1])
    if operation == "ATOMIC_GROUP":
        return _ways(argument)
    if operation in ("GROUPREF", "GROUPREF_EXISTS", "GROUPREF_IGNORE"):
        raise ValueError("refers back to a group: expected a pattern that does not")
    return 1
