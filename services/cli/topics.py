"""Kafka's topics: made by this command and by nothing else."""

import typer

from services import wiring_kafka
from services.cli.output import REFUSED, Json, emit, err, explained, table
from services.settings import load

topics_app = typer.Typer(help="Kafka's topics.", no_args_is_help=True)


@topics_app.command("create")
def create(as_json: Json = False) -> None:
    """Make the topics that are missing; say in what the others fall short, and leave them."""
    with explained():
        states = wiring_kafka.create_topics(load())
    rows = [(one.name, one.state, "; ".join(one.differs)) for one in states]
    emit(states, as_json=as_json, show=lambda: table(("topic", "state", "falls short"), rows))
    if any(one.differs for one in states):
        err.print("A topic that is there is not changed: see docs/kafka.md.", style="yellow")
        raise typer.Exit(REFUSED)
