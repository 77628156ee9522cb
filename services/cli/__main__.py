"""Entry point of the command ``feedbackloop``."""

from typing import Annotated

import typer

import feedbackloop
from services.cli import (
    archive,
    artefacts,
    data,
    demo,
    doctor,
    gate,
    house,
    keys,
    redact,
    reference,
    releases,
    runs,
    sql,
    topics,
)
from services.cli.output import out

app = typer.Typer(
    name="feedbackloop",
    help="Production feedback in, a better LoRA adapter out, live, and never a worse one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("up")(house.up)
app.command("down")(house.down)
app.command("status")(house.status)
app.command("doctor")(doctor.doctor)
app.command("plan")(runs.plan)
app.command("trace")(data.trace)
app.add_typer(runs.app, name="run")
app.add_typer(releases.app, name="release")
app.add_typer(data.dataset_app, name="dataset")
app.add_typer(data.log_app, name="log")
app.add_typer(archive.app, name="archive")
app.command("sql")(sql.sql)
app.add_typer(topics.topics_app, name="topics")
app.add_typer(keys.app, name="keys")
app.add_typer(gate.app, name="gate")
app.add_typer(artefacts.suite_app, name="suite")
app.add_typer(artefacts.adapter_app, name="adapter")
app.add_typer(artefacts.retries_app, name="retries")
app.add_typer(redact.redact_app, name="redact")
app.command("settings")(reference.settings)
app.command("metrics")(reference.metrics)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out.print(feedbackloop.__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
