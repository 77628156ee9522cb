"""The words by which retry detection reads a turn: tables by language, which a team can extend.

``words.toml`` beside this file holds what we know; ``docs/capture.md`` says what each list means.
A team's own table has the same form, adds to a language or brings a new one, and is checked
before it is used.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property, partial
from importlib.resources import files
from re import Pattern
from re import compile as regex
from typing import Any

import msgspec

from feedbackloop.capture.folding import folded
from feedbackloop.capture.lists import JUDGING, TITLES, WORD_LISTS, Marker
from feedbackloop.capture.phrases import check, pattern, search
from feedbackloop.errors import SettingsError

_NAMES = frozenset(WORD_LISTS) | {marker.value for marker in Marker} | {TITLES, "spaced"}
_CODE = regex(r"[a-z]{2,3}(?:-[a-z0-9]{2,8})*")
_MAX_PHRASE = 1_000

Table = dict[str, dict[str, Any]]
"""A word table as TOML holds it: by language, by list."""


class Patterns(dict[Marker, Pattern[str]]):
    """Each marker's pattern, made when it is first looked for: most traffic is in few languages."""

    def __init__(
        self, lists: Mapping[str, Any], make: Callable[[Iterable[str]], Pattern[str]]
    ) -> None:
        super().__init__()
        self._lists = lists
        self._make = make

    def __missing__(self, marker: Marker) -> Pattern[str]:
        made = self._make(self._lists.get(marker, ()))
        self[marker] = made
        return made

    def joined(self, markers: Iterable[Marker]) -> Pattern[str]:
        """Return one pattern of the phrases of several markers."""
        return self._make([one for marker in markers for one in self._lists.get(marker, ())])


class Language(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One language, ready to be matched.

    Attributes:
        code: Such as ``de``.
        spaced: Whether spaces divide its words.
        function: Words of grammar.
        idle: Words that say nothing of a turn's subject: grammar, asking, questions, pronouns.
        ask: Words of asking for something.
        asks: Words that a question begins with.
        open: Those that yes or no does not answer.
        negation: Words that deny.
        pronouns: Words that stand for something that was named before.
        self: Words for the person who speaks.
        copula: Words that say what a thing is.
        titles: What an app asks for on its own behalf: a title, tags, follow-up questions.
        patterns: Of its phrases.
        searches: The same, to search a clause by; for languages with spaces.
    """

    code: str
    spaced: bool
    function: frozenset[str]
    idle: frozenset[str]
    ask: frozenset[str]
    asks: frozenset[str]
    open: frozenset[str]
    negation: frozenset[str]
    pronouns: frozenset[str]
    self: frozenset[str]
    copula: frozenset[str]
    titles: tuple[str, ...]
    patterns: Patterns
    searches: Patterns

    def heads(self, clause: str, marker: Marker) -> int:
        """Return how long the phrase is that a folded clause begins with, 0 if with none."""
        found = self.patterns[marker].match(clause)
        return found.end() if found is not None else 0

    def judges(self, clause: str) -> bool:
        """Say whether a folded clause begins with a phrase of any of ``JUDGING``."""
        return self._judging.match(clause) is not None

    @cached_property
    def _judging(self) -> Pattern[str]:
        return self.patterns.joined(JUDGING)

    def is_whole(self, clause: str, marker: Marker) -> bool:
        """Say whether a folded clause is one of the phrases and nothing else."""
        return self.patterns[marker].fullmatch(clause) is not None

    def holds(self, clause: str, marker: Marker) -> bool:
        """Say whether a phrase stands anywhere in a folded clause."""
        return self.found(clause, marker) is not None

    def found(self, clause: str, marker: Marker) -> tuple[int, int] | None:
        """Return where the first phrase in a folded clause begins and ends."""
        if not self.spaced:
            found = self.patterns[marker].search(clause)
            return found.span() if found is not None else None
        found = self.searches[marker].search(f" {clause}")
        return (found.start(1) - 1, found.end(1) - 1) if found is not None else None


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """Every language that is known.

    Attributes:
        languages: By code.
        telling: By word, the codes of the languages that it tells.
    """

    languages: Mapping[str, Language]
    telling: Mapping[str, tuple[str, ...]]


class MalformedWords(SettingsError):
    """A word table breaks a rule; the message names the language, the list and the phrase."""


@cache
def known_words() -> Vocabulary:
    """Return the languages that come with this software."""
    return compiled(built_in())


@cache
def built_in() -> Table:
    """Return the table that comes with this software."""
    return tomllib.loads(files(__package__).joinpath("words.toml").read_text("utf-8"))


def parsed(text: str, *, name: str) -> Table:
    """Read a team's table and check it.

    Args:
        text: TOML.
        name: Of the file, for messages.

    Raises:
        MalformedWords: If it is no TOML, or breaks a rule.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MalformedWords(f"{name}: {error}") from error
    except RecursionError as error:
        raise MalformedWords(f"{name}: it is nested too deeply; expected lists of texts") from error
    problems = list(lint(table))
    if problems:
        raise MalformedWords("; ".join(f"{name}: {problem}" for problem in problems))
    return table


def lint(table: Mapping[str, Any]) -> Iterable[str]:
    """Yield everything that is wrong with a table."""
    for code, lists in table.items():
        if not _CODE.fullmatch(code):
            yield f"[{code}]: expected a language's code, such as [de]"
        if not isinstance(lists, dict):
            yield f"{code}: expected a section [{code}] of lists"
            continue
        for name, value in lists.items():
            yield from (f"[{code}] {name}: {problem}" for problem in _problems(name, value))
        yield from (f"[{code}] {problem}" for problem in _contradictions(lists))


def merged(tables: Iterable[Table]) -> Table:
    """Join tables: what a later one says of a language is added to what earlier ones said."""
    total: Table = {}
    for table in tables:
        for code, lists in table.items():
            language = total.setdefault(code, {})
            for name, value in lists.items():
                language[name] = _added(language.get(name), value)
    return total


def compiled(table: Table) -> Vocabulary:
    """Make a table ready to be matched."""
    languages = {code: _language(code, lists) for code, lists in table.items()}
    telling: dict[str, list[str]] = {}
    for code, lists in table.items():
        for word in languages[code].function | _single(lists):
            telling.setdefault(word, []).append(code)
    return Vocabulary(
        languages=languages, telling={word: tuple(codes) for word, codes in telling.items()}
    )


def _single(lists: Mapping[str, Any]) -> frozenset[str]:
    """Return the words by which a turn of one word is known."""
    phrases = (one for name in ("denial", "thanks", "fillers") for one in lists.get(name, ()))
    words = " ".join(str(lists.get(name, "")) for name in WORD_LISTS).split()
    return frozenset(
        folded(one.rstrip("$*")) for one in [*phrases, *words] if not set(one) & set(" [#")
    )


def _language(code: str, lists: Mapping[str, Any]) -> Language:
    spaced = bool(lists.get("spaced", True))
    words = {name: _split(str(lists.get(name, ""))) for name in WORD_LISTS}
    return Language(
        code=code,
        spaced=spaced,
        function=words["function"],
        idle=frozenset[str]().union(*words.values()),
        ask=words["ask"],
        asks=words["asks"],
        open=words["open"],
        negation=words["negation"],
        pronouns=words["pronouns"],
        self=words["self"],
        copula=words["copula"],
        titles=tuple(folded(one) for one in lists.get(TITLES, ())),
        patterns=Patterns(lists, partial(pattern, spaced=spaced)),
        searches=Patterns(lists, search),
    )


def _split(text: str) -> frozenset[str]:
    """Return the words of a list, with and without the apostrophe that people leave out."""
    words = folded(text).split()
    # What is left of a short word would be another: "we're", "it's", "l'".
    bare = (word.replace("'", "") for word in words if word.endswith("n't"))
    return frozenset([*words, *bare])


def _problems(name: str, value: object) -> Iterable[str]:
    if name not in _NAMES:
        yield f"no such list; expected one of {', '.join(sorted(_NAMES))}"
    elif name == "spaced":
        if not isinstance(value, bool):
            yield "expected true or false"
    elif name in WORD_LISTS:
        if not isinstance(value, str):
            yield "expected words in one string, divided by spaces"
    elif not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        yield "expected a list of phrases"
    else:
        yield from (problem for phrase in value for problem in _wrong(phrase))
        if name == TITLES:
            yield from (
                f"{one!r}: expected plain words" for one in value if set(one) & set("[]|*#$")
            )


def _wrong(phrase: str) -> Iterable[str]:
    if len(phrase) > _MAX_PHRASE:
        yield f"{phrase[:20]!r}...: longer than {_MAX_PHRASE} characters"
        return
    try:
        check(phrase)
    except ValueError as error:
        yield f"{phrase!r}: {error}"


def _contradictions(lists: Mapping[str, Any]) -> Iterable[str]:
    """Yield the phrases that would say that an answer was both good and wrong."""
    good, wrong = (
        {one for name in names for one in lists.get(name, ()) if isinstance(one, str)}
        for names in (("thanks", "praise"), ("correction", "objection", "doubt", "denial"))
    )
    yield from (f"{one!r} is in a list of thanks and in one of corrections" for one in good & wrong)


def _added(old: Any, new: Any) -> Any:  # noqa: ANN401  # a list, a text or a flag of TOML
    if isinstance(old, list) and isinstance(new, list):
        return [*old, *new]
    if isinstance(old, str) and isinstance(new, str):
        return f"{old} {new}"
    return new
