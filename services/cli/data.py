"""What was recorded, and what became of it: the log, snapshots, traces."""

import asyncio
import contextlib
import sys
from typing import Annotated, Any

import msgspec
import typer

from feedbackloop.dataset.snapshot import PARTS
from feedbackloop.errors import RecordError, SettingsError
from feedbackloop.log.port import EventLog, Offset
from services import wiring
from services.cli.api import Api
from services.cli.output import Json, emit, explained, facts, out, table
from services.settings import load

log_app = typer.Typer(help="Events, as they were recorded.", no_args_is_help=True)
dataset_app = typer.Typer(help="Snapshots: what runs train on.", no_args_is_help=True)
_From = Annotated[
    str | None,
    typer.Option("--from", help="PARTITION:POSITION to begin after, or POSITION in every one."),
]
_Format = Annotated[str, typer.Option("--format", help="jsonl: one JSON object a line.")]


@log_app.command("export")
def export(
    start: _From = None,
    form: _Format = "jsonl",
) -> None:
    """Print every event as a JSON line, partition by partition, then end."""
    with explained():
        _check_format(form)
        asyncio.run(_print(wiring.open_log(load(), partition=None), _starts(start), follow=False))


@log_app.command("tail")
def tail(start: _From = None, form: _Format = "jsonl") -> None:
    """Print events as JSON lines as they come, until interrupted."""
    with explained(), contextlib.suppress(KeyboardInterrupt):
        _check_format(form)
        asyncio.run(_print(wiring.open_log(load(), partition=None), _starts(start), follow=True))


@dataset_app.command("list")
def list_snapshots(as_json: Json = False) -> None:
    """List the snapshots that are kept here."""
    with explained():
        store = wiring.open_snapshots(load())
        found = {digest: store.manifest(digest) for digest in store.digests()}
    rows = [
        (digest[:12], m.options.alias, m.options.until.isoformat(), m.rows, m.held_out)
        for digest, m in found.items()
    ]
    columns = ("digest", "alias", "until", "rows", "held out")
    emit(found, as_json=as_json, show=lambda: table(columns, rows))


@dataset_app.command("show")
def show_snapshot(digest: str, as_json: Json = False) -> None:
    """Show a snapshot's manifest: every count of every filter."""
    with explained():
        manifest = wiring.open_snapshots(load()).manifest(digest)
    emit(manifest, as_json=as_json, show=lambda: facts(msgspec.to_builtins(manifest)))


@dataset_app.command("verify")
def verify(digest: str, as_json: Json = False) -> None:
    """Read a snapshot back, and hold it against its name."""
    with explained():
        snapshot = wiring.open_snapshots(load()).get(digest)
    counts = {"digest": digest, "kto": len(snapshot.kto), "dpo": len(snapshot.dpo)}
    emit(counts, as_json=as_json, show=lambda: out.print(f"{digest} is what its name says"))


@dataset_app.command("export")
def export_rows(
    digest: str,
    part: Annotated[str, typer.Option(help=f"One of {', '.join(PARTS)}.")] = "kto",
) -> None:
    """Print a snapshot's rows as JSON lines, with the trainers' column names."""
    with explained():
        snapshot = wiring.open_snapshots(load()).get(digest)
        if part not in PARTS:
            raise SettingsError(f"--part {part}: expected one of {', '.join(PARTS)}")
        rows: Any = getattr(snapshot, part)
    for row in rows:
        sys.stdout.write(msgspec.json.encode(row).decode() + "\n")


def trace(completion_id: str, as_json: Json = False) -> None:
    """Follow a completion to its signals, label, snapshots, runs and releases."""
    with explained():
        found = Api().get(f"/api/traces/{completion_id}")
    emit(found, as_json=as_json, show=lambda: facts(found))


def _check_format(form: str) -> None:
    if form != "jsonl":
        raise SettingsError(f"--format {form}: expected jsonl")


def _starts(start: str | None) -> dict[str | None, int]:
    if start is None:
        return {}
    partition, _, position = start.rpartition(":")
    try:
        return {partition or None: int(position)}
    except ValueError as error:
        raise SettingsError(f"--from {start}: expected PARTITION:POSITION or POSITION") from error


async def _print(log: EventLog, starts: dict[str | None, int], *, follow: bool) -> None:
    read: dict[str, int] = {}
    while True:
        for partition in await log.partitions():
            first = starts.get(partition, starts.get(None, -1))
            after = Offset(partition, read.get(partition, first))
            async for entry in log.read(after=after):
                read[partition] = entry.offset.position
                sys.stdout.write(_line(entry.offset, entry.event, entry.raw) + "\n")
        sys.stdout.flush()
        if not follow:
            return
        await asyncio.sleep(0.5)


def _line(offset: Offset, event: object, raw: bytes) -> str:
    said: dict[str, Any] = {"partition": offset.partition, "position": offset.position}
    if isinstance(event, RecordError):
        return msgspec.json.encode(said | {"error": str(event)}).decode()
    return msgspec.json.encode(said | {"event": msgspec.Raw(raw)}).decode()
