"""Texts and JSON without personal data: placeholders in its place, and all else as it was."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from re import compile as regex
from typing import Any

import msgspec

from feedbackloop.capture.codes import CodeRecogniser
from feedbackloop.capture.contacts import (
    NATIONAL_PHONES,
    EmailRecogniser,
    IpRecogniser,
    MacRecogniser,
    PhoneRecogniser,
)
from feedbackloop.capture.credentials import CredentialsRecogniser, SecretRecogniser
from feedbackloop.capture.digits import DigitRecogniser
from feedbackloop.capture.national import NATIONAL
from feedbackloop.capture.payments import CARD, CoinRecogniser, IbanRecogniser
from feedbackloop.capture.placeholders import MEDIA, PLACEHOLDER, TOKENS, WITHHELD, Numbers
from feedbackloop.capture.recognisers import (
    AtDigits,
    Found,
    Recogniser,
    merged,
    plain,
)
from feedbackloop.capture.screening import Screen
from feedbackloop.capture.searched import Searched
from feedbackloop.events import JsonObject

_SHORTEST = 6  # characters in which anything is found
_NAME = regex(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,199}")
_NAMES = frozenset({"role", "type", "id", "tool_call_id", "call_id", "status", "object", "model"})
"""Fields of OpenAI's messages whose values are names of things, and stay."""

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_WORDS = frozenset({"content", "text", "refusal", "reasoning", "reasoning_content", "thinking"})
"""Fields of OpenAI's messages that hold what somebody wrote, however it looks."""

_OPAQUE = regex(r"[A-Za-z0-9+/=_\r\n-]{256,}")
# Texts that people write take four at most. A long chain of what looks like secrets would take one
# for each of them, and each turn as long as the whole text.
_MOST_TURNS = 6
_DATA_URI = regex(r"data:[\w/+.-]{0,100}(?:;[\w=.-]{1,100}){0,5};base64,[A-Za-z0-9+/=_%-]{16,}")
_JSON_TOKEN = regex(r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*')


_Way = Callable[[str, str, Sequence[int]], Iterable[Found]]


def built_in() -> tuple[Recogniser, ...]:
    """Return every recogniser of ours; of what two find alike, the first one's kind counts."""
    return (
        SecretRecogniser(),
        CredentialsRecogniser(),
        EmailRecogniser(),
        IbanRecogniser(),
        CodeRecogniser(),
        DigitRecogniser((CARD, *NATIONAL, *NATIONAL_PHONES)),
        CoinRecogniser(),
        PhoneRecogniser(),
        IpRecogniser(),
        MacRecogniser(),
    )


class Redactor:
    """Puts placeholders for what its recognisers find. The same text always gives the same.

    Args:
        recognisers: What finds.
        kinds: What is removed; None for all that is found.
        keeps_media: Whether pictures, sounds and files stay, which nobody can search.
    """

    def __init__(
        self,
        recognisers: Sequence[Recogniser],
        *,
        kinds: Collection[str] | None = None,
        keeps_media: bool = False,
    ) -> None:
        self._recognisers = [
            one for one in recognisers if kinds is None or not set(kinds).isdisjoint(one.kinds)
        ]
        self._ways = [_way(one) for one in self._recognisers]
        self._screen = Screen(self._recognisers)
        self._kinds = None if kinds is None else frozenset(kinds)
        self._searched = Searched()
        self._keeps_media = keeps_media

    def text(self, text: str, numbers: Numbers) -> str:
        """Return a text without personal data; one that cannot be searched is withheld."""
        if "[" in text:
            numbers.heed(text)
        if not self._keeps_media and ";base64," in text:
            text = _DATA_URI.sub(lambda one: numbers.placeholder(MEDIA, one.group()), text)
        if len(text) < _SHORTEST or (text[0] == "[" and PLACEHOLDER.fullmatch(text)):
            return text
        said = self._at_rest(text, numbers, numbers.replaced)
        return numbers.placeholder(WITHHELD, text) if said is None else said

    def finds(self, text: str) -> list[Found]:
        """Say what would be removed from a text, in order; nothing if it would be withheld."""
        return list(self._found(text, Numbers()) or ())

    def value(self, value: Any, numbers: Numbers) -> Any:  # noqa: ANN401  # whatever JSON holds
        """Return JSON without personal data: as it was but for texts, names and long numbers."""
        if isinstance(value, str):
            return self._string(value, numbers)
        if isinstance(value, dict):
            return {self.text(k, numbers): self.value(v, numbers) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value(one, numbers) for one in value]
        if isinstance(value, int) and not isinstance(value, bool):
            digits = str(value)
            said = self.text(digits, numbers) if len(digits) > _SHORTEST else digits
            return value if said == digits else said
        return value

    def message(self, message: JsonObject, numbers: Numbers) -> JsonObject:
        """Return a message of a chat without personal data; role, ids and form stay."""
        return {name: self._field(name, value, numbers) for name, value in message.items()}

    def call(self, call: JsonObject, numbers: Numbers) -> JsonObject:
        """Return a tool's call without personal data; its arguments stay JSON."""
        return {
            name: self._function(value, numbers)
            if name in ("function", "function_call") and isinstance(value, dict)
            else self._named(name, value, numbers)
            for name, value in call.items()
        }

    def json_text(self, text: str, numbers: Numbers) -> str:
        """Return a text that is JSON without personal data, and JSON still; also of what is cut."""
        try:
            msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return self.text(text, numbers)
        numbers.heed(text)

        def replaced(text: str, found: Sequence[Found]) -> str:
            plain = not found and "\\" not in text
            return text if plain else self._in_tokens(text, found, numbers)

        said = self._at_rest(text, numbers, replaced)
        return json.dumps(numbers.placeholder(WITHHELD, text)) if said is None else said

    def _at_rest(
        self, text: str, numbers: Numbers, replaced: Callable[[str, Sequence[Found]], str]
    ) -> str | None:
        """Replace until nothing more is found; None if that fails, or goes on and on."""
        # What stands beside a placeholder may be recognised only now.
        for _ in range(_MOST_TURNS):
            found = self._found(text, numbers)
            if found is None:
                return None
            after = replaced(text, found)
            if after == text:
                return text
            text = after
        numbers.tally.failed["still found something"] += 1
        return None

    def _field(self, name: str, value: Any, numbers: Numbers) -> Any:  # noqa: ANN401
        if isinstance(value, str):
            if name == "role" and value in _ROLES:
                return value
            return self._said(name, value, numbers)
        if name == "tool_calls" and isinstance(value, list):
            return [
                self.call(one, numbers) if isinstance(one, dict) else self.value(one, numbers)
                for one in value
            ]
        if name == "function_call" and isinstance(value, dict):
            return self._function(value, numbers)
        if name == "content" and isinstance(value, list):
            return self._content(value, numbers)
        return self._named(name, value, numbers)

    def _said(self, name: str, value: str, numbers: Numbers) -> str:
        if name in _WORDS:
            return self.text(value, numbers)
        if name in _NAMES and _NAME.fullmatch(value):
            return value
        return self._string(value, numbers)

    def _content(self, parts: list[Any], numbers: Numbers) -> Any:  # noqa: ANN401
        if _holds_tokens(parts):
            # Whoever has the tokenizer reads them like text.
            return numbers.placeholder(TOKENS, msgspec.json.encode(parts).decode())
        return [
            self.message(one, numbers) if isinstance(one, dict) else self.value(one, numbers)
            for one in parts
        ]

    def _function(self, function: JsonObject, numbers: Numbers) -> JsonObject:
        return {
            name: self.json_text(value, numbers)
            if name == "arguments" and isinstance(value, str)
            else self.value(value, numbers)
            for name, value in function.items()
        }

    def _named(self, name: str, value: Any, numbers: Numbers) -> Any:  # noqa: ANN401
        if isinstance(value, str) and name not in _WORDS:
            return self._said(name, value, numbers)
        return self.value(value, numbers)

    def _string(self, text: str, numbers: Numbers) -> str:
        if not self._keeps_media and _OPAQUE.fullmatch(text):
            return numbers.placeholder(MEDIA, text)
        return self.text(text, numbers)

    def _found(self, text: str, numbers: Numbers) -> Sequence[Found] | None:
        """Return what was found, in order; None if a recogniser failed."""
        return self._searched.search(text, self._search, numbers)

    def _search(self, text: str, numbers: Numbers) -> list[Found] | None:
        found: list[Found] = []
        as_ascii = plain(text)
        look = self._screen.look(as_ascii)
        for number in look.worth:
            try:
                found += self._ways[number](text, as_ascii, look.places)
            except Exception as error:  # noqa: BLE001  # anybody's code: the text is withheld
                one = self._recognisers[number]
                numbers.tally.failed[f"{type(one).__name__}: {type(error).__name__}"] += 1
                return None
        if self._kinds is not None:
            found = [each for each in found if each.kind in self._kinds]
        return list(merged(found)) if found else found

    def _in_tokens(self, text: str, found: Sequence[Found], numbers: Numbers) -> str:
        """Put placeholders inside of strings, and as strings for numbers."""
        parts: list[str] = []
        at = 0
        for match in _JSON_TOKEN.finditer(text):
            token = match.group()
            inside = list(_cut(found, match.start(), match.end()))
            if token[0] == '"' and "\\" in token:
                token = self._escaped(token, numbers)
            elif token[0] == '"':
                words = list(_cut(inside, 1, len(token) - 1, moved=0))
                token = numbers.replaced(token, words)
            elif inside:
                token = f'"{numbers.placeholder(inside[0].kind, token)}"'
            parts += (text[at : match.start()], token)
            at = match.end()
        return "".join((*parts, text[at:]))

    def _escaped(self, token: str, numbers: Numbers) -> str:
        said = json.loads(token)
        redacted = self.text(said, numbers)
        return token if redacted == said else json.dumps(redacted, ensure_ascii=False)


def _way(one: Recogniser) -> _Way:
    """Return how to ask a recogniser about a text, the same in ASCII, and where digits begin."""
    if isinstance(one, AtDigits):
        return lambda _text, as_ascii, places: one.at(as_ascii, places)
    return lambda text, _as_ascii, _places: one.find(text)


def _cut(
    found: Sequence[Found], start: int, end: int, *, moved: int | None = None
) -> Iterator[Found]:
    """Yield what lies between two places, counted from the first unless it is not to be moved."""
    by = start if moved is None else moved
    for one in found:
        first, last = max(one.start, start), min(one.end, end)
        if first < last:
            yield Found(first - by, last - by, one.kind)


def _holds_tokens(parts: list[Any]) -> bool:
    return bool(parts) and all(
        isinstance(one, int) or (isinstance(one, list) and _holds_tokens(one)) for one in parts
    )
