"""Does a statement speak against an answer? "But Peru is no island", "Mango starts with M".

Such a turn has no words of judgement. It is told by what it speaks of: something that prompt or
answer named, denied, set against something else, or said of what only the answer had named.
"""

from collections.abc import Callable

from feedbackloop.capture.lists import Marker
from feedbackloop.capture.markers import Tongues, Turn, follows, inquires, speaks_of_self

_STATED = 8  # words; a longer statement tells something of its own


def contrasts(one: Turn) -> bool:
    """Say whether a turn sets one thing against another: "Peru, not Brazil"."""
    return any(
        _denied(clause.text, one.tongues) == 0 and not clause.first for clause in one.clauses[1:4]
    )


def contradicts(one: Turn, named: Callable[[str], bool]) -> bool:
    """Say whether a turn begins with a statement that may speak against the answer.

    It does so after a "but", by denying something of what was named before, or by pointing at
    the answer; a wish does not, nor a statement about the person who speaks.

    Args:
        one: The turn.
        named: Whether prompt or answer named a word.
    """
    clause = next((clause for clause in one.clauses if clause.words > 1), None)
    if clause is None or speaks_of_self(clause.text, one.tongues):
        return False
    head = clause.text.split(" ", 1)[0]
    spaced = [language for language in one.tongues if language.spaced]
    if any(head in language.ask for language in spaced):
        return False
    points = any(head in language.pronouns for language in spaced)
    if points or (clause.adverse and not follows(one)):
        return True
    if _denied(clause.text, one.tongues) <= 0:
        return False
    return not spaced or any(head in language.function for language in spaced) or named(head)


def corrects(one: Turn, answered: Callable[[str], bool]) -> bool:
    """Say whether a turn does nothing but state what something is that only the answer named.

    Args:
        one: The turn.
        answered: Whether the answer named a word, and the prompt did not.
    """
    clauses = [clause for clause in one.clauses if clause.words > 1]
    if len(clauses) != 1 or clauses[0].words > _STATED or inquires(clauses[0], one.tongues):
        return False
    if speaks_of_self(clauses[0].text, one.tongues):
        return False
    words = clauses[0].text.split()
    spaced = [language for language in one.tongues if language.spaced]
    start = int(any(words[0] in language.function for language in spaced))
    rest = " ".join(words[start + 1 :])
    # "Is yellow" begins like a question: what stands before it is its subject.
    stated = any(language.heads(rest, Marker.YES_NO) > 0 for language in spaced)
    return stated and answered(words[start])


def denies_what_was_asked(
    one: Turn, *, asked: Callable[[str], bool], answered: Callable[[str], bool]
) -> bool:
    """Say whether a turn denies of something in the answer what was asked for.

    "Butter isn't vegan": the one contrary that cannot answer a question of the assistant.

    Args:
        one: The turn.
        asked: Whether the prompt named a word.
        answered: Whether the answer named a word, and the prompt did not.
    """
    clause = next((clause for clause in one.clauses if clause.words > 1), None)
    if clause is None or inquires(clause, one.tongues) or clause.words > _STATED:
        return False
    words, place = clause.text.split(), _denied(clause.text, one.tongues)
    return place > 0 and any(map(answered, words[:place])) and any(map(asked, words[place + 1 :]))


def _denied(text: str, tongues: Tongues) -> int:
    """Return the place of the first word that denies, in words; -1 if there is none."""
    words = text.split()
    for place, word in enumerate(words):
        for language in tongues:
            if language.spaced:
                if word in language.negation:
                    return place
            elif any(one in word for one in language.negation):
                return 0 if any(word.startswith(one) for one in language.negation) else place + 1
    return -1
