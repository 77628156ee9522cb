"""What is a turn about? Its words of content, and how far two turns share them.

No model is asked: words of grammar and of asking are known by language, forms of one word by
their common beginning, respellings by their letters.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cached_property, lru_cache
from re import compile as regex

import msgspec

from feedbackloop.capture.folding import folded
from feedbackloop.capture.forms import Forms, is_end
from feedbackloop.capture.lists import Marker
from feedbackloop.capture.words import Language

_READ = 1_000  # characters
_TOKENS = 80  # of each turn: what is pasted is told apart by its beginning
_TOKEN = regex(
    r"[\u0900-\u0dff]+|[\u30a0-\u30ff\u31f0-\u31ff]+|[\u3040-\u309f]+"
    r"|[\u3400-\u9fff\uf900-\ufaff]|[\uac00-\ud7af]+"
    r"|[^\W_\u0900-\u0dff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]+"
    r"(?:['-][^\W_\u0900-\u0dff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+)*"
)
"""A word; a Chinese character; a run of one of the Japanese scripts."""

_ASCII = regex(r"[a-z0-9]+(?:['-][a-z0-9]+)*")
"""The same, in a folded text that holds no other letters."""

_QUOTED = regex(r"\"([^\"\n]{1,80})\"|(?<!\w)'([^'\n]{1,80})'(?!\w)")
_HIRAGANA = regex(r"[\u3040-\u309f]+")
_HANGUL = regex(r"[\uac00-\ud7af]+")
_CONTRACTED = regex(r"'(?:s|re|ve|ll|d|m)$")
_ELIDED = regex(r"^(?:l|d|j|qu|n|s|t|m|c|dell|all|nell|dall|sull|un)'")
_ARTICLE = regex(r"^(?:وال|بال|لل|ال)(?=\w{2})")
_PARTICLE = regex(
    r"(?<=.)(?:은|는|이|가|을|를|에|에서|의|와|과|도|로|으로|만|까지|부터|이나|하고|보다|에게|께|처럼|라고)$"
)
_REMEMBERED = 20_000  # words: nearly all that people say in a language
_MANY_WORDS = 3
_NEARLY_ALL = 0.8
_LIKE_GRAMMAR = 0.6  # likeness of the words of grammar at which two turns are one template

ASKED = (Marker.WHO, Marker.WHEN, Marker.WHERE, Marker.WHY, Marker.AMOUNT)
"""The facts that a turn may ask for."""


class Subject(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A turn's words, in order, its beginning only.

    Attributes:
        words: All of them, folded.
        content: Those that say what it is about, without endings and articles.
        grammar: The others.
    """

    words: tuple[str, ...]
    content: tuple[str, ...]
    grammar: tuple[str, ...]

    @cached_property
    def forms(self) -> Forms:
        """The words of content, to look forms of others up in."""
        return Forms(self.content)


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """How far two turns share their words.

    Attributes:
        content: Dice index of the two contents, in [0, 1], forms of one word counted as one.
        matched: How many words of content they share.
        gone: Words of content that only the first has.
        new: Words of content that only the second has.
    """

    content: float
    matched: int
    gone: tuple[str, ...]
    new: tuple[str, ...]


def words(text: str) -> tuple[str, ...]:
    """Split the beginning of a text into words, folded."""
    return _words(folded(text[:_READ]))


def _words(text: str) -> tuple[str, ...]:
    return tuple((_ASCII if text.isascii() else _TOKEN).findall(text)[:_TOKENS])


def subject(said: str, tongues: Sequence[Language]) -> Subject:
    """Take a turn's beginning apart."""
    text = folded(said[:_READ])
    found, quoted = _words(text), _quoted(text)
    idle = [language.idle for language in tongues]
    content: list[str] = []
    grammar: list[str] = []
    for word in found:
        bare = _bare(word)
        if word not in quoted and (not bare or _is_idle(bare, word, idle)):
            grammar.append(word)
        else:
            content.append(bare or word)
    return Subject(
        words=found,
        content=tuple(content),
        grammar=tuple(grammar),
    )


def _quoted(text: str) -> frozenset[str]:
    """Return what is quoted: that is what a turn is about, whatever the words are."""
    if '"' not in text and "'" not in text:
        return frozenset()
    return frozenset(
        word for pair in _QUOTED.findall(text) for part in pair for word in words(part)
    )


def shared(one: Subject, other: Subject, *, idf: Mapping[str, float]) -> Shared:
    """Compare what two turns are about.

    Args:
        one: The earlier turn.
        other: The later one.
        idf: Weight of each word from the traffic's own counts; unknown words weigh 1.
    """
    places = other.forms.twins(one.content)
    taken = {*places}
    gone = [word for word, place in zip(one.content, places, strict=True) if place is None]
    new = [word for place, word in enumerate(other.content) if place not in taken]
    common = 0.0
    for word, place in zip(one.content, places, strict=True):
        if place is not None:
            common += idf.get(word, 1.0)
    total = sum(idf.get(word, 1.0) for word in [*one.content, *other.content])
    return Shared(
        content=min(1.0, 2 * common / total) if total else 0.0,
        matched=len(one.content) - len(gone),
        gone=tuple(gone),
        new=tuple(new),
    )


def is_other_subject(one: Subject, other: Subject, *, strictly: bool = False) -> bool:
    """Say whether two turns differ only in what they are about: a new wish in the same words.

    "What is the capital of France?" and "What is the capital of Spain?" are as alike as a turn
    and its rephrasing. They are told apart by what was exchanged: words of content for others
    that are no form or compound of them, everything else being equal. Other numbers are another
    subject.

    Args:
        one: A user turn.
        other: Another.
        strictly: Whether any exchanged word of content makes another subject, however much else
            changed: for turns that nothing but likeness shows to belong together.
    """
    before, after = _numbers(one), _numbers(other)
    if before - after and after - before:
        return True
    if not strictly and grammar_likeness(one, other) < _LIKE_GRAMMAR:
        return False
    changes = list(_changes(one, other))
    if strictly:
        return any(gone for gone, _ in changes) and any(new for _, new in changes)
    return bool(changes) and all(
        gone and new and not all(any(is_end(one, other) for other in new) for one in gone)
        for gone, new in changes
    )


def _numbers(one: Subject) -> Counter[str]:
    return Counter([word for word in one.words if word.isdecimal()])


def facts(said: str, tongues: Sequence[Language]) -> frozenset[Marker]:
    """Return what a turn asks for: some of ``ASKED``, or a way to do something."""
    text = folded(said[:_READ])
    return frozenset(
        marker
        for marker in (*ASKED, Marker.HOW)
        if any(language.holds(text, marker) for language in tongues)
    )


def asks_otherwise(before: frozenset[Marker], after: frozenset[Marker]) -> bool:
    """Say whether a turn asks for a fact that the one before did not: when instead of who.

    Where to do a thing is a way to do it.
    """
    known = before | {Marker.WHERE} if Marker.HOW in before else before
    return not (after & {*ASKED}) <= known


def asks_for_more_of_it(other: Subject, common: Shared) -> bool:
    """Say whether a turn keeps a subject and adds something new to it.

    "What is a black hole?" and "What happens if you fall into a black hole?": nothing was said
    in other words, so it is not the same question. A longer turn may grow by a little at its end.
    """
    if common.gone or not common.new:
        return False
    little = common.matched >= _MANY_WORDS and common.content >= _NEARLY_ALL
    return not little or other.content[0] in common.new


def asks_yes_or_no(one: str, other: str, tongues: Sequence[Language]) -> bool:
    """Say whether yes or no would answer a turn, but not the one before.

    A question within a question is open: "Can you tell me how ...?".
    """
    before, after = (folded(said[:_READ]).rstrip(" ?!.") for said in (one, other))
    if is_open(after, tongues):
        return False
    return any(
        _is_closed(after, language) and not _is_closed(before, language) for language in tongues
    )


def is_open(text: str, tongues: Sequence[Language]) -> bool:
    """Say whether a folded text asks what yes or no does not answer: "what", "which"."""
    words = frozenset(_TOKEN.findall(text))
    return any(
        not words.isdisjoint(language.open)
        if language.spaced
        else any(one in text for one in language.open)
        for language in tongues
    )


def grammar_likeness(one: Subject, other: Subject) -> float:
    """Return how alike the words of grammar of two turns are, in [0, 1]: 1 for one template."""
    return _dice(one.grammar, other.grammar)


def _is_closed(text: str, language: Language) -> bool:
    if language.spaced:
        return language.heads(text, Marker.YES_NO) > 0
    return language.holds(text, Marker.YES_NO)


def _is_idle(bare: str, word: str, lists: Sequence[frozenset[str]]) -> bool:
    for idle in lists:
        if bare in idle or word in idle:
            return True
        if "-" in word and all(part in idle for part in word.split("-")):
            return True
    return False


@lru_cache(maxsize=_REMEMBERED)
def _bare(word: str) -> str:
    """Take off what grammar adds; empty if nothing else was there."""
    if _HIRAGANA.fullmatch(word) or word.endswith("n't"):
        return ""
    if _HANGUL.fullmatch(word):
        return _PARTICLE.sub("", word)
    return _ARTICLE.sub("", _ELIDED.sub("", _CONTRACTED.sub("", word)))


def kept(one: Sequence[str], other: Sequence[str]) -> float:
    """Return the share of a turn's words that another has in the same order, in [0, 1]."""
    if not one:
        return 0.0
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / len(one)


def _changes(one: Subject, other: Subject) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Yield what was exchanged, taken out or put in, forms of one word counted as one."""
    known, renamed = one.content, one.forms.named(other.content)
    for tag, i, j, k, m in SequenceMatcher(None, known, renamed, autojunk=False).get_opcodes():
        if tag != "equal":
            yield known[i:j], renamed[k:m]


def _dice(one: Sequence[str], other: Sequence[str]) -> float:
    """Likeness of two bags of words, 1 if both are empty."""
    if not one and not other:
        return 1.0
    common = sum((Counter(one) & Counter(other)).values())
    return 2 * common / (len(one) + len(other))
