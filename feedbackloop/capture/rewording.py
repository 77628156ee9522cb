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

from feedbackloop.capture import markers
from feedbackloop.capture.answering import (
    is_concrete,
    is_defined,
    is_evasive,
    is_general,
    is_not_told,
    is_restated,
    listed,
)
from feedbackloop.capture.folding import folded
from feedbackloop.capture.lists import Marker
from feedbackloop.capture.markers import Clause, Turn
from feedbackloop.capture.material import brings_text
from feedbackloop.capture.pair import Pair
from feedbackloop.capture.subject import (
    Subject,
    asks_for_more_of_it,
    asks_otherwise,
    asks_yes_or_no,
    is_open,
    kept,
)
from feedbackloop.capture.words import Language

LIKELY = 0.2
"""Least weight of the signs at which a turn asks for the same again.

A little more than even odds in a fit in which a wrong rejection costs as much as two missed ones;
``python -m benchmarks.rewording`` prints what other limits would give on left-out authors.
"""

SURE = 1.0
"""The same where little else shows that the two turns belong together, or time has passed."""

PLAIN = 2.0
"""The same where nothing shows it: neither the conversation nor the time."""

BIAS = -2.2
WEIGHTS: Mapping[str, float] = {
    "kept_two": 1.5,
    "alike": 1.8,
    "new_words": 3.0,
    "longer": 2.8,
    "reword": 2.5,
    "defined": 1.3,
    "restated": 1.0,
    "not_told": 1.6,
    "evasive": 2.6,
    "general": 1.4,
    "exact": 2.2,
    "listed": -1.6,
    "what_is": -2.3,
    "concrete": -0.1,
    "follows": -2.9,
    "other_material": -6.5,
    "exchanged": -2.6,
    "other_fact": -2.3,
    "closed": -5.6,
    "from_answer": -2.2,
    "answers": -2.0,
    "brief": -2.4,
}
"""How much each sign speaks for a second try, in logarithms of odds; see ``signs``.

As fitted to ours and four strangers' dialogues (``--without E``: with a fifth's, left-out authors
gain nothing), but for three of which they hold too few: a ``reword`` counts for less,
``from_answer`` for more against, and ``answers`` against, since a wrong rejection costs most.
"""

_MISSING = ("reword", "defined", "restated", "not_told", "evasive")
"""Signs that the answer missed the question. Without them, who keeps little says something else."""

_HALF = 0.5  # of the first turn's words of content
_ENOUGH = 2  # words of content in common
_ENOUGH_CHARACTERS = 3
_MANY_NEW = 6  # words of content
_TIMES_LONGER = 0.7  # in logarithms: twice as long; more than that says no more
_BRIEF = 3  # words
_BRIEF_CHARACTERS = 6
_REFINED = 0.8  # of a turn's words in the same order, in one that sets a condition more


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
    kept_two                it has two of the first turn's words of content
    alike                   the turns are alike, and nothing shows a wish of its own
    new_words, longer       how many words the second brings in, up to six; how much longer it is:
                            nothing in its favour if it keeps little and the answer was none
    reword                  it announces other words for the same: "I mean", "in other words"
    defined                 the answer began by saying what the thing is that was asked about
    restated                a way or a reason was asked for, and the answer began with the thing
    not_told                a number or a time is still asked for, and the answer had none
    evasive                 the answer refused, put off, or said no more than that it depends
    general                 the answer spoke of its subject in general: important, of many kinds
    exact                   it wants the thing itself: concretely, step by step, an example
    listed                  the answer listed things, up to three
    what_is                 the first turn asked no more than what a thing is, and it asks more
    concrete                the answer held numbers, paths or code
    follows                 it begins like a follow-up ("and", "what about"), with a word of its own
    other_material          one instruction over another text, or a text quoted that is new
    exchanged               the same words about something else
    other_fact              it asks for a person, time, place, reason or number, the first did not,
                            or for another number than was told
    closed                  yes or no would answer it, and not the first
    from_answer             its first word of content is the answer's, or two that it brings in
    answers                 the answer ended with a question
    brief                   it has at most three words
    ======================  =====================================================================
    """
    found = _speaking_for(two, similarity)
    return {**found, **_speaking_against(two)} if found else {}


def _speaking_for(two: Pair, similarity: float) -> dict[str, float]:
    _, new, matched = two.parts
    if matched == 0:
        return {}
    found = {
        "kept_two": float(_keeps_two(two)),
        "alike": float(two.is_alike(similarity) and new_wish(two) is None),
        "reword": float(markers.rewords(two.turn)),
        "defined": float(is_defined(two)),
        "restated": float(is_restated(two)),
        "not_told": float(is_not_told(two)),
        "evasive": float(is_evasive(two)),
        "general": float(is_general(two)),
        "exact": float(_wants_the_thing(two)),
    }
    growth = log((len(two.second.said) + 1) / (len(two.first.said) + 1))
    belongs = keeps_much(two) or any(found[name] for name in _MISSING)
    return {
        **found,
        "new_words": min(1.0, len(new) / _MANY_NEW) if belongs else 0.0,
        "longer": max(-_TIMES_LONGER, min(_TIMES_LONGER if belongs else 0.0, growth)),
    }


def keeps_much(two: Pair) -> bool:
    """Say whether a turn keeps half of what the one before was about, or two things of it."""
    return two.parts[2] >= _HALF * len(two.before.content) > 0 or _keeps_two(two)


def _keeps_two(two: Pair) -> bool:
    matched = two.parts[2]
    if not two.tongues[0].spaced:
        return matched >= _ENOUGH_CHARACTERS
    return matched >= _ENOUGH and matched - _names(two.before, two.after) >= _ENOUGH


def _speaking_against(two: Pair) -> dict[str, float]:
    other = two.after
    spaced = two.tongues[0].spaced
    return {
        "listed": listed(two),
        "what_is": float(_asks_what_it_is(two)),
        "concrete": float(is_concrete(two)),
        "follows": float(_goes_on(two)),
        "other_material": float(
            two.is_other_material or brings_text(two.first.said, two.second.said)
        ),
        "exchanged": float(two.is_exchanged),
        "other_fact": float(asks_otherwise(two.facts, two.facts_again) or _asks_other_number(two)),
        "closed": float(_closes(two.turn_before, two.turn)),
        "from_answer": float(_takes_up(two)),
        "answers": float(two.first.asks),
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
        _goes_on(two)
        or asks_for_more_of_it(two.after, two.shared)
        or asks_otherwise(two.facts, two.facts_again)
        or asks_yes_or_no(before, after, two.tongues)
    )


def _names(one: Subject, other: Subject) -> int:
    """Count the pairs of words of content that both have side by side: a name is one thing."""
    sides = [
        {pair for pair in pairwise(each.words) if {*pair} <= {*each.content}}
        for each in (one, other)
    ]
    return len(sides[0] & sides[1])


def _wants_the_thing(two: Pair) -> bool:
    """Say whether a turn asks for the thing itself, and the one before did not."""
    wants = [
        any(language.holds(turn.text, Marker.EXACT) for language in two.tongues)
        for turn in (two.turn_before, two.turn)
    ]
    return wants == [False, True]


def _asks_what_it_is(two: Pair) -> bool:
    """Say whether the first turn asks no more than what a thing is, and the other something else.

    "What is a mortgage?", and "What is the usual deposit on a mortgage?".
    """
    named = len(two.before.content) - _names(two.before, two.after)
    if named > (_ENOUGH if two.tongues[0].spaced else _ENOUGH_CHARACTERS):
        return False
    asks = [
        any(language.holds(turn.text, Marker.WHAT) for language in two.tongues)
        for turn in (two.turn_before, two.turn)
    ]
    return asks[0] and (not asks[1] or bool(two.parts[1]))


def _asks_other_number(two: Pair) -> bool:
    """Say whether a number was told, and the turn asks for another: what it costs, not how long."""
    if Marker.AMOUNT not in two.facts & two.facts_again or is_not_told(two):
        return False
    before, after = (
        {
            text[slice(*found)].strip()
            for language in two.tongues
            if (found := language.found(text, Marker.AMOUNT)) is not None
        }
        for text in (folded(two.first.said), folded(two.second.said))
    )
    return before.isdisjoint(after)


def _takes_up(two: Pair) -> bool:
    """Say whether a turn takes up words that only the answer had: the first, or two."""
    new = two.parts[1]
    taken = [word for word in new if word in two.answer.forms]
    return len(taken) >= _ENOUGH or two.after.content[0] in taken


def _goes_on(two: Pair) -> bool:
    """Say whether a turn begins like a follow-up, and brings something in."""
    return bool(two.parts[1]) and markers.follows(two.turn)


def _closes(before: Turn, after: Turn) -> bool:
    """Say whether yes or no would answer a turn, but not the one before."""
    return _is_closed(after) and not _is_closed(before)


def _is_closed(turn: Turn) -> bool:
    """Say whether yes or no answers some clause, and none asks for more.

    "Can somebody say how ...?", "Is there a way to ...?" and "Can you tell me the ..." do.
    """
    return any(_asks_whether(clause, turn.tongues) for clause in turn.clauses) and not any(
        is_open(clause.text, turn.tongues)
        or any(
            language.holds(clause.text, marker)
            for language in turn.tongues
            for marker in (Marker.HOW, Marker.REQUEST)
        )
        for clause in turn.clauses
    )


def _asks_whether(clause: Clause, tongues: Sequence[Language]) -> bool:
    return any(
        language.heads(clause.text, Marker.YES_NO) > 0
        if language.spaced
        else language.holds(clause.text, Marker.YES_NO)
        for language in tongues
    )
