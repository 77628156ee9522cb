"""The house is what its documents say: every stage, every setting."""

import importlib
import re
from pathlib import Path

import pytest

from services.cli.reference import as_markdown, documented

ROOT = Path(__file__).parent.parent
STAGES = sorted(path.parent.name for path in (ROOT / "feedbackloop").glob("*/__init__.py"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_in_three_lines_what_goes_in_and_out(stage: str) -> None:
    """A newcomer prints all of them at once, and knows where a line belongs."""
    said = importlib.import_module(f"feedbackloop.{stage}").__doc__ or ""

    lines = said.strip().splitlines()

    assert [line.split(":")[0] for line in lines[2:]] == ["In", "Out", "Edges"], said


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_edges_that_exist(stage: str) -> None:
    """A door that is painted on the wall misleads everybody once."""
    said = importlib.import_module(f"feedbackloop.{stage}").__doc__ or ""

    edges = re.findall(r"\w+", said.partition("Edges: ")[2])
    files = {path.stem for path in (ROOT / "feedbackloop" / stage).glob("*.py")}

    assert set(edges) - {"none"} <= files


def test_every_setting_is_explained_in_a_sentence() -> None:
    """A name alone does not say what happens at its limits."""
    silent = [one.variable for one in documented() if not one.means.endswith(".")]

    assert silent == []


def test_the_page_of_settings_is_what_the_code_says() -> None:
    """Documents describe what is: run `feedbackloop settings --markdown > docs/settings.md`."""
    page = (ROOT / "docs" / "settings.md").read_text()

    assert page == as_markdown()
