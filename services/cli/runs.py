"""Runs: start, list, show, follow, cancel; and what a run would do now."""

import contextlib
from typing import Annotated, Any

import typer

from feedbackloop.errors import RunError, SettingsError
from services.cli.api import Api
from services.cli.output import Json, emit, explained, facts, out, table
from services.settings import load

app = typer.Typer(help="Attempts to make a better adapter.", no_args_is_help=True)
_Alias = Annotated[str, typer.Option(help="Whose adapter.")]


@app.command("start")
def start(
    alias: _Alias = "assistant",
    recipe: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE of the recipe; repeatable.")
    ] = None,
    snapshot: Annotated[str | None, typer.Option(help="Train on this snapshot again.")] = None,
    same_as: Annotated[str | None, typer.Option(help="Train on the rows of this run.")] = None,
    why: Annotated[str, typer.Option(help="For those who read of it later.")] = "started by hand",
    as_json: Json = False,
) -> None:
    """Start a run now, whether or not one is due."""
    with explained():
        body = {
            "alias": alias,
            "recipe": _recipe(recipe or []),
            "snapshot": snapshot,
            "window": None if same_as is None else f"same-as:{same_as}",
            "why": why,
        }
        run = Api().post("/api/runs", body)
    emit(run, as_json=as_json, show=lambda: out.print(run["run"]))


@app.command("list")
def list_runs(
    alias: Annotated[str | None, typer.Option(help="Only this alias'.")] = None,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    with explained():
        query = {} if alias is None else {"alias": alias}
        runs = Api().get("/api/runs", **query)
    rows = [(r["run"], r["alias"], r["state"], r["changed_at"], r["reason"]) for r in runs]
    columns = ("run", "alias", "state", "changed", "reason")
    emit(runs, as_json=as_json, show=lambda: table(columns, rows))


@app.command("show")
def show(run: str, as_json: Json = False) -> None:
    """Show a run with everything that its steps said."""
    with explained():
        found = Api().get(f"/api/runs/{run}")
    emit(found, as_json=as_json, show=lambda: _show(found))


@app.command("logs")
def logs(run: str, as_json: Json = False) -> None:
    """Print what the steps of a run wrote, attempt by attempt."""
    with explained():
        folder = load().home / "runs" / run
        files = sorted(folder.glob("*/attempt-*/log.txt"), key=lambda file: file.stat().st_mtime)
        if not files:
            raise RunError(f"no step of {run} has run on this machine: {folder}")
    said = [
        {
            "step": file.parent.parent.name,
            "attempt": file.parent.name,
            "text": file.read_text(errors="replace"),
        }
        for file in files
    ]
    emit(said, as_json=as_json, show=lambda: _show_logs(said))


@app.command("cancel")
def cancel(
    run: str,
    by: Annotated[str, typer.Option(help="Who ends it.")] = "operator",
    as_json: Json = False,
) -> None:
    """End a run."""
    with explained():
        found = Api().post(f"/api/runs/{run}/cancel", {"by": by})
    emit(found, as_json=as_json, show=lambda: out.print(f"{found['run']} is {found['state']}"))


def plan(alias: _Alias = "assistant", as_json: Json = False) -> None:
    """Say whether a run is due, and why or why not."""
    with explained():
        found = Api().get(f"/api/plan/{alias}")
    emit(found, as_json=as_json, show=lambda: facts(found))


def _recipe(changes: list[str]) -> dict[str, str | int | float]:
    recipe: dict[str, str | int | float] = {}
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals:
            raise SettingsError(f"--set {change}: expected FIELD=VALUE")
        recipe[field] = _value(value)
    return recipe


def _value(text: str) -> str | int | float:
    """Read a number where there is one: 3 stays whole, 3e-4 does not."""
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def _show(run: dict[str, Any]) -> None:
    facts({name: run[name] for name in ("run", "alias", "state", "reason", "created_at")})
    verdict = run["facts"].get("evaluate", {})
    if verdict.get("checks"):
        columns = ("check", "outcome", "candidate", "incumbent", "what it says")
        rows = [
            (c["name"], c["outcome"], _short(c["candidate"]), _short(c["incumbent"]), c["sentence"])
            for c in verdict["checks"]
        ]
        table(columns, rows, title="The gate's verdict")


def _show_logs(said: list[dict[str, str]]) -> None:
    for one in said:
        out.rule(f"{one['step']} {one['attempt']}", align="left")
        out.print(one["text"], markup=False, highlight=False)


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}"
