"""Is it the same question in other words, though hardly one of them stayed?

"How do I get rid of the blank page in Word?" and "Delete the empty page at the end of my doc, how":
such a turn keeps what it is about and says the rest anew. So do many follow-up questions. They
are told apart by what they bring: words of the answer, a "that", a condition, another thing asked
for. What is left is believed only if the two share enough, or if the answer did nothing but say
what the thing is that was asked about.
"""

from collections.abc import Sequence
from itertools import pairwise

from feedbackloop.capture.forms import is_part
from feedbackloop.capture.markers import Clause, Turn
from feedbackloop.capture.subject import (
    Shared,
    Subject,
    asks_otherwise,
    grammar_likeness,
    is_quoting,
)
from feedbackloop.capture.words import Language, Marker

LONG = 30
"""Words of a turn; what is longer tells a story of its own."""

_ENOUGH = 2  # words of content in common
_ENOUGH_CHARACTERS = 3
_ENOUGH_SHARE = 0.4  # of the first turn's, where a word is but a character
_FROM_ANSWER = 0.4  # of the new words, at which a turn goes on from the answer
_ONE_TEMPLATE = 0.6  # likeness of the words of grammar
_BEGINNING = 6  # words of an answer in which it says what a thing is
_NEAR = 3  # places from the thing to past its verb: "Raspberry Pi is"


def is_reworded(
    before: Turn, after: Turn, *, subjects: tuple[Subject, Subject], common: Shared, answer: Subject
) -> bool:
    """Say whether a turn asks what the one before asked, in other words.

    Args:
        before: The earlier turn.
        after: The later one.
        subjects: What both are about.
        common: How far they share their words.
        answer: What the answer's beginning is about.
    """
    one, other = subjects
    if max(len(one.words), len(other.words)) > LONG or is_quoting(before.said):
        return False
    gone, new, matched = _parts(common)
    if not gone or not new or matched == 0:
        return False
    asks_anew = (
        _goes_on(one, after, other, new, answer)
        or asks_otherwise(before.said, after.said, after.tongues)
        or _closes(before, after)
        or _wishes_alike(one, other, after.tongues)
        or grammar_likeness(one, other) >= _ONE_TEMPLATE
    )
    if asks_anew:
        return False
    if not after.tongues[0].spaced:
        return matched >= max(_ENOUGH_CHARACTERS, _ENOUGH_SHARE * len(one.content))
    # Who asked for a price, and now for something else, has the price.
    same_fact = not asks_otherwise(after.said, before.said, after.tongues)
    return _says_what_it_is(answer, one, after.tongues) or (
        same_fact and matched - _names(one, other) >= _ENOUGH
    )


def _parts(common: Shared) -> tuple[list[str], list[str], int]:
    """Return what is gone, what is new and how much stayed, parts of one word counted as it."""
    left, gone = list(common.new), []
    for word in common.gone:
        twin = next((place for place, known in enumerate(left) if is_part(word, known)), None)
        if twin is None:
            gone.append(word)
        else:
            left.pop(twin)
    return gone, left, common.matched + len(common.gone) - len(gone)


def _names(one: Subject, other: Subject) -> int:
    """Count the pairs of words of content that both have side by side: a name is one thing."""
    sides = [
        {pair for pair in pairwise(each.words) if {*pair} <= {*each.content}}
        for each in (one, other)
    ]
    return len(sides[0] & sides[1])


def _goes_on(
    one: Subject, after: Turn, other: Subject, new: Sequence[str], answer: Subject
) -> bool:
    """Say whether a turn leans on the answer: by its words, a "that", a number of its own."""
    told = [word for word in new if word in answer.forms]
    if len(told) >= _FROM_ANSWER * len(new) or other.content[0] in told:
        return True
    if any(word.isdecimal() and word not in one.words for word in other.words):
        return True
    language = after.tongues[0]
    if not language.spaced:
        return any(word in after.text for word in language.pronouns)
    # "Those" before a word of content is an article.
    content = {*other.content}
    return any(
        len(word) > 1 and word in language.pronouns and then not in content
        for word, then in pairwise((*other.words, ""))
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


def _wishes_alike(one: Subject, other: Subject, tongues: Sequence[Language]) -> bool:
    """Say whether both begin with the same word of asking: "Write a poem", "Write a letter"."""
    first = one.words[0]
    return first == other.words[0] and any(first in language.ask for language in tongues)


def _says_what_it_is(answer: Subject, asked: Subject, tongues: Sequence[Language]) -> bool:
    """Say whether an answer begins by saying what a thing is that was asked about."""
    words = answer.words[:_BEGINNING]
    return any(
        any(then in language.copula for then in answer.words[n + 1 : n + _NEAR])
        and word in asked.forms
        for n, word in enumerate(words)
        for language in tongues
    )
