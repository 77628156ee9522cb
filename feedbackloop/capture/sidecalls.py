"""Did an app ask on its own behalf: for a title, tags, a search query, follow-up questions?

Chat front ends do so after most answers, again and again, and none of it is a person's word.
"""

from collections.abc import Iterable
from re import compile as regex

from feedbackloop.capture.folding import folded
from feedbackloop.capture.lists import Marker
from feedbackloop.capture.words import Language

_NEAR = 90  # characters between the thing and the conversation that it is for
_TASKS = {
    "task": regex(r"^\s*#{1,4}\s*task\b"),
    "chat_history": regex(r"</?chat_history>"),
    "standalone": regex(r"\bstandalone (?:question|query)\b"),
    "word": regex(
        r"\b\d\s*(?:-|to|or)?\s*\d?[- ]words?(?:[- ]or[- ]less|[- ]long)?"
        r" (?:title|summary|headline)\b"
    ),
    "follow": regex(
        r"\b(?:suggest|generate|propose|predict|write)\b.{0,60}"
        r"\bfollow-?\s?up (?:questions|prompts)\b"
    ),
    "quer": regex(
        r"\b(?:search|retrieval) quer(?:y|ies)\b.{0,60}\b(?:conversation|chat|messages?)\b"
    ),
    "progressively": regex(r"\bprogressively summarize\b"),
}
"""Wishes of known apps, each by a word that every one of its forms holds."""


def is_side_call(ends: Iterable[str], tongues: Iterable[Language]) -> bool:
    """Say whether one of a prompt's ends holds an app's own wish.

    Args:
        ends: Beginnings and ends of the messages in which it would stand.
        tongues: The languages that they may be in.
    """
    texts = [folded(text) for text in dict.fromkeys(ends)]
    return any(_is_task(text) for text in texts) or any(
        _wishes(text, language) for text in texts for language in tongues
    )


def _is_task(text: str) -> bool:
    forms = [form for word, form in _TASKS.items() if word in text]
    return any(form.search(text) for form in forms)


def _wishes(text: str, language: Language) -> bool:
    """Say whether a title and the conversation that it is for are named close to each other."""
    titles = [text.find(title) for title in language.titles if title in text]
    if not titles:
        return False
    talks = (found.start() for found in language.patterns[Marker.TALKS].finditer(text))
    return any(abs(talk - title) <= _NEAR for talk in talks for title in titles)
