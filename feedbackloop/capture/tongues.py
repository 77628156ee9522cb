"""Which languages is a text in? Told by script and by words of grammar; no model is needed."""

from collections import Counter
from re import compile as regex

from feedbackloop.capture.folding import folded
from feedbackloop.capture.words import Language, Vocabulary

_WORDS = regex(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_ASCII = regex(r"[a-z]+(?:'[a-z]+)*")
_READ = 400  # characters
_NEAR = 0.6  # of the best count: languages that are this close cannot be told apart
_ENOUGH = 3  # words: what fewer tell is chance
_SURE = 10
_SCRIPTS = {
    "ja": regex("[\u3040-\u30ff]"),
    "ko": regex("[\uac00-\ud7af]"),
    "zh": regex("[\u3400-\u9fff]"),
    "ar": regex("[\u0600-\u06ff]"),
    "hi": regex("[\u0900-\u097f]"),
}
"""Languages that their script tells; Japanese before Chinese, which it shares characters with."""
_ENGLISH = "en"


def tongues(turn: str, context: str, vocabulary: Vocabulary) -> tuple[Language, ...]:
    """Return the languages that a turn may be in, likeliest first.

    Args:
        turn: What a person said.
        context: What was said before: a turn of one word is mostly in its language.
        vocabulary: The languages that are known.
    """
    here, before = told(turn, vocabulary), told(context, vocabulary)
    if sum(max(counts.values(), default=0) for counts in (here, before)) < _ENOUGH:
        codes = list(vocabulary.languages)
    else:
        # People thank and curse in English in every language.
        codes = [*_nearest(here), *_nearest(before)[: 1 if here else None], _ENGLISH]
    known = vocabulary.languages
    return tuple(known[code] for code in dict.fromkeys(codes) if code in known)


def told(text: str, vocabulary: Vocabulary) -> Counter[str]:
    """Count what tells each language in a text: words of grammar; a script tells for sure."""
    text = folded(text[:_READ])
    telling = vocabulary.telling
    found = (_ASCII if text.isascii() else _WORDS).findall(text)
    counts = Counter([code for word in found if word in telling for code in telling[word]])
    script = None if text.isascii() else _by_script(text)
    if script is not None and script in vocabulary.languages:
        counts[script] += _SURE
    return counts


def _nearest(counts: Counter[str]) -> list[str]:
    """Return the languages that cannot be told apart, likeliest first."""
    least = _NEAR * max(counts.values(), default=0)
    near = [code for code, count in counts.items() if count >= least]
    return sorted(near, key=counts.__getitem__, reverse=True) if len(near) > 1 else near


def _by_script(text: str) -> str | None:
    return next((code for code, script in _SCRIPTS.items() if script.search(text)), None)
