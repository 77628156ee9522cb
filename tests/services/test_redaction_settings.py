"""What is removed is a matter of settings, and a wrong one stops the start."""

import json
import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

from feedbackloop.capture.placeholders import Numbers
from feedbackloop.capture.recognisers import Found
from feedbackloop.errors import SettingsError
from services import wiring
from services.settings import load

MAIL = "jane@example.org"


class Names:
    """A recogniser as a team would write one: it has nothing of ours to inherit."""

    kinds = frozenset({"PERSON"})

    def find(self, text: str) -> Iterable[Found]:
        at = text.find("Jane Roe")
        return [Found(at, at + 8, "PERSON")] if at >= 0 else []


class Nothing:
    """No recogniser at all."""


class Lowercase(Names):
    """Its kind would be no placeholder."""

    kinds = frozenset({"person"})


class Ours(Names):
    """Its kind means something else."""

    kinds = frozenset({"MEDIA"})


class Broken(Names):
    """Its model is not there."""

    def __init__(self) -> None:
        raise OSError("no such model")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand where no settings file is, and no other test's variable."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FEEDBACKLOOP_")]:
        monkeypatch.delenv(name)


def choose(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        monkeypatch.setenv(f"FEEDBACKLOOP_REDACTION__{name.upper()}", text)


def redacted(text: str) -> str:
    redactor = load().redaction.redactor()
    return text if redactor is None else redactor.text(text, Numbers())


def test_personal_data_is_removed_unless_somebody_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody reads settings before they have leaked something."""
    assert redacted(MAIL) == "[EMAIL_1]"

    choose(monkeypatch, enabled="false")

    assert redacted(MAIL) == MAIL


def test_a_teams_pattern_and_recogniser_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class with ``kinds`` and ``find`` is all that a plug-in is."""
    choose(
        monkeypatch,
        patterns={"CUSTOMER": {"pattern": "C-[0-9]{6}"}},
        recognisers=[f"{__name__}:Names"],
    )

    assert redacted(f"Jane Roe, C-123456, {MAIL}") == "[PERSON_1], [CUSTOMER_1], [EMAIL_1]"


ABSENT = find_spec("presidio_analyzer") is None
ENTITIES = ["US_ITIN"]


def test_presidio_is_asked_for_by_its_pipelines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one nothing of it is imported, and without the extra the start says what to do."""
    choose(monkeypatch, presidio__entities=ENTITIES)
    without = wiring.open_redactor(load())
    choose(monkeypatch, presidio__models={"en": "" if ABSENT else "no_such"})
    says = r"PRESIDIO: pip install 'feedbackloop\[presidio\]'" if ABSENT else "PRESIDIO: no spaCy"

    with pytest.raises(SettingsError, match=says):
        wiring.open_redactor(load())

    assert without is not None


@pytest.mark.presidio
def test_presidio_is_built_from_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kinds are kinds like ours, which `redaction.kinds` may choose from."""
    pytest.importorskip("presidio_analyzer", reason="pip install 'feedbackloop[presidio]'")
    choose(
        monkeypatch,
        presidio__models__EN="",
        presidio__entities=ENTITIES,
        presidio__min_score="0.3",
        kinds=ENTITIES,
    )

    redactor = wiring.open_redactor(load())

    assert redactor is not None
    assert redactor.text(f"912-80-3456 {MAIL}", Numbers()) == f"[US_ITIN_1] {MAIL}"


def test_a_pattern_can_be_given_by_variables_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod's manifest has no file to put a table in."""
    choose(monkeypatch, patterns__customer__pattern="C-[0-9]{6}")

    assert redacted("C-123456") == "[CUSTOMER_1]"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"patterns": {"X1": {"pattern": "(a+)+"}}}, "PATTERNS__X1__PATTERN: .*without a limit"),
        ({"patterns": {"MEDIA": {"pattern": "abc"}}}, "MEDIA is a kind of our own"),
        ({"kinds": ["EMIAL"]}, "KINDS: nothing recognises EMIAL; expected some of .*EMAIL"),
        ({"recognisers": ["no.such.module:X"]}, "RECOGNISERS: no.such.module:X cannot be made"),
        ({"recognisers": [f"{__name__}:Broken"]}, "no such model"),
        ({"recognisers": [f"{__name__}:Nothing"]}, "expected kinds and find"),
        ({"recognisers": [f"{__name__}:Lowercase"]}, "expected a kind such as PERSON"),
        ({"recognisers": [f"{__name__}:Ours"]}, "MEDIA is a kind of our own"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, object], says: str
) -> None:
    """A misspelt kind would otherwise let everything of it pass."""
    choose(monkeypatch, **values)

    with pytest.raises(SettingsError, match=says):
        load().redaction.redactor()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"patterns": {"x": {"pattern": "abc"}}}, "REDACTION__PATTERNS"),
        ({"patterns": {"X1": {"pattern": "abc", "checksum": "sum"}}}, "PATTERNS__X1__CHECKSUM"),
        ({"recognisers": ["Names"]}, "REDACTION__RECOGNISERS"),
        ({"kinds": ["email"]}, "REDACTION__KINDS"),
    ],
)
def test_settings_of_a_wrong_form_are_named(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, object], says: str
) -> None:
    """The message has to be enough to mend it."""
    choose(monkeypatch, **values)

    with pytest.raises(SettingsError, match=says):
        load()
