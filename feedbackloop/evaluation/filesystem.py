"""Suites as files: a YAML file, and the JSONL file that it names beside it."""

from pathlib import Path

from feedbackloop.errors import SettingsError
from feedbackloop.evaluation.suite import Problem, Suite, assemble, read_header, read_items


def load_suite(path: Path) -> Suite:
    """Read a suite.

    Raises:
        SettingsError: If anything is wrong with it; the message names every place.
    """
    suite, problems = lint(path)
    if suite is None:
        raise SettingsError("; ".join(str(problem) for problem in problems))
    return suite


def lint(path: Path) -> tuple[Suite | None, tuple[Problem, ...]]:
    """Read a suite and name everything that is wrong with it; None if anything is."""
    try:
        header = read_header(path.read_bytes(), file=str(path))
    except OSError as error:
        return None, (_unreadable(path, error),)
    if isinstance(header, Problem):
        return None, (header,)
    beside = path.parent / header.items
    try:
        items, problems = read_items(beside.read_bytes(), file=str(beside))
    except OSError as error:
        return None, (_unreadable(beside, error),)
    return (None if problems else assemble(header, items)), problems


def _unreadable(path: Path, error: OSError) -> Problem:
    return Problem(file=str(path), line=0, message=f"expected a file: {error.strerror}")
