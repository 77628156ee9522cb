"""The gate's figures: how large a suite has to be, and what a verdict said."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.errors import SettingsError
from feedbackloop.evaluation.statistics import items_needed
from feedbackloop.evaluation.verdict import Check, Verdict, decode
from services.cli.output import REFUSED, Json, emit, explained, out, table

app = typer.Typer(help="What decides whether a candidate meets traffic.", no_args_is_help=True)

MARGINS = (0.02, 0.03, 0.05, 0.1)
DISCORDANCES = (0.02, 0.05, 0.1, 0.2, 0.3)

Probability = Annotated[float, typer.Option(min=0.001, max=0.499)]


@app.command("power")
def power(
    alpha: Probability = 0.05,
    power: Annotated[float, typer.Option(min=0.5, max=0.999)] = 0.8,
    *,
    as_json: Json = False,
) -> None:
    """Say how many items prove that a loss is below a margin, if there is none."""
    rows = [
        {
            "margin": margin,
            "discordance": discordance,
            "items": items_needed(margin=margin, discordance=discordance, alpha=alpha, power=power),
        }
        for margin in MARGINS
        for discordance in DISCORDANCES
    ]
    emit(rows, as_json=as_json, show=lambda: _show_sizes(rows))


@app.command("report")
def report(
    file: Annotated[Path, typer.Argument(help="A verdict, or an evaluate step's result.json.")],
    *,
    as_json: Json = False,
) -> None:
    """Show a verdict's checks with their numbers. Exit code 1 unless it is a pass."""
    with explained():
        try:
            verdict = _read(file.read_bytes())
        except (OSError, *UNREADABLE) as error:
            raise SettingsError(f"{file} is no verdict: {error}") from error
    emit(verdict, as_json=as_json, show=lambda: _show_verdict(verdict))
    if verdict.outcome.value != "pass":
        raise typer.Exit(REFUSED)


def _read(raw: bytes) -> Verdict:
    """Read a verdict, by itself or as the facts of a step's result."""
    wrapped = msgspec.json.decode(raw, type=dict[str, msgspec.Raw]).get("facts")
    return decode(raw if wrapped is None else bytes(wrapped))


def _show_sizes(rows: list[dict[str, float]]) -> None:
    found = {(row["margin"], row["discordance"]): int(row["items"]) for row in rows}
    table(
        ["margin", *(f"{share:.0%} differ" for share in DISCORDANCES)],
        [
            [f"{margin * 100:.0f} points", *(found[margin, share] for share in DISCORDANCES)]
            for margin in MARGINS
        ],
        title="Items that a suite needs",
    )


def _show_verdict(verdict: Verdict) -> None:
    out.print(f"{verdict.outcome.value}: {verdict.reason}", markup=False, highlight=False)
    table(
        ["check", "outcome", "blocks", "n", "candidate", "incumbent", "gain", "margin", "sees"],
        [_row(check) for check in verdict.checks],
    )
    groups = [
        [check.name, one.group, one.n, f"{one.candidate:.3f}", f"{one.incumbent:.3f}"]
        for check in verdict.checks
        for one in check.groups
    ]
    if groups:
        table(["suite", "group", "n", "candidate", "incumbent"], groups)


def _row(check: Check) -> list[object]:
    low, high = ("?" if limit is None else f"{limit:+.3f}" for limit in (check.low, check.high))
    sees = "?" if check.smallest_detectable is None else f"{check.smallest_detectable:.3f}"
    return [
        check.name,
        check.outcome.value,
        "yes" if check.blocking else "no",
        f"{check.n} ({check.clusters} {check.units})",
        f"{check.candidate:.3f}",
        f"{check.incumbent:.3f}",
        f"{check.difference:+.3f} [{low}, {high}]",
        f"{check.margin:.3f}",
        sees,
    ]
