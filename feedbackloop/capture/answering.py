"""Did an answer miss what was asked, or tell it? Signs in its beginning.

"Kettles are vessels for boiling water" is no answer to "How do I get the limescale out?". Whoever
asks on after such an answer mostly asks the same again.
"""

from re import compile as regex

from feedbackloop.capture import subject
from feedbackloop.capture.folding import folded
from feedbackloop.capture.forms import Forms
from feedbackloop.capture.lists import Marker
from feedbackloop.capture.pair import Pair

_ENOUGH = 2  # words of content
_THING_CHARACTERS = 4  # of a question that names more than a thing
_BEGINNING = 6  # words of an answer in which it says what a thing is
_NEAR = 3  # places from the thing to past its verb: "Raspberry Pi is"
_CLOSE = 60  # characters within which a dash stands for "is"
_FIRST = 3  # words of an answer that say what it is about
_LONG = 150  # characters; a longer answer says that it depends, and goes on to tell
_READ = 400  # characters of an answer that tell whether it is general
_MANY = 3  # items
_SIGNS = " \"'*#-"
_DIGIT = regex(r"\d")
_CONCRETE = regex(r"[\d`=<>{}\[\]\\/\u2192]|->|(?<!\w)-{1,2}\w")
_ITEMS = regex(r"[,;:\u3001\uff0c\uff1b\uff1a\u060c]|->|>")
_NUMBERS = frozenset({Marker.WHEN, Marker.AMOUNT})
_MANNER = frozenset({Marker.HOW, Marker.WHY})


def is_not_told(two: Pair) -> bool:
    """Say whether a number or a time is still asked for that the answer did not hold."""
    if not two.facts & two.facts_again & _NUMBERS:
        return False
    return not _DIGIT.search(two.first.answered) and not _holds(two, Marker.NUMBER)


def is_defined(two: Pair) -> bool:
    """Say whether an answer says what a thing is, of which more was asked than that.

    "The capital of Peru is Lima" says all of "What is the capital of Peru?" before its verb.
    """
    thing = _thing(two) if _names_more(two) else ()
    said = Forms(thing)
    return bool(thing) and not all(word in said for word in two.before.content)


def _names_more(two: Pair) -> bool:
    """Say whether a question names more than a thing, and does not ask how that works."""
    if any(language.heads(two.turn_before.text, Marker.WORKS) for language in two.tongues):
        return False
    return len(two.before.content) >= (_ENOUGH if two.tongues[0].spaced else _THING_CHARACTERS)


def _thing(two: Pair) -> tuple[str, ...]:
    """Return the words up to the thing that an answer says something of, if that was asked about.

    A dash stands for "is" in Russian and Ukrainian, and in notes of any language.
    """
    words = two.answer.words
    known = [n for n, word in enumerate(words[:_BEGINNING]) if word in two.before.forms]
    for n in known:
        if any(then in lang.copula for then in words[n + 1 : n + _NEAR] for lang in two.tongues):
            return words[: n + 1]
    before, dash, _ = folded(two.first.answered[:_CLOSE]).partition(" - ")
    size = len(subject.words(before)) if dash else 0
    return words[:size] if size - 1 in known else ()


def is_restated(two: Pair) -> bool:
    """Say whether a way or a reason was asked for, and the answer begins with the thing itself.

    "To get rust off a pan, ..." and "You can get ..." do too, and go on to tell.
    """
    if not two.facts & _MANNER or is_telling(two) or not _names_more(two):
        return False
    about = {*two.answer.content}
    first = [word for word in two.answer.words[:_FIRST] if word in about]
    return any(word in two.before.forms for word in first or two.answer.content[:1])


def is_evasive(two: Pair) -> bool:
    """Say whether an answer refuses, puts off, or says no more than that it depends."""
    answer = two.first.answered
    return len(answer) < _LONG and ":" not in answer and _holds(two, Marker.EVASIVE)


def is_general(two: Pair) -> bool:
    """Say whether an answer speaks of its subject in general: important, of many kinds."""
    text = folded(two.first.answered[:_READ])
    return any(language.holds(text, Marker.GENERAL) for language in two.tongues)


def listed(two: Pair) -> float:
    """Return how much an answer lists, in [0, 1]: steps, names, conditions."""
    return min(1.0, len(_ITEMS.findall(two.first.answered[:_READ])) / _MANY)


def is_telling(two: Pair) -> bool:
    """Say whether an answer begins like one that tells how: "You can ...", "To ...", "Use ..."."""
    head = folded(two.first.answered).lstrip(_SIGNS)
    return any(language.heads(head, Marker.TELLING) > 0 for language in two.tongues[:1])


def is_concrete(two: Pair) -> bool:
    """Say whether an answer holds what can be used as it stands: numbers, paths, code."""
    return _CONCRETE.search(two.first.answered) is not None


def _holds(two: Pair, marker: Marker) -> bool:
    text = folded(two.first.answered)
    return any(language.holds(text, marker) for language in two.tongues)
