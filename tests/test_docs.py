"""What the documents tell people to click and to type is there."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from services.cli.__main__ import app
from services.cli.reference import metrics_as_markdown

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_COMMAND = re.compile(r"(?:^|[`$ /])feedbackloop ((?:[a-z][a-z-]*)(?: [^`\n|#]*)?)")
_AFTER = re.compile(r" (?:&&|>|<|;) .*| \\\\$")


def commands() -> Iterator[tuple[str, str]]:
    """Find every command line: in a block of code, or between backticks."""
    for page in PAGES:
        blocks = False
        for line in page.read_text().splitlines():
            if line.startswith("```"):
                blocks = not blocks
            texts = [line] if blocks else re.findall(r"`([^`]+)`", line)
            for text in texts:
                for found in _COMMAND.findall(text):
                    yield str(page.relative_to(ROOT)), _AFTER.sub("", found).strip()


def problem(line: str) -> str | None:
    """Say what is wrong with a command line: a name that the command does not have."""
    command: Any = typer.main.get_command(app)
    for word in shlex.split(line, comments=True):
        group = getattr(command, "commands", {})
        if group and not word.startswith("-"):
            if not set(word.split("|")) <= set(group):
                return f"{command.name} has no {word}"
            command = group[word.split("|")[0]]
        elif word.startswith("--"):
            known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
            if word.split("=")[0] not in known | {"--help"}:
                return f"{command.name} has no {word}"
    return None


def test_no_place_is_held_for_what_was_to_come() -> None:
    """A reader takes it for broken, and rightly."""
    assert [page.name for page in PAGES if re.search("@@|TODO|TBD", page.read_text())] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """A page that is missing is found by a newcomer, who then trusts the others less."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())

    lost = [one for one in links if "://" not in one and not (page.parent / one).exists()]

    assert lost == []


def test_every_command_line_names_what_the_command_has() -> None:
    """An operator types them at night, from the page."""
    found = [(page, line, problem(line)) for page, line in commands()]

    assert len(found) > 40
    assert [one for one in found if one[2] is not None] == []


def test_a_command_line_that_is_wrong_is_found() -> None:
    """Or the test above would be content with anything."""
    wrong = ["run begin assistant", "run start assistant --recipe FILE", "log tail --jsom"]

    assert [problem(line) is not None for line in wrong] == [True, True, True]


def test_the_page_of_metrics_is_what_the_code_says() -> None:
    """Documents describe what is: run `feedbackloop metrics --markdown > docs/metrics.md`."""
    page = (ROOT / "docs" / "metrics.md").read_text()

    assert page == metrics_as_markdown()
