"""How tests call commands."""

import json
from typing import Any

from typer.testing import CliRunner, Result

from services.cli.__main__ import app


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def told(*arguments: str) -> Any:
    """Return what a command that is done prints as JSON."""
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
