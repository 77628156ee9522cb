"""What is removed from what people write before it leaves the pod."""

import importlib
from collections.abc import Collection, Iterable, Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from feedbackloop.capture.patterns import PatternRecogniser
from feedbackloop.capture.placeholders import RESERVED
from feedbackloop.capture.recognisers import Recogniser
from feedbackloop.capture.redactor import Redactor, built_in
from feedbackloop.errors import SettingsError
from services.sections.section import KIND, Kind, Section, Share

# Variables of the environment have no small letters of their own.
Name = Annotated[
    str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,30}[A-Za-z0-9]$"), AfterValidator(str.upper)
]
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}$"), AfterValidator(str.lower)]


class PatternSettings(Section):
    """A pattern of a team's own; the name of its table is the kind."""

    pattern: Annotated[str, Field(min_length=1, max_length=1_000)]
    """Python's syntax, every repeat with an upper limit; of a group, what is in it is removed."""

    checksum: Literal["", "luhn", "mod_97", "mod_11_10", "verhoeff", "ean"] = ""
    """A sum that the digits must have; empty for none."""

    context: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Words of which one must stand within 60 characters before; empty to find it anywhere."""


class PresidioSettings(Section):
    """Presidio, which finds names of people and places; it needs the extra of that name."""

    models: dict[Language, str] = Field(default={})
    """spaCy's pipeline of each language, as ``{"en": "en_core_web_lg"}``; empty for no Presidio."""

    entities: tuple[Kind, ...] = ("PERSON", "LOCATION")
    """What it looks for, by its own names."""

    min_score: Share = 0.5
    """Least score of what it finds."""


class Redaction(Section):
    """Personal data, which is removed before an event reaches the log."""

    enabled: bool = True
    """Whether anything is removed."""

    kinds: tuple[Kind, ...] = ()
    """What is removed, of what is recognised; empty for all of it."""

    keep_media: bool = False
    """Whether pictures, sounds and files stay, which nobody searches."""

    patterns: dict[Name, PatternSettings] = Field(default={})
    """Patterns of your own, by kind."""

    recognisers: tuple[Annotated[str, Field(pattern=r"^[\w.]+:\w+$")], ...] = ()
    """Recognisers of your own, as ``package.module:Class``; each is made without arguments."""

    presidio: PresidioSettings = PresidioSettings()

    def redactor(self, beside: Iterable[Recogniser] = ()) -> Redactor | None:
        """Build what removes; None if nothing is removed.

        Args:
            beside: Recognisers that other sections or packages made.

        Raises:
            SettingsError: If a pattern, a recogniser or a kind cannot be used; it says which.
        """
        if not self.enabled:
            return None
        recognisers = (*built_in(), *self._own_patterns(), *map(_loaded, self.recognisers), *beside)
        known = {kind for one in recognisers for kind in one.kinds}
        self._check(known)
        return Redactor(
            recognisers,
            kinds=self.kinds or None,
            keeps_media=self.keep_media,
        )

    def _own_patterns(self) -> Iterator[Recogniser]:
        for kind, one in self.patterns.items():
            try:
                yield PatternRecogniser(
                    kind, one.pattern, checksum=one.checksum or None, context=one.context
                )
            except ValueError as error:
                raise SettingsError(
                    f"FEEDBACKLOOP_REDACTION__PATTERNS__{kind}__PATTERN: {error}"
                ) from error

    def _check(self, known: Collection[str]) -> None:
        reserved = sorted(RESERVED.intersection(known))
        if reserved:
            raise SettingsError(f"FEEDBACKLOOP_REDACTION: {reserved[0]} is a kind of our own")
        unknown = sorted(set(self.kinds).difference(known))
        if unknown:
            raise SettingsError(
                f"FEEDBACKLOOP_REDACTION__KINDS: nothing recognises {unknown[0]}; expected some of"
                f" {', '.join(sorted(known))}"
            )


def _loaded(path: str) -> Recogniser:
    """Make a recogniser that a setting names."""
    name = "FEEDBACKLOOP_REDACTION__RECOGNISERS"
    module, _, attribute = path.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)()
    except Exception as error:  # anybody's code: the operator mends the setting
        raise SettingsError(f"{name}: {path} cannot be made: {error!r}") from error
    kinds = getattr(made, "kinds", None)
    if not callable(getattr(made, "find", None)) or not isinstance(kinds, Collection):
        raise SettingsError(f"{name}: {path} is no recogniser: expected kinds and find(text)")
    for kind in kinds:
        if not KIND.fullmatch(str(kind)):
            raise SettingsError(f"{name}: {path} finds {kind!r}: expected a kind such as PERSON")
    recogniser: Recogniser = made
    return recogniser
