"""What the command says of the gate."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from feedbackloop.evaluation.filesystem import lint
from feedbackloop.evaluation.finding import Rules
from feedbackloop.evaluation.gate import judge
from feedbackloop.evaluation.measure import Measurements
from feedbackloop.evaluation.verdict import encode
from services.cli.__main__ import app

ROOT = Path(__file__).parents[3]


def test_the_sizes_in_the_document_are_those_that_the_command_prints() -> None:
    """A table that was typed by hand is wrong one day."""
    said = CliRunner().invoke(app, ["gate", "power", "--json"])

    document = (ROOT / "docs" / "gate.md").read_text()
    for row in {one["margin"]: one for one in json.loads(said.stdout)}:
        sizes = [one["items"] for one in json.loads(said.stdout) if one["margin"] == row]
        points = f"{row * 100:.0f} points"
        assert f"| {points} | {' | '.join(f'{size:,}' for size in sizes)} |" in document


@pytest.mark.parametrize("form", ["%s", '{"facts":%s}'], ids=["verdict", "result of a step"])
def test_a_refusal_is_shown_with_its_numbers_and_ends_with_1(tmp_path: Path, form: str) -> None:
    """A script that promotes by hand must be able to rely on it."""
    file = tmp_path / "result.json"
    file.write_text(form % encode(judge(Measurements(), Rules())).decode())

    said = CliRunner().invoke(app, ["gate", "report", str(file)])

    assert said.exit_code == 1
    assert said.stdout.startswith("insufficient: preference.labels")


def test_what_is_no_verdict_is_named(tmp_path: Path) -> None:
    """It may be the result of another step."""
    file = tmp_path / "result.json"
    file.write_text('{"digest": "f"}')

    said = CliRunner().invoke(app, ["gate", "report", str(file)])

    assert said.exit_code == 2
    assert "is no verdict" in said.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "suites").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_suites_that_we_ship_are_in_order(path: Path) -> None:
    """They are the first that an operator copies."""
    suite, problems = lint(path)

    assert problems == ()
    assert suite is not None
    assert len(suite.items) >= 100
