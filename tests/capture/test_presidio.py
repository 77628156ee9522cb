"""Presidio as a recogniser: real, with a pipeline of spaCy's that was made for the test."""

from pathlib import Path
from typing import Any

import pytest

from feedbackloop.capture.placeholders import Numbers
from feedbackloop.capture.recognisers import Found
from feedbackloop.capture.redactor import Redactor, built_in

pytestmark = [
    pytest.mark.presidio,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of spaCy's, when it is imported
]


@pytest.fixture
def presidio() -> Any:
    """Return the edge's class, where the extra is installed."""
    pytest.importorskip("presidio_analyzer", reason="pip install 'feedbackloop[presidio]'")
    from feedbackloop.capture.presidio import PresidioRecogniser  # noqa: PLC0415

    return PresidioRecogniser


@pytest.fixture
def pipeline(presidio: Any, tmp_path: Path) -> str:
    """Save a pipeline that knows two names, and one number that Presidio has no word for."""
    del presidio
    import spacy  # noqa: PLC0415

    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler", name="ner").add_patterns(
        [
            {"label": "PERSON", "pattern": "Jane Roe"},
            {"label": "GPE", "pattern": "Paris"},
            {"label": "CARDINAL", "pattern": "seven"},
        ]
    )
    nlp.to_disk(tmp_path / "names")
    return str(tmp_path / "names")


ENTITIES = ("PERSON", "LOCATION")


def test_what_the_pipeline_names_is_found(presidio: Any, pipeline: str) -> None:
    """In its place, by Presidio's name for it, and nothing else."""
    recogniser = presidio({"en": pipeline}, entities=ENTITIES, min_score=0.5)

    found = sorted(recogniser.find("Jane Roe has seven cats in Paris."))

    assert found == [Found(0, 8, "PERSON"), Found(27, 32, "LOCATION")]


def test_names_are_removed_beside_all_that_we_find_ourselves(presidio: Any, pipeline: str) -> None:
    """Once more changes nothing: what stands there is no name."""
    recogniser = presidio({"en": pipeline}, entities=ENTITIES, min_score=0.5)
    redactor = Redactor((*built_in(), recogniser))

    text = redactor.text("Jane Roe, jane@example.org, Paris. Jane Roe!", Numbers())

    assert text == "[PERSON_1], [EMAIL_1], [LOCATION_1]. [PERSON_1]!"
    assert redactor.text(text, Numbers()) == text


def test_only_what_was_asked_for_is_found(presidio: Any, pipeline: str) -> None:
    """Whoever keeps the places keeps them."""
    recogniser = presidio({"en": pipeline}, entities=["PERSON"], min_score=0.5)

    assert [one.kind for one in recogniser.find("Jane Roe in Paris")] == ["PERSON"]


def test_every_language_is_tried(presidio: Any, pipeline: str) -> None:
    """Nobody says in which one a text is."""
    recogniser = presidio({"en": "", "de": pipeline}, entities=["US_ITIN", "PERSON"], min_score=0.3)

    found = {one.kind for one in recogniser.find("Jane Roe: 912-80-3456")}

    assert found == {"US_ITIN", "PERSON"}


@pytest.mark.parametrize(
    ("model", "entities", "says"),
    [
        ("no_such_pipeline", ["PERSON"], "no spaCy pipeline no_such_pipeline is installed"),
        ("", ["PERSON"], "nothing finds PERSON; expected some of .*US_ITIN"),
        ("", ["EMAIL_ADDRESS"], "nothing finds EMAIL_ADDRESS"),
    ],
)
def test_what_would_find_nothing_is_refused(
    presidio: Any, model: str, entities: list[str], says: str
) -> None:
    """Names would reach the log, and nobody would know."""
    with pytest.raises(ValueError, match=says):
        presidio({"en": model}, entities=entities, min_score=0.5)


def test_an_entity_that_the_pipeline_never_names_is_refused(presidio: Any, pipeline: str) -> None:
    """Presidio itself promises every entity that it has a word for."""
    with pytest.raises(ValueError, match="nothing finds ORGANIZATION"):
        presidio({"en": pipeline}, entities=["ORGANIZATION"], min_score=0.5)


def test_a_pipeline_without_names_is_refused(presidio: Any, tmp_path: Path) -> None:
    """A blank one loads as well as any."""
    import spacy  # noqa: PLC0415

    spacy.blank("en").to_disk(tmp_path / "blank")

    with pytest.raises(ValueError, match="names no entities"):
        presidio({"en": str(tmp_path / "blank")}, entities=["PERSON"], min_score=0.5)
