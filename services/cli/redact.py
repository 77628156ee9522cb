"""What is removed from people's words: tried on a text, measured on a set."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from feedbackloop.capture.placeholders import Numbers
from feedbackloop.capture.planting import HALVES, Text, parsed, planted
from feedbackloop.capture.recall import Counted, Report, score
from feedbackloop.capture.redactor import Redactor
from feedbackloop.errors import SettingsError
from services import wiring
from services.cli.output import REFUSED, Json, emit, explained, out, table
from services.settings import load

redact_app = typer.Typer(help="Personal data in what people write.", no_args_is_help=True)


@redact_app.command("text")
def text(
    file: Annotated[str, typer.Argument(help="A file, or - for what is piped in.")],
    as_json: Json = False,
) -> None:
    """Show a text as it would reach the log, under the settings in force."""
    with explained():
        redactor = _redactor()
        given = _read(file).decode("utf-8", "replace")
    numbers = Numbers()
    said = redactor.text(given, numbers)
    tally = numbers.tally
    told = {"text": said, "removed": dict(tally.removed), "failed": dict(tally.failed)}
    emit(told, as_json=as_json, show=lambda: _show_text(said))
    if tally.failed:
        raise typer.Exit(REFUSED)


@redact_app.command("score")
def score_set(
    file: Annotated[
        Path | None, typer.Argument(help="Texts of your own, one JSON object a line.")
    ] = None,
    half: Annotated[
        str, typer.Option("--half", help=f"Of the built-in set: {' or '.join(HALVES)}.")
    ] = HALVES[-1],
    each: Annotated[int, typer.Option(min=1, help="Texts of each built-in template.")] = 50,
    seed: Annotated[int, typer.Option(help="Of the built-in set.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure what is found of what was planted, on a synthetic set or one of your own."""
    with explained():
        redactor = _redactor()
        if half not in HALVES:
            raise SettingsError(f"--half {half}: expected {' or '.join(HALVES)}")
        texts = planted(half, seed=seed, each=each) if file is None else iter(_own(file))
        report = score(texts, redactor)
    emit(report, as_json=as_json, show=lambda: _show_report(report))


@redact_app.command("plant")
def plant(
    half: Annotated[str, typer.Option("--half", help=" or ".join(HALVES))] = HALVES[-1],
    each: Annotated[int, typer.Option(min=1)] = 1,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Print the synthetic set, one JSON object a line, to measure other tools on."""
    with explained():
        if half not in HALVES:
            raise SettingsError(f"--half {half}: expected {' or '.join(HALVES)}")
    for one in planted(half, seed=seed, each=each):
        sys.stdout.write(msgspec.json.encode(one).decode() + "\n")


def _redactor() -> Redactor:
    redactor = wiring.open_redactor(load())
    if redactor is None:
        raise SettingsError("FEEDBACKLOOP_REDACTION__ENABLED is false: nothing would be removed")
    return redactor


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error


def _own(file: Path) -> list[Text]:
    texts = []
    for number, line in enumerate(_read(str(file)).splitlines(), 1):
        try:
            texts.append(parsed(line))
        except ValueError as error:
            raise SettingsError(f"{file}, line {number}: {error}") from error
    return texts


def _show_text(said: str) -> None:
    out.print(said, markup=False, highlight=False, soft_wrap=True, end="")


def _show_report(report: Report) -> None:
    rows = [(kind, *_row(one)) for kind, one in report.kinds.items()]
    columns = ("kind", "recall", "precision", "planted", "removed", "as this kind", "false")
    table(columns, [*rows, ("all", *_row(report.total))], title=f"{report.texts} texts")
    worst = Counter((one.id.rpartition("-")[0], one.kind, one.planted) for one in report.mistakes)
    shown = [
        (text, kind, "missed" if was_planted else "false find", count)
        for (text, kind, was_planted), count in worst.most_common(10)
    ]
    if shown:
        table(("template or text", "kind", "mistake", "times"), shown)


def _row(one: Counted) -> tuple[object, ...]:
    shares = ("" if share is None else f"{share:.3f}" for share in (one.recall, one.precision))
    return (*shares, one.planted, one.removed, one.typed, one.found - one.right)
