"""The synthetic set is the same for everybody, and the measure of it adds up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.placeholders import Numbers
from feedbackloop.capture.planting import HALVES, Span, Text, parsed, planted
from feedbackloop.capture.recall import score
from feedbackloop.capture.redactor import Redactor, built_in

REDACTOR = Redactor(built_in())


@pytest.mark.parametrize("half", HALVES)
def test_a_set_is_made_of_its_seed_alone(half: str) -> None:
    """A figure that nobody can repeat is an opinion."""
    first, again = (list(planted(half, seed=3, each=1)) for _ in range(2))

    assert first == again
    assert first != list(planted(half, seed=4, each=1))


def test_the_halves_share_no_template() -> None:
    """What was looked at must not be what is reported."""
    one, other = ({text.text for text in planted(half, seed=1, each=1)} for half in HALVES)

    assert not one & other


def test_every_kind_of_ours_is_planted_in_both_halves() -> None:
    """A kind that nobody measures may find nothing."""
    known = {kind for one in built_in() for kind in one.kinds}

    for half in HALVES:
        kinds = {span.kind for text in planted(half, seed=1, each=1) for span in text.spans}
        assert kinds == known


def test_of_what_is_planted_nearly_all_is_removed() -> None:
    """docs/redaction.md has the figures by kind; a change that loses a tenth must not pass."""
    report = score(planted("held-out", seed=7, each=4), REDACTOR)

    assert (report.total.recall or 0) > 0.95
    assert (report.total.precision or 0) > 0.93
    for kind, one in report.kinds.items():
        assert (one.recall or 0) >= 0.6, kind


@given(st.sampled_from(HALVES), st.integers(0, 40), st.integers(0, 1_000))
def test_redacting_a_text_of_the_set_twice_is_redacting_it_once(
    half: str, number: int, seed: int
) -> None:
    """Beside placeholders, other numbers must not become something."""
    text = [*planted(half, seed=seed, each=1)][number % 39].text

    once = REDACTOR.text(text, Numbers())

    assert REDACTOR.text(once, Numbers()) == once


def test_a_value_that_is_removed_in_part_is_not_removed() -> None:
    """Twelve digits of a card are as good as sixteen."""
    text = Text("mail jane@example.org now", (Span(0, 21, "EMAIL"), Span(22, 25, "PERSON")), "a")

    report = score([text], REDACTOR)

    assert (report.kinds["EMAIL"].recall, report.kinds["EMAIL"].precision) == (0.0, 1.0)
    assert (report.kinds["PERSON"].recall, report.kinds["PERSON"].precision) == (0.0, None)
    assert [one.kind for one in report.mistakes] == ["EMAIL", "PERSON"]


def test_a_find_where_nothing_was_planted_is_a_false_one() -> None:
    """It costs the model a number that it could have learned from."""
    report = score([Text("see jane@example.org", (), "a")], REDACTOR)

    assert report.kinds["EMAIL"].precision == 0.0
    assert [(one.kind, one.planted) for one in report.mistakes] == [("EMAIL", False)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "truncated"),
        (b'{"spans": []}', "text"),
        (
            json.dumps({"text": "a", "spans": [{"start": 0, "end": 2, "kind": "X"}]}).encode(),
            "0 to",
        ),
    ],
)
def test_a_line_that_is_no_text_is_refused(line: bytes, says: str) -> None:
    """Spans that are off by one make every figure wrong."""
    with pytest.raises(ValueError, match=says):
        parsed(line)
