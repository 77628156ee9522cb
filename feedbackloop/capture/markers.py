"""What does the head of a turn say about the answer before it? Words are matched, nothing else.

Case is folded, and what means nothing ("well", "sorry") is skipped; a marker must end at a word's
end, languages without spaces excepted.
"""

from collections.abc import Mapping
from re import IGNORECASE, Pattern, escape, split
from re import compile as regex

from feedbackloop.capture.words import BUTS, FILLERS, MARKERS, Marker, Markers, Phrases

_UNSPACED = frozenset({"zh", "ja"})
_PLAIN = str.maketrans(
    "\uff01\uff1f\uff0c\u3001\uff1b\uff1a\u3002\u2019\u2013\u2014\u2026", "!?,,;:.'--."
)
_CLAUSE = r"[.!?;:\n]+"
_OPENING = " \t\"'\u00bf\u00a1([*_>-,"
_READ = 400  # characters; what a person thinks of an answer comes first
_MORE_WORDS = 12  # a wish for one more is short; in a long turn these words mean other things


def compiled(markers: Markers = MARKERS) -> Mapping[Marker, Pattern[str]]:
    """Make one pattern for each marker, over all languages."""
    patterns = {marker: _pattern(by_language) for marker, by_language in markers.items()}
    # A bare no stands alone: "No, ..." and "No."; but not "No one knows ...".
    denial = _alternatives(markers[Marker.DENIAL])
    patterns[Marker.DENIAL] = regex(rf"(?:{denial})(?=\s*(?:$|[,.!]|-(?!\w)))", IGNORECASE)
    return patterns


def heads(turn: str, pattern: Pattern[str]) -> bool:
    """Say whether a turn begins with a marker."""
    # "Mais" is a French "but" and a Portuguese "more": what is skipped may itself be the marker.
    whole = turn.translate(_PLAIN)[:_READ].lstrip(_OPENING + ".!?;:\n")
    return any(pattern.match(head) is not None for head in (whole, _head(turn)))


def objects(turn: str, markers: Mapping[Marker, Pattern[str]]) -> bool:
    """Say whether a turn says that the answer was wrong, at its head or after a polite one.

    "That's wrong", "No, I meant ...", "Thanks, but you forgot ...".
    """
    if heads(turn, markers[Marker.THANKS]):
        starts = _BUT.split(turn, maxsplit=1)[1:]
    else:
        starts = [turn]
        denial = markers[Marker.DENIAL].match(_head(turn))
        if denial is not None and not heads(turn, markers[Marker.POLITE]):
            clauses = _clauses(turn)
            starts += [clauses[0][denial.end() :], *clauses[1:2]]
    return any(heads(start, markers[Marker.CORRECTION]) for start in starts)


def asks_for_more(turn: str, markers: Mapping[Marker, Pattern[str]]) -> bool:
    """Say whether a person wants one more of the same: liking, if anything."""
    head = _head(turn)
    short = len(head.split()) <= _MORE_WORDS
    pattern = markers[Marker.VARIETY]
    if pattern.match(head) is not None:
        return True
    return short and _ANOTHER.search(head) is not None


def _head(turn: str) -> str:
    return next(iter(_clauses(turn)), "")


def _clauses(turn: str) -> list[str]:
    """Return the first two clauses that say something, without what says nothing before them."""
    clauses: list[str] = []
    for clause in split(_CLAUSE, turn.translate(_PLAIN)[:_READ]):
        said = clause.strip(_OPENING)
        while (filler := _FILLER.match(said)) is not None:
            said = said[filler.end() :].lstrip(_OPENING)
        if said:
            clauses.append(said)
    return clauses[:2]


def _pattern(by_language: Phrases) -> Pattern[str]:
    return regex(rf"(?:{_alternatives(by_language)})", IGNORECASE)


def _alternatives(by_language: Phrases) -> str:
    spaced = [escape(w) for lang, ws in by_language.items() if lang not in _UNSPACED for w in ws]
    joined = [escape(w) for lang, ws in by_language.items() if lang in _UNSPACED for w in ws]
    longest_first = sorted(spaced, key=len, reverse=True)
    # Not within "non-fiction" or "no-code".
    words = rf"(?<!\w)(?:{'|'.join(longest_first)})(?![\w-])" if longest_first else r"(?!)"
    return "|".join([words, *joined])


_FILLER = _pattern(FILLERS)
_BUT = regex(rf"\b(?:{'|'.join(BUTS)})\b|但是?|でも|けど", IGNORECASE)
_ANOTHER = regex(
    r"\b(?:another|one more|a few more|some other|any other|other (?:options|ideas|examples)"
    r"|something else|different one|noch (?:eine?n?|ein paar)|ein(?:e|en)? andere[ns]?"
    r"|un(?:e)? autre|encore une?|d'autres|otr[oa]s?|un[oa] más|un altro|un'altra|outr[oa]s?"
    r"|mais uma?)\b"
    r"|再[来给讲写]|换一?个|另一个|別の|もう(?:一|ひと)つ",
    IGNORECASE,
)
