"""How commands speak: for people on a terminal, as JSON for programs, and in exit codes."""

import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from feedbackloop.errors import FeedbackLoopError, SettingsError

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
out = Console()
err = Console(stderr=True)

REFUSED = 1
"""Exit code: it was refused, or failed."""

WRONG_USAGE = 2
"""Exit code: the call or the settings are wrong."""

_TELL_SECONDS = 15.0
_NO_LIMIT = 100_000


def emit(value: object, *, as_json: bool, show: Callable[[], None]) -> None:
    """Print a value as JSON, or show it to a person."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
    else:
        show()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """Show rows to a person. Only a terminal has a width: elsewhere nothing is cut."""
    shown = Table(title=title or None, title_justify="left")
    for number, column in enumerate(columns):
        # The first one names the row: people copy it.
        shown.add_column(Text(column), no_wrap=number == 0)
    for row in rows:
        # Text, as a string would be taken for Rich's markup, which people's words may look like.
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = out if out.is_terminal else Console(file=out.file, width=_NO_LIMIT)
    console.print(shown)


def facts(values: Mapping[str, Any]) -> None:
    """Show names and values to a person, one a line."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        out.print(f"{name:<{width}}  {value}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def telling(what: str) -> Generator[Callable[[str], None]]:
    """Show how far something long is: at once on a terminal, now and then elsewhere.

    Yields:
        What to call with a line that says where it stands.
    """
    if err.is_terminal:
        with err.status(what) as status:
            yield status.update
        return
    said = time.monotonic()

    def tell(text: str) -> None:
        nonlocal said
        if time.monotonic() - said >= _TELL_SECONDS:
            said = time.monotonic()
            err.print(f"    {text}", markup=False, highlight=False, soft_wrap=True)

    yield tell


@contextmanager
def explained() -> Generator[None]:
    """Turn what we raise on purpose into a message and an exit code."""
    try:
        yield
    except SettingsError as error:
        err.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(WRONG_USAGE) from error
    except FeedbackLoopError as error:
        err.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(REFUSED) from error
