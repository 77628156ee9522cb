"""What is installed is what was tested, and what the extras ask for."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def lock(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        *((one, "presidio.txt" if one == "presidio" else "cpu.txt") for one in EXTRAS),
        ("", "cpu.txt"),
        ("", "presidio.txt"),
    ],
)
def test_what_an_extra_asks_for_is_locked(extra: str, name: str) -> None:
    """Else CI tests other versions than those that people are told to install, or none."""
    locked = lock(name)
    asked = [Requirement(text) for text in EXTRAS.get(extra, PROJECT["dependencies"])]

    found = {one: locked.get(canonicalize_name(one.name), "0") for one in asked}

    assert [one for one, its in found.items() if not one.specifier.contains(its)] == []


def test_presidio_is_tested_beside_the_versions_of_everything_else() -> None:
    """A test that passes in one environment and fails in the other would be nobody's fault."""
    ours = {**lock("dev.txt"), **lock("cpu.txt")}

    differ = {name for name, its in lock("presidio.txt").items() if ours.get(name, its) != its}

    assert differ == set()
