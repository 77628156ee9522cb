"""The lists that a word table has, and what their phrases say, as in ``docs/capture.md``."""

from enum import StrEnum
from typing import Final


class Marker(StrEnum):
    """What a list of phrases says, of a clause that begins with one of them."""

    IF = "if"
    """The clause supposes something: what else it holds is no judgement."""

    BUT = "but"
    """What follows may be the opposite of what was said."""

    FILLERS = "fillers"
    """Says nothing by itself, and is skipped."""

    DENIAL = "denial"
    """A bare no: of the answer, or to a question that it ended with."""

    POLITE = "polite"
    """Begins like a denial, and is none."""

    CORRECTION = "correction"
    """The answer was wrong, or not what was asked."""

    OBJECTION = "objection"
    """The same, wherever in a clause it stands."""

    DOUBT = "doubt"
    """The same, as a question."""

    MORE = "more"
    """The person wants one more: the main false friend of a retry."""

    ANOTHER = "another"
    """The same, anywhere in a short turn."""

    THANKS = "thanks"
    """The answer was good."""

    PRAISE = "praise"
    """The same, wherever in a clause it stands."""

    AHEAD = "ahead"
    """Sounds like thanks, and is none: in advance, for nothing, no thanks."""

    CONSTRAINT = "constraint"
    """A wish for the same in another form: shorter, in German. Anywhere in the turn."""

    FOLLOW = "follow"
    """Goes on from the answer: and, what about."""

    GO_ON = "go_on"
    """Wants the rest of the answer."""

    PLAY = "play"
    """Begins a game, a quiz or a role: what is said in it is a move."""

    TALKS = "talks"
    """What an app's own wish is about: this conversation, the chat history. Anywhere."""

    YES_NO = "yes_no"
    """A question that yes or no would answer."""

    REQUEST = "request"
    """Begins like such a question, and asks for something: can you tell me."""

    WHO = "who"
    """Asks for a person. This and the next four anywhere in a turn."""

    WHEN = "when"
    """Asks for a time."""

    WHERE = "where"
    """Asks for a place."""

    WHY = "why"
    """Asks for a reason."""

    AMOUNT = "amount"
    """Asks for a number, a price, a duration."""

    HOW = "how"
    """Asks for a way to do something."""

    WORKS = "works"
    """Asks how a thing works, which its answer mostly begins with. At the beginning."""

    WHAT = "what"
    """Asks what a thing is, anywhere in a turn that names little more."""

    REWORD = "reword"
    """Announces the same in other words: I mean, my question is."""

    EVASIVE = "evasive"
    """Of an answer, anywhere: it refuses, puts off, or says that it depends."""

    TELLING = "telling"
    """Begins an answer that tells how: you can, in order to, use."""

    NUMBER = "number"
    """Of an answer, anywhere: a number that is spelled out."""

    GENERAL = "general"
    """Of an answer, anywhere: it speaks of its subject in general: is important, many kinds."""

    EXACT = "exact"
    """Wants the thing itself, anywhere in a turn: concretely, step by step, an example."""

    INSTEAD = "instead"
    """Of a turn after a stop: a clause begins with what narrows the wish: only, just, too long."""


JUDGING: Final = (
    Marker.POLITE,
    Marker.DOUBT,
    Marker.THANKS,
    Marker.CORRECTION,
    Marker.DENIAL,
    Marker.FILLERS,
    Marker.BUT,
    Marker.IF,
)
"""What a clause may begin with that counts for what a person thinks of an answer. Few do."""

WORD_LISTS: Final = ("function", "ask", "asks", "open", "negation", "pronouns", "self", "copula")
"""Lists of single words, each one text: of grammar, of asking, of questions, of open questions,
of denying, words that stand for something named before, words for the person who speaks, and
words that say what a thing is."""

TITLES: Final = "titles"
"""The list of what an app asks for on its own behalf: plain words, without signs."""
