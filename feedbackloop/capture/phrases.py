"""Phrases of a word table as patterns.

A phrase is words with a few signs: ``[a|b c|]`` is one of several, one of which may be empty; a
``*`` by itself or before a word stands for up to three words, after a word for any ending; ``#``
is a number; ``$`` is the end of the clause. In languages without spaces a ``*`` stands for up to
six characters. All patterns run in time linear in the clause: every repetition is bounded.
"""

from collections.abc import Iterable
from re import Pattern, escape
from re import compile as regex

from feedbackloop.capture.folding import folded

_BRACKETS = regex(r"\[([^\[\]]*)\]")
_SIGNS = frozenset("?+^(){}\\")
_GAP = r"(?:\S+ ){0,3}"
_NEVER = r"(?!)"
_START = r"(?<!\w)"
_END = r"(?![\w-])"


def pattern(phrases: Iterable[str], *, spaced: bool) -> Pattern[str]:
    """Make one pattern of all phrases; it matches clauses as ``folded`` leaves them.

    The longest phrase that fits is found. Phrases are grouped by their first letter, so that
    most of them cost nothing where they do not fit.

    Raises:
        ValueError: If a phrase breaks the rules above; the message says how.
    """
    choices = _choices(phrases, spaced=spaced)
    return regex(rf"{_START if spaced else ''}(?:{choices})" if choices else _NEVER)


def search(phrases: Iterable[str]) -> Pattern[str]:
    """Make the same pattern to search a text by that a space was put before: the first group.

    It begins with what stands before a word: a search passes over all else quickly.

    Raises:
        ValueError: As for ``pattern``.
    """
    choices = _choices(phrases, spaced=True)
    return regex(rf"[^\w]({choices})" if choices else _NEVER)


def _choices(phrases: Iterable[str], *, spaced: bool) -> str:
    groups: dict[str, list[str]] = {}
    for phrase in phrases:
        check(phrase)
        for one in _begun(phrase):
            made = _spaced(one) if spaced else _joined(one)
            letter = made[0] if made[0].isalnum() else ""
            groups.setdefault(letter, []).append(made[len(letter) :])
    return "|".join(
        f"{letter}(?:{'|'.join(sorted(rests, key=len, reverse=True))})"
        for letter, rests in sorted(groups.items(), reverse=True)
    )


def _begun(phrase: str) -> list[str]:
    """Write out the choice that a phrase begins with."""
    found = _BRACKETS.match(phrase)
    if found is None or set("*#$") & set(found.group()):
        return [phrase]
    rest = phrase[found.end() :]
    return [f"{one}{rest}".strip() for one in found.group(1).split("|") if f"{one}{rest}".strip()]


def check(phrase: str) -> None:
    """Say what is wrong with a phrase.

    Raises:
        ValueError: If anything is.
    """
    if not phrase.strip(" *$[]|"):
        raise ValueError("it holds no words")
    if phrase != " ".join(phrase.split()):
        raise ValueError("words are divided by one space")
    wrong = sorted(_SIGNS & set(phrase))
    if wrong:
        raise ValueError(f"{wrong[0]!r} is not allowed")
    rest = _BRACKETS.sub("x", phrase)
    if "[" in rest or "]" in rest:
        raise ValueError("brackets are not closed, or one is in another")
    if "|" in rest:
        raise ValueError("'|' is only allowed in brackets")


def _spaced(phrase: str) -> str:
    """Write a phrase of words: each optional word takes its own space with it."""
    made, first = "", True
    for word in _words(phrase):
        text, optional, ends = _word(word)
        if first:
            made += f"(?:{text} )?" if optional else text
            first = optional
        elif ends:
            made += f"(?: {text}|$)" if text else "$"
        else:
            made += f"(?: {text})?" if optional else f" {text}"
    any_ending = phrase.endswith("*") and not phrase.endswith(" *")
    return made if any_ending else made + _END


def _words(phrase: str) -> list[str]:
    """Split at spaces outside brackets; a sign for the end is a word of its own."""
    held = _BRACKETS.sub(lambda found: found.group().replace(" ", "\0"), phrase)
    if held.endswith("$"):
        held = f"{held[:-1]} [$]"
    return [word.replace("\0", " ") for word in held.split()]


def _word(word: str) -> tuple[str, bool, bool]:
    """Return a word's pattern, whether it may be missing, and whether the clause may end there."""
    if word == "*":
        return r"\S+(?: \S+){0,2}", True, False
    gap, word = ("(?:" + _GAP + r"\w*)", word[1:]) if word.startswith("*") else ("", word)
    whole = _BRACKETS.fullmatch(word)
    if whole is None:
        return gap + _inner(word), False, False
    choices = whole.group(1).split("|")
    kept = [choice for choice in choices if choice not in ("", "$")]
    text = gap + f"(?:{'|'.join(_inner(one) for one in kept)})" if kept else ""
    return text, "" in choices, "$" in choices


def _inner(text: str) -> str:
    """Write what may stand within a word: brackets, endings, numbers."""
    made, at = "", 0
    for found in _BRACKETS.finditer(text):
        made += _plain(text[at : found.start()])
        made += f"(?:{'|'.join(_inner(one) for one in found.group(1).split('|'))})"
        at = found.end()
    return made + _plain(text[at:])


def _plain(text: str) -> str:
    if text.startswith("*"):
        return _GAP + r"\w*" + _plain(text[1:])
    # People leave the apostrophe out: "didnt", "thats".
    text = escape(folded(text, trim=False)).replace("'", "'?")
    return text.replace(r"\*", r"\w*").replace(r"\#", r"\d+")


def _joined(phrase: str) -> str:
    """Write a phrase of a language without spaces."""
    end, phrase = ("$", phrase[:-1]) if phrase.endswith("$") else ("", phrase)
    made, at = "", 0
    for found in _BRACKETS.finditer(phrase):
        made += _unspaced(phrase[at : found.start()])
        made += f"(?:{'|'.join(_unspaced(one) for one in found.group(1).split('|'))})"
        at = found.end()
    return made + _unspaced(phrase[at:]) + end


def _unspaced(text: str) -> str:
    return escape(folded(text, trim=False)).replace(r"\*", ".{0,6}?").replace(r"\#", r"\d+")
