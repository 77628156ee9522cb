"""What is a turn about? Its words of content, and how far two turns share them.

No model is asked: words of grammar and of asking are known by language, forms of one word by
their common beginning, respellings by their letters.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from re import compile as regex

import msgspec

from feedbackloop.capture.folding import folded
from feedbackloop.capture.similarity import edit_distance
from feedbackloop.capture.words import Language, Marker

_READ = 1_000  # characters
_TOKENS = 80  # of each turn: what is pasted is told apart by its beginning
_TOKEN = regex(
    r"[\u0900-\u0dff]+|[\u30a0-\u30ff\u31f0-\u31ff]+|[\u3040-\u309f]+"
    r"|[\u3400-\u9fff\uf900-\ufaff]|[\uac00-\ud7af]+"
    r"|[^\W_\u0900-\u0dff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]+"
    r"(?:['-][^\W_\u0900-\u0dff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+)*"
)
"""A word; a Chinese character; a run of one of the Japanese scripts."""

_QUOTED = regex(r"\"([^\"\n]{1,80})\"|(?<!\w)'([^'\n]{1,80})'(?!\w)")
_HIRAGANA = regex(r"[\u3040-\u309f]+")
_HANGUL = regex(r"[\uac00-\ud7af]+")
_CONTRACTED = regex(r"'(?:s|re|ve|ll|d|m)$")
_ELIDED = regex(r"^(?:l|d|j|qu|n|s|t|m|c|dell|all|nell|dall|sull|un)'")
_ARTICLE = regex(r"^(?:وال|بال|لل|ال)(?=\w{2})")
_PARTICLE = regex(
    r"(?<=.)(?:은|는|이|가|을|를|에|에서|의|와|과|도|로|으로|만|까지|부터|이나|하고|보다|에게|께|처럼|라고)$"
)
_STEM_LETTERS = 3
_STEM_SHARE = 0.6  # of the shorter form that two forms of one word begin with
_FORM_SHARE = 0.42  # of the longer form
_MENDED = 0.7  # share of letters in common at which a word is a respelling of another
_MENDED_LETTERS = 4
_SHARE_MENDED = 1 - _MENDED + 1e-9
_PART_LETTERS = 5
_PART_SHARE = 0.75  # of the shorter word
_MANY_WORDS = 3
_NEARLY_ALL = 0.8
_LIKE_GRAMMAR = 0.6  # likeness of the words of grammar at which two turns are one template

_ASKED = (Marker.WHO, Marker.WHEN, Marker.WHERE, Marker.WHY, Marker.AMOUNT)
"""The facts that a turn may ask for."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A turn's words, in order, its beginning only.

    Attributes:
        words: All of them, folded.
        content: Those that say what it is about, without endings and articles.
        grammar: The others.
    """

    words: tuple[str, ...]
    content: tuple[str, ...]
    grammar: tuple[str, ...]


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """How far two turns share their words.

    Attributes:
        content: Dice index of the two contents, in [0, 1], forms of one word counted as one.
        matched: How many words of content they share.
        kept: Share of the first one's words that the second has in the same order, in [0, 1].
        gone: Words of content that only the first has.
        new: Words of content that only the second has.
    """

    content: float
    matched: int
    kept: float
    gone: tuple[str, ...]
    new: tuple[str, ...]


def words(text: str) -> tuple[str, ...]:
    """Split the beginning of a text into words, folded."""
    return tuple(_TOKEN.findall(folded(text[:_READ]))[:_TOKENS])


def subject(said: str, tongues: Sequence[Language]) -> Subject:
    """Take a turn's beginning apart."""
    found = words(said)
    # What is quoted is what it is about, whatever the words: "translate 'to go'".
    quoted = frozenset(
        word
        for pair in _QUOTED.findall(folded(said[:_READ]))
        for part in pair
        for word in words(part)
    )
    idle = [language.idle for language in tongues]
    content: list[str] = []
    grammar: list[str] = []
    for word in found:
        bare = _bare(word)
        dull = word not in quoted and (not bare or any(_is_idle(bare, word, one) for one in idle))
        (grammar if dull else content).append(word if dull else bare or word)
    return Subject(
        words=found,
        content=tuple(content),
        grammar=tuple(grammar),
    )


def shared(one: Subject, other: Subject, *, idf: Mapping[str, float]) -> Shared:
    """Compare what two turns are about.

    Args:
        one: The earlier turn.
        other: The later one.
        idf: Weight of each word from the traffic's own counts; unknown words weigh 1.
    """
    gone, left = [], list(other.content)
    common = 0.0
    for word in one.content:
        twin = _twin(word, left)
        if twin is None:
            gone.append(word)
        else:
            left.pop(twin)
            common += idf.get(word, 1.0)
    total = sum(idf.get(word, 1.0) for word in [*one.content, *other.content])
    return Shared(
        content=min(1.0, 2 * common / total) if total else 0.0,
        matched=len(one.content) - len(gone),
        kept=kept(one.words, other.words),
        gone=tuple(gone),
        new=tuple(left),
    )


def _twin(word: str, others: Sequence[str]) -> int | None:
    """Return where a word stands among others, or else the first of its forms."""
    if word in others:
        return others.index(word)
    return next((place for place, known in enumerate(others) if is_form(word, known)), None)


def is_other_subject(one: Subject, other: Subject, *, strictly: bool = False) -> bool:
    """Say whether two turns differ only in what they are about: a new wish in the same words.

    "What is the capital of France?" and "What is the capital of Spain?" are as alike as a turn
    and its rephrasing. They are told apart by what was exchanged: words of content for others
    that are no form of them, everything else being equal. Other numbers are another subject.

    Args:
        one: A user turn.
        other: Another.
        strictly: Whether any exchanged word of content makes another subject, however much else
            changed: for turns that nothing but likeness shows to belong together.
    """
    before, after = (Counter(word for word in s.words if word.isdecimal()) for s in (one, other))
    if before - after and after - before:
        return True
    changes = list(_changes(one.content, other.content))
    if strictly:
        return any(gone for gone, _ in changes) and any(new for _, new in changes)
    return (
        bool(changes)
        and all(gone and new for gone, new in changes)
        and grammar_likeness(one, other) >= _LIKE_GRAMMAR
    )


def asks_otherwise(one: str, other: str, tongues: Sequence[Language]) -> bool:
    """Say whether a turn asks for a fact that the one before did not: when instead of who."""
    before, after = folded(one[:_READ]), folded(other[:_READ])
    return any(
        _holds(after, marker, tongues) and not _holds(before, marker, tongues) for marker in _ASKED
    )


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
    if any(word in language.open for word in _TOKEN.findall(after) for language in tongues):
        return False
    return any(
        _is_closed(after, language) and not _is_closed(before, language) for language in tongues
    )


def is_form(word: str, other: str) -> bool:
    """Say whether two words are forms of one, or one of them is misspelt."""
    if word == other:
        return True
    if word.isdecimal() or other.isdecimal():
        return False
    shorter, longer = len(word), len(other)
    if shorter > longer:
        shorter, longer = longer, shorter
    begin = 0
    if word[0] == other[0]:
        pairs = zip(word, other, strict=False)
        begin = next((n for n, (a, b) in enumerate(pairs) if a != b), shorter)
    if not word.isascii() and _HANGUL.match(word):
        return begin >= 2 or begin >= longer / 2  # noqa: PLR2004  # a syllable is half a word
    if begin >= _STEM_LETTERS and begin >= max(_STEM_SHARE * shorter, _FORM_SHARE * longer):
        return True
    if shorter < _MENDED_LETTERS or longer - shorter > _SHARE_MENDED * longer:
        return False  # each edit mends one letter of length
    return _is_respelling(word, other, longer)


def _is_respelling(word: str, other: str, longer: int) -> bool:
    if word[0] == other[0] and sorted(word) == sorted(other):
        return True
    most = _SHARE_MENDED * longer
    # Most pairs are told apart by what costs little: an edit puts one letter for one other.
    if len(_letters(word) ^ _letters(other)) > 2 * most:
        return False
    return edit_distance(word, other) <= most


@lru_cache(maxsize=10_000)
def _letters(word: str) -> frozenset[str]:
    return frozenset(word)


def is_part(word: str, other: str) -> bool:
    """Say whether most of a word's letters stand in another in a row: kettle, tea-kettle."""
    shorter = min(len(word), len(other))
    if shorter < _PART_LETTERS or word.isdecimal() or other.isdecimal():
        return False
    block = SequenceMatcher(None, word, other, autojunk=False).find_longest_match()
    return block.size >= max(_PART_LETTERS, _PART_SHARE * shorter)


def is_quoting(said: str) -> bool:
    """Say whether a turn holds a quote: what it is about is then the quote."""
    return _QUOTED.search(folded(said[:_READ])) is not None


def grammar_likeness(one: Subject, other: Subject) -> float:
    """Return how alike the words of grammar of two turns are, in [0, 1]: 1 for one template."""
    return _dice(one.grammar, other.grammar)


def _is_closed(text: str, language: Language) -> bool:
    if language.spaced:
        return language.heads(text, Marker.YES_NO) > 0
    return language.holds(text, Marker.YES_NO)


def _holds(text: str, marker: Marker, tongues: Sequence[Language]) -> bool:
    return any(language.holds(text, marker) for language in tongues)


def _is_idle(bare: str, word: str, idle: frozenset[str]) -> bool:
    if bare in idle or word in idle:
        return True
    return "-" in word and all(part in idle for part in word.split("-"))


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


def as_forms_of(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """Write the words of ``other`` as ``one`` has them, where they are forms of each other."""
    same = set(one)
    names = {
        word: word if word in same else next((known for known in one if is_form(known, word)), word)
        for word in other
    }
    return [names[word] for word in other]


def _changes(
    one: Sequence[str], other: Sequence[str]
) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Yield what was exchanged, taken out or put in, forms of one word counted as one."""
    renamed = as_forms_of(one, other)
    for tag, i, j, k, m in SequenceMatcher(None, one, renamed, autojunk=False).get_opcodes():
        if tag != "equal":
            yield one[i:j], renamed[k:m]


def _dice(one: Sequence[str], other: Sequence[str]) -> float:
    """Likeness of two bags of words, 1 if both are empty."""
    if not one and not other:
        return 1.0
    common = sum((Counter(one) & Counter(other)).values())
    return 2 * common / (len(one) + len(other))
