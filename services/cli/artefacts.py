"""Files that people bring or take away: suites, adapters, dialogues."""

from pathlib import Path
from typing import Annotated

import typer

from feedbackloop.capture.fragments import HALVES, Rate, Report, score_fragments
from feedbackloop.errors import SettingsError
from feedbackloop.training.artefact import config_problems, tensor_problems
from services import wiring
from services.cli.output import REFUSED, Json, emit, explained, facts, out, table
from services.sections.serving import read_words
from services.settings import load

suite_app = typer.Typer(help="What the gate measures.", no_args_is_help=True)
adapter_app = typer.Typer(help="LoRA weights in PEFT's format.", no_args_is_help=True)
retries_app = typer.Typer(help="The detector of retries.", no_args_is_help=True)


@suite_app.command("lint")
def lint(
    files: Annotated[list[Path], typer.Argument(help="Suites' YAML files.")], as_json: Json = False
) -> None:
    """Check suites without running them; every mistake with its file and line."""
    found = {str(file): wiring.lint_suite(file) for file in files}
    problems = [problem for _, some in found.values() for problem in some]
    suites = {
        file: {"name": suite.header.name, "items": len(suite.items), "digest": suite.digest}
        for file, (suite, _) in found.items()
        if suite is not None
    }
    emit(
        {"suites": suites, "problems": problems},
        as_json=as_json,
        show=lambda: _show_suites(suites, [str(problem) for problem in problems]),
    )
    if problems:
        raise typer.Exit(REFUSED)


@adapter_app.command("inspect")
def inspect(
    adapter: Annotated[str, typer.Argument(help="A folder, or the digest of a stored adapter.")],
    as_json: Json = False,
) -> None:
    """Say what an adapter holds, and every rule that it breaks. Nothing in it is executed."""
    with explained():
        settings = load()
        folder = Path(adapter)
        if not folder.is_dir():
            folder = settings.home / "adapters" / adapter
        if not folder.is_dir():
            raise SettingsError(f"{adapter} is no folder, and no adapter in {folder.parent}")
        read = wiring.read_adapter(folder)
    problems = config_problems(read.config, max_rank=settings.vllm.max_lora_rank)
    problems += tensor_problems(read.config, read.tensors)
    said = {
        "digest": read.digest,
        "base": read.config.get("base_model_name_or_path"),
        "rank": read.config.get("r"),
        "alpha": read.config.get("lora_alpha"),
        "modules": read.config.get("target_modules"),
        "tensors": len(read.tensors),
        "bytes": read.size_bytes,
        "problems": problems,
    }
    emit(said, as_json=as_json, show=lambda: facts(said))
    if problems:
        raise typer.Exit(REFUSED)


@retries_app.command("score")
def score(
    file: Path,
    only: Annotated[
        str | None,
        typer.Option("--half", help=f"Judge one half of the set: {' or '.join(HALVES)}."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the detector on dialogues of your own: one JSON object a line."""
    with explained():
        if only is not None and only not in HALVES:
            raise SettingsError(f"--half {only}: expected {' or '.join(HALVES)}")
        try:
            lines = file.read_bytes().splitlines()
        except OSError as error:
            raise SettingsError(f"{file}: {error.strerror}") from error
        rules = load().retries.rules()
    report = score_fragments(lines, rules=rules, only=only)
    emit(report, as_json=as_json, show=lambda: _show_report(report))


@retries_app.command("lint")
def lint_words(files: Annotated[list[Path], typer.Argument()], as_json: Json = False) -> None:
    """Check word tables of your own, which the setting ``retries.words`` names."""
    found: dict[str, dict[str, int]] = {}
    problems: list[str] = []
    for file in files:
        try:
            table = read_words(file)
        except SettingsError as error:
            problems += str(error).split("; ")
            continue
        found[str(file)] = {
            code: sum(len(value) for value in lists.values() if isinstance(value, list))
            for code, lists in table.items()
        }
    told = {"tables": found, "problems": problems}
    emit(told, as_json=as_json, show=lambda: _show_words(found, problems))
    if problems:
        raise typer.Exit(REFUSED)


@suite_app.callback()
def _suites() -> None:
    """Keep ``lint`` a command of its own."""


@adapter_app.callback()
def _adapters() -> None:
    """Keep ``inspect`` a command of its own."""


def _show_suites(suites: dict[str, dict[str, object]], problems: list[str]) -> None:
    for file, suite in suites.items():
        out.print(f"{file}: {suite['name']}, {suite['items']} items", markup=False)
    for problem in problems:
        out.print(problem, style="red", markup=False, highlight=False)


def _show_words(found: dict[str, dict[str, int]], problems: list[str]) -> None:
    for file, languages in found.items():
        counts = ", ".join(f"{code}: {count} phrases" for code, count in languages.items())
        out.print(f"{file}: {counts}", markup=False)
    for problem in problems:
        out.print(problem, style="red", markup=False, highlight=False)


def _show_report(report: Report) -> None:
    rows = [
        (one.line, one.id, one.error or one.implied, one.kind, f"{one.confidence:.2f}", one.truth)
        for one in report.lines
    ]
    table(("line", "id", "implies", "kind", "confidence", "in truth"), rows)
    for title, rates in (("implied", report.implied), ("kind", report.kinds)):
        if rates:
            shown = [(name, *_rate(rate)) for name, rate in sorted(rates.items())]
            table((title, "precision", "recall", "found", "true", "understood"), shown)
    if report.unreadable:
        out.print(f"{report.unreadable} lines could not be read", style="yellow")


def _rate(rate: Rate) -> tuple[str, str, int, int, str]:
    precision, recall, understood = (
        "" if share is None else f"{share:.3f}"
        for share in (rate.precision, rate.recall, rate.understood)
    )
    return precision, recall, rate.found, rate.true, understood
