"""What does a person's next turn say about the answer before it? Words are matched, nothing else.

A turn is read clause by clause, its beginning only. What is quoted or code says nothing; nor does
what a clause supposes ("if", "why"), nor a question, unless it is one of doubt.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from re import DOTALL
from re import compile as regex

import msgspec

from feedbackloop.capture.folding import folded
from feedbackloop.capture.lists import Marker
from feedbackloop.capture.subject import is_open
from feedbackloop.capture.words import Language

_READ = 400  # characters; what a person thinks of an answer comes first
_CLAUSES = 8
_SHORT = 10  # words; praise in the middle of a longer turn is about something else
_MORE_WORDS = 12  # a wish for one more is short; in a long turn these words mean other things
# Looking back after the first sign, not before: a search passes over all else quickly.
_QUOTED = regex(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\"[^\"\n]{0,200}\"|'(?<!\w')[^'\n]{1,80}'(?!\w)", flags=DOTALL
)
_SENTENCES = regex(r"([.!?;\n](?:(?:(?<!\.)|(?<!\d\.)(?!\w))[\s.!?;]*|(?<=\d\.)\s+))")
_PARTS = regex(r"[\s,:()*_~>|]*(?:[,:()*_~>|]|\s-+\s)[\s,:()*_~>|-]*")
_PARTED = regex(r"[,:()*_~>|-]")  # a sign of those, and of little else
_EDGES = " \t\"'-*_#>[]."
_BETWEEN = f"{_EDGES},:!?"
_GLAD = regex(
    "[\U0001f44d\U0001f64f\u2764\U0001f60d\U0001f389\U0001f4af\U0001f44f\U0001f44c\U0001f970\U0001f917]"
)
_CROSS = regex("[\U0001f44e\U0001f621\U0001f620\U0001f926\U0001f644\U0001f92c\U0001f624]")
_SIGNS = regex(r"[^\w']+")
_FAULT = regex(r"(?:error|exception)\s*:|traceback \(most recent")

_TELLING = (Marker.CORRECTION, Marker.THANKS, Marker.POLITE, Marker.DENIAL)
"""What a clause may begin with that looks like a filler."""

Tongues = Sequence[Language]


class Clause(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A part of a turn, folded, without what says nothing before it.

    Attributes:
        text: What it says.
        asked: Whether its sentence ends with a question mark.
        first: Whether it begins a sentence.
        adverse: Whether it began with a "but".
        judging: Whether it begins with anything that counts for a judgement.
    """

    text: str
    asked: bool
    first: bool
    adverse: bool
    judging: bool

    @cached_property
    def words(self) -> int:
        """Count its words; where there are no spaces, its characters in pairs."""
        spaced = len(self.text.split())
        return spaced if self.text.isascii() else max(spaced, len(self.text) // 4)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of a turn, taken apart once.

    Attributes:
        said: As it was written.
        clauses: Its parts.
        text: The same in one piece, quotes and code left out.
        tongues: The languages that it may be in.
        asked: What the person had asked before, folded: words of judgement that stand there are
            what the conversation is about.
    """

    said: str
    clauses: tuple[Clause, ...]
    text: str
    tongues: tuple[Language, ...]
    asked: str = ""


def turn(said: str, tongues: Tongues, *, asked: str = "") -> Turn:
    """Take the beginning of a turn apart; ``asked`` is what the person had asked before."""
    text = _QUOTED.sub(" \x00 ", folded(said[:_READ], trim=False))
    return Turn(
        said=said,
        clauses=tuple(_clauses(text, tongues)),
        text=text,
        tongues=tuple(tongues),
        asked=folded(asked[:_READ]),
    )


def objects(one: Turn) -> bool:
    """Say whether a turn says that the answer was wrong: flatly, or after a polite beginning.

    "That's wrong", "No, I meant ...", "Thanks, but you forgot ...", "Are you sure?".
    """
    if (not one.text.isascii() and _CROSS.search(one.text)) or _FAULT.search(one.text):
        return True
    return any(_objects(clause, one) for clause in one.clauses)


def insists(one: Turn) -> bool:
    """Say whether a turn objects in words that cannot answer a question of the assistant."""
    return any(
        not clause.asked
        and not _any(clause.text, Marker.POLITE, one.tongues)
        and _objection(clause.text, one)
        for clause in one.clauses
    )


def denies(one: Turn) -> bool:
    """Say whether a turn begins with a bare no, which may be meant as an answer."""
    clause = next(iter(one.clauses), None)
    return clause is not None and _whole(clause.text, Marker.DENIAL, one.tongues)


def is_polite(one: Turn) -> bool:
    """Say whether a turn begins like a denial and is none: "No problem", "No, thanks"."""
    whole = " ".join(clause.text for clause in one.clauses[:2])
    return _any(whole, Marker.POLITE, one.tongues)


def is_glad(one: Turn, *, is_answer: bool = False) -> bool:
    """Say whether a turn says that the answer was good, before it says anything else.

    Args:
        one: The turn.
        is_answer: Whether the assistant had asked; what then stands within a clause is about what
            it had asked for: "a thank you card".
    """
    clauses = one.clauses[:3]
    if is_polite(one):
        # "Not bad, thanks" is glad; "No, thanks" is not.
        if not _any(one.clauses[0].text, Marker.POLITE, one.tongues):
            return False
        clauses = clauses[1:]
    if not one.text.isascii() and _GLAD.search(one.text):
        return not any(clause.asked for clause in one.clauses)
    for clause in clauses:
        if _is_glad(clause, one.tongues) and not (is_answer and not _thanks(clause, one.tongues)):
            return True
        if clause.asked or _wishes(clause, one.tongues) or clause.words > _SHORT:
            return False
    return False


def amends(one: Turn) -> bool:
    """Say whether a turn that has judged wants another form: "Now shorter", not "I'll cut it"."""
    return any(
        _holds(clause.text, Marker.CONSTRAINT, one.tongues)
        and not speaks_of_self(clause.text, one.tongues)
        for clause in one.clauses[1:]
    )


def speaks_of_self(text: str, tongues: Tongues) -> bool:
    """Say whether a clause begins with the person who speaks."""
    return any(
        text.split(" ", 1)[0] in language.self
        if language.spaced
        else any(text.startswith(word) for word in language.self)
        for language in tongues
    )


def asks_for_more(one: Turn) -> bool:
    """Say whether a person wants one more of the same: liking, if anything."""
    if sum(clause.words for clause in one.clauses) > _MORE_WORDS:
        return False
    return any(
        _any(clause.text, Marker.MORE, one.tongues)
        or _holds(clause.text, Marker.ANOTHER, one.tongues)
        for clause in one.clauses[:2]
    )


def goes_on(one: Turn, *, after_a_stop: bool = False) -> bool:
    """Say whether a person wants the rest of the answer.

    Args:
        one: The turn.
        after_a_stop: Whether the answer was stopped; then people first say that they did not mean
            to: "Oops, I hit stop by accident, please go on".
    """
    clauses = one.clauses if after_a_stop else one.clauses[:1]
    return any(
        clause.words <= _SHORT and _any(clause.text, Marker.GO_ON, one.tongues)
        for clause in clauses
    )


def plays(one: Turn) -> bool:
    """Say whether a turn begins a game, a quiz or a role: what is said in it is a move."""
    return any(_any(clause.text, Marker.PLAY, one.tongues) for clause in one.clauses[:2])


def constrains(one: Turn) -> bool:
    """Say whether a turn holds a condition on form: shorter, in German."""
    return any(_holds(clause.text, Marker.CONSTRAINT, one.tongues) for clause in one.clauses)


def narrows(one: Turn) -> bool:
    """Say whether a turn says that less or other was wanted, and asks nothing: "only the names"."""
    return not has_question(one) and any(
        language.heads(clause.text, Marker.INSTEAD) > 0
        if language.spaced
        else language.holds(clause.text, Marker.INSTEAD)
        for clause in one.clauses
        for language in one.tongues
    )


def follows(one: Turn) -> bool:
    """Say whether a turn goes on from the answer: "And ...?", "Ok, what about ...?"."""
    head = one.text.lstrip(_EDGES)
    while head and not _any(head, Marker.FOLLOW, one.tongues):
        filler = max(language.heads(head, Marker.FILLERS) for language in one.tongues)
        head = head[filler:].lstrip(_BETWEEN) if filler else ""
    return bool(head)


def asks_anew(one: Turn) -> bool:
    """Say whether a turn announces the question in other words, and asks it: "I mean, how ...?"."""
    # A word that asks in another language may be any word in this one.
    tongues = one.tongues[:1]
    places = [n for n, clause in enumerate(one.clauses) if _rewords(clause, one.tongues)]
    return bool(places) and any(
        inquires(clause, tongues) or is_open(clause.text, tongues)
        for clause in one.clauses[places[0] :]
    )


def rewords(one: Turn) -> bool:
    """Say whether a turn announces other words for the same: "I mean ...", "In other words"."""
    return any(_rewords(clause, one.tongues) for clause in one.clauses)


def has_question(one: Turn) -> bool:
    """Say whether anything in a turn asks."""
    return any(clause.asked or inquires(clause, one.tongues) for clause in one.clauses)


def _objects(clause: Clause, one: Turn) -> bool:
    tongues = one.tongues
    if clause.judging and _any(clause.text, Marker.POLITE, tongues):
        return False
    if clause.judging and _any(clause.text, Marker.DOUBT, tongues):
        # "Huh, ..." is surprise; "Huh?" is doubt.
        return clause.words > 1 or len(one.clauses) == 1 or inquires(clause, tongues)
    if clause.asked or (clause.judging and _any(clause.text, Marker.IF, tongues)):
        return False
    if _is_glad(clause, tongues):
        return any(_objects(rest, one) for rest in _after_but(clause, tongues))
    if clause.judging and any(
        _any(text, Marker.CORRECTION, tongues) for text in _after_no(clause.text, tongues)
    ):
        return True
    return not inquires(clause, tongues) and _objection(clause.text, one)


def _objection(text: str, one: Turn) -> bool:
    """Say whether a clause objects in its middle, in words that do not name the subject."""
    for language in one.tongues:
        found = language.found(text, Marker.OBJECTION)
        if found is None:
            continue
        start, end = found
        judging = text[start:end].rsplit(" ", 1)[-1]
        if start == 0 or not one.asked or f" {judging} " not in f" {_plain(one.asked)} ":
            return True
    return False


def _plain(text: str) -> str:
    """Leave signs out between words."""
    return " ".join(_SIGNS.sub(" ", text).split())


def _is_glad(clause: Clause, tongues: Tongues) -> bool:
    # "How do I say thank you?" is about thanks.
    short = clause.words <= _SHORT and not inquires(clause, tongues)
    glad = _thanks(clause, tongues) or (short and _holds(clause.text, Marker.PRAISE, tongues))
    return glad and not _holds(clause.text, Marker.AHEAD, tongues)


def _thanks(clause: Clause, tongues: Tongues) -> bool:
    return clause.judging and _any(clause.text, Marker.THANKS, tongues)


def _after_but(clause: Clause, tongues: Tongues) -> Iterator[Clause]:
    """Yield what follows a "but" within a clause."""
    for language in tongues:
        found = language.found(clause.text, Marker.BUT)
        if found is not None and found[1] < len(clause.text):
            text = clause.text[found[1] :].strip(_EDGES)
            yield Clause(
                text=text,
                asked=clause.asked,
                first=clause.first,
                adverse=True,
                judging=_judges(text, tongues),
            )


def _after_no(text: str, tongues: Tongues) -> Iterator[str]:
    """Yield a clause, and what follows a "no" that it begins with."""
    yield text
    for language in tongues:
        end = language.heads(text, Marker.DENIAL)
        if end and text[end:].strip():
            yield text[end:].strip()


def _rewords(clause: Clause, tongues: Tongues) -> bool:
    return any(_any(text, Marker.REWORD, tongues) for text in _after_no(clause.text, tongues))


def _wishes(clause: Clause, tongues: Tongues) -> bool:
    return _holds(clause.text, Marker.CONSTRAINT, tongues) or inquires(clause, tongues)


def inquires(clause: Clause, tongues: Tongues) -> bool:
    """Say whether a clause is a question without a question mark."""
    if clause.asked:
        return True
    head = clause.text.split(" ", 1)[0]
    return any(
        head in language.asks
        if language.spaced
        else any(_ends(clause.text, word) for word in language.asks)
        for language in tongues
    )


def _ends(text: str, word: str) -> bool:
    return text.endswith(word) if len(word) == 1 else word in text


def _clauses(text: str, tongues: Tongues) -> Iterator[Clause]:
    pieces = _SENTENCES.split(text)
    count = 0
    for sentence, end in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        first = True
        for part in _PARTS.split(sentence) if _PARTED.search(sentence) else (sentence,):
            clause = _clause(" ".join(part.split()), asked="?" in end, first=first, tongues=tongues)
            if clause is not None:
                yield clause
                first, count = False, count + 1
            if count == _CLAUSES:
                return


def _clause(text: str, *, asked: bool, first: bool, tongues: Tongues) -> Clause | None:
    """Skip what says nothing at a clause's beginning; None if nothing is left."""
    text, adverse = text.strip(_EDGES), False
    while text:
        judging = _judges(text, tongues)
        longest = (
            max(language.heads(text, Marker.FILLERS) for language in tongues) if judging else 0
        )
        adverse = adverse or (judging and _any(text, Marker.BUT, tongues))
        if not longest or any(_any(text, marker, tongues) for marker in _TELLING):
            return Clause(text=text, asked=asked, first=first, adverse=adverse, judging=judging)
        text = text[longest:].lstrip(_EDGES)
    return None


def _any(text: str, marker: Marker, tongues: Tongues) -> bool:
    for language in tongues:  # noqa: SIM110  # asked dozens of times of each turn
        if language.heads(text, marker):
            return True
    return False


def _judges(text: str, tongues: Tongues) -> bool:
    for language in tongues:  # noqa: SIM110  # likewise
        if language.judges(text):
            return True
    return False


def _whole(text: str, marker: Marker, tongues: Tongues) -> bool:
    return any(language.is_whole(text, marker) for language in tongues)


def _holds(text: str, marker: Marker, tongues: Tongues) -> bool:
    for language in tongues:  # noqa: SIM110  # likewise
        if language.holds(text, marker):
            return True
    return False
