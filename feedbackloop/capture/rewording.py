"""Is it the same wish, said anew? What two turns and the answer between them show, weighed.

"How do I get rid of the blank page in Word?" and "Delete the empty page at the end of my doc, how":
such a turn keeps what it is about and says the rest anew. So do many follow-up questions. They
are told apart by signs that cost no model: what is kept and what is brought in, whether the answer
missed what was asked, whether the turn leans on the answer. Each sign has a fixed weight, and the
sum is held against a limit. ``python -m benchmarks.rewording`` fits the weights to labelled
dialogues and says how well those fitted to all but one author's do on that author's.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log
from re import compile as regex

from feedbackloop.capture import markers
from feedbackloop.capture.folding import folded
from feedbackloop.capture.markers import Clause, Turn
from feedbackloop.capture.pair import Pair
from feedbackloop.capture.subject import (
    ASKED,
    Subject,
    asks_for_more_of_it,
    asks_otherwise,
    asks_yes_or_no,
    kept,
)
from feedbackloop.capture.words import Language, Marker

LIKELY = 1.0
"""Least weight of the signs at which a turn asks for the same again."""

SURE = 2.0
"""The same where nothing else shows that the two turns belong together."""

BIAS = -3.9
WEIGHTS: Mapping[str, float] = {
    "kept": 1.7,
    "kept_all": 1.0,
    "kept_two": 1.3,
    "alike": 2.8,
    "new_words": 2.8,
    "longer": 2.7,
    "defined": 3.3,
    "not_told": 3.9,
    "follows": -4.1,
    "other_material": -3.0,
    "exchanged": -2.0,
    "other_fact": -1.9,
    "closed": -3.1,
    "from_answer": -1.0,
    "answers": -3.4,
    "keywords": -1.2,
    "brief": -1.6,
}
"""How much each sign speaks for a second try, in logarithms of odds; see ``signs``."""

_ENOUGH = 2  # words of content in common
_ENOUGH_CHARACTERS = 3
_MANY_NEW = 6  # words of content
_TIMES_LONGER = 1.5  # in logarithms; more than that says no more
_BRIEF = 3  # words
_BRIEF_CHARACTERS = 6
_THING_CHARACTERS = 4  # of a question that names more than a thing
_BEGINNING = 6  # words of an answer in which it says what a thing is
_NEAR = 3  # places from the thing to past its verb: "Raspberry Pi is"
_REFINED = 0.8  # of a turn's words in the same order, in one that sets a condition more
_DIGIT = regex(r"\d")


def is_second_try(two: Pair, *, similarity: float, least: float = LIKELY) -> bool:
    """Say whether a turn asks for what the one before asked, in words that may be others.

    Args:
        two: Both turns.
        similarity: Least likeness of two turns that are alike.
        least: Least weight of the signs.
    """
    if two.is_long:
        return two.is_alike(similarity) and new_wish(two) is None
    if _refines(two):
        return False
    # What speaks against it costs more to find out, and is mostly not needed.
    found = _speaking_for(two, similarity)
    if weight(found) < least:
        return False
    return weight({**found, **_speaking_against(two)}) >= least


def _refines(two: Pair) -> bool:
    """Say whether a turn says all of the one before, and how it shall be done: "... in German"."""
    if not two.constrains or two.shared.gone or markers.constrains(two.turn_before):
        return False
    return kept(two.before.words, two.after.words) >= _REFINED


def weight(found: Mapping[str, float]) -> float:
    """Add the weights of signs up; less than nothing if the turns share no word of content."""
    if not found:
        return BIAS
    return BIAS + sum(WEIGHTS[name] * value for name, value in found.items())


def signs(two: Pair, *, similarity: float) -> dict[str, float]:
    """Return what speaks for a second try and against it; nothing if no word of content is shared.

    ======================  =====================================================================
    kept, kept_all,         share of the first turn's words of content that the second has; all
    kept_two                of several; two at least
    alike                   the turns are alike, and nothing shows a wish of its own
    new_words, longer       how many words the second brings in, up to six; how much longer it is
    defined                 the answer began by saying what the thing is that was asked about
    not_told                a number or a time is still asked for, and the answer had no digit
    follows                 it begins like a follow-up: "and", "what about"
    other_material          one instruction over another text
    exchanged               the same words about something else
    other_fact              it asks for a person, time, place, reason or number, the first did not
    closed                  yes or no would answer it, and not the first
    from_answer             its first word of content is the answer's
    answers                 the answer ended with a question
    keywords                the first turn did not say what it wants to know of its subject
    brief                   it has at most three words
    ======================  =====================================================================
    """
    found = _speaking_for(two, similarity)
    return {**found, **_speaking_against(two)} if found else {}


def _speaking_for(two: Pair, similarity: float) -> dict[str, float]:
    one, other = two.before, two.after
    gone, new, matched = two.parts
    if matched == 0:
        return {}
    spaced = two.tongues[0].spaced
    growth = log((len(two.second.said) + 1) / (len(two.first.said) + 1))
    return {
        "kept": matched / len(one.content),
        "kept_all": float(not gone and len(one.content) > 1),
        "kept_two": float(
            matched - _names(one, other) >= _ENOUGH if spaced else matched >= _ENOUGH_CHARACTERS
        ),
        "alike": float(two.is_alike(similarity) and new_wish(two) is None),
        "new_words": min(1.0, len(new) / _MANY_NEW),
        "longer": max(-_TIMES_LONGER, min(_TIMES_LONGER, growth)),
        "defined": float(_is_defined(two)),
        "not_told": float(_is_not_told(two)),
    }


def _speaking_against(two: Pair) -> dict[str, float]:
    other = two.after
    spaced = two.tongues[0].spaced
    head = other.content[0] if other.content else ""
    return {
        "follows": float(markers.follows(two.turn)),
        "other_material": float(two.is_other_material),
        "exchanged": float(two.is_exchanged),
        "other_fact": float(asks_otherwise(two.first.said, two.second.said, two.tongues)),
        "closed": float(_closes(two.turn_before, two.turn)),
        "from_answer": float(head in two.parts[1] and head in two.answer.forms),
        "answers": float(two.first.asks),
        "keywords": float(not _facts(two.first.said, two.tongues)),
        "brief": float(
            len(other.words) <= _BRIEF if spaced else len(two.second.said) <= _BRIEF_CHARACTERS
        ),
    }


def new_wish(two: Pair) -> str | None:
    """Say why similar words are a wish of their own and no second try, if they are."""
    if two.is_other_material:
        return "other_subject"
    if two.before.words == two.after.words and two.likeness == 1:
        return None
    if two.is_exchanged:
        return "other_subject"
    if _asks_further(two):
        return "new_request"
    if two.constrains and not markers.constrains(two.turn_before):
        return "constraint"
    return None


def _asks_further(two: Pair) -> bool:
    """Say whether a turn asks something else about the same subject."""
    before, after = two.first.said, two.second.said
    return (
        markers.follows(two.turn)
        or asks_for_more_of_it(two.after, two.shared)
        or asks_otherwise(before, after, two.tongues)
        or asks_yes_or_no(before, after, two.tongues)
    )


def _names(one: Subject, other: Subject) -> int:
    """Count the pairs of words of content that both have side by side: a name is one thing."""
    sides = [
        {pair for pair in pairwise(each.words) if {*pair} <= {*each.content}}
        for each in (one, other)
    ]
    return len(sides[0] & sides[1])


_NUMBERS = frozenset({Marker.WHEN, Marker.AMOUNT})


def _facts(said: str, tongues: Sequence[Language]) -> frozenset[Marker]:
    """Return what a turn asks for."""
    text = folded(said)
    return frozenset(
        marker
        for marker in (*ASKED, Marker.HOW)
        if any(language.holds(text, marker) for language in tongues)
    )


def _closes(before: Turn, after: Turn) -> bool:
    """Say whether yes or no would answer some clause of a turn, but none of the one before."""
    return any(_is_closed(clause, after.tongues) for clause in after.clauses) and not any(
        _is_closed(clause, before.tongues) for clause in before.clauses
    )


def _is_closed(clause: Clause, tongues: Sequence[Language]) -> bool:
    words = clause.text.split()
    if any(word in language.open for word in words for language in tongues):
        return False
    return any(
        language.heads(clause.text, Marker.YES_NO) > 0
        if language.spaced
        else language.holds(clause.text, Marker.YES_NO)
        for language in tongues
    )


def _is_not_told(two: Pair) -> bool:
    """Say whether a number or a time is still asked for that the answer did not hold."""
    if _DIGIT.search(two.first.answered):
        return False
    asked, still = (_facts(one.said, two.tongues) for one in (two.first, two.second))
    return bool(asked & still & _NUMBERS)


def _is_defined(two: Pair) -> bool:
    """Say whether an answer says what a thing is, of which more was asked than that."""
    least = _ENOUGH if two.tongues[0].spaced else _THING_CHARACTERS
    if len(two.before.content) < least and not _facts(two.first.said, two.tongues):
        return False
    words = two.answer.words[:_BEGINNING]
    return any(
        any(then in language.copula for then in two.answer.words[n + 1 : n + _NEAR])
        and word in two.before.forms
        for n, word in enumerate(words)
        for language in two.tongues
    )
