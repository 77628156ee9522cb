"""The archive: what is in it, whether it is whole, and what an operator may do about it."""

import asyncio
import getpass
import socket
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import Progress

from feedbackloop.errors import ArchiveDamaged, FeedbackLoopError, SettingsError, UnavailableError
from feedbackloop.log.archive import Chain, Level
from feedbackloop.log.completeness import Completeness
from feedbackloop.log.ledger import Decision, Lineage
from feedbackloop.log.port import Archive
from services import wiring
from services.archiver.keeper import look_after, upkeep
from services.archiver.survey import Survey, mend, survey
from services.archiver.verify import Difference, chains, damaged, differences, replayed
from services.cli.output import REFUSED, Json, emit, err, explained, facts, out, table
from services.settings import Settings, load

app = typer.Typer(help="Every event in files, each once.", no_args_is_help=True)


@app.command("status")
def status(as_json: Json = False) -> None:
    """Show what is archived, how far the log is ahead, and how complete it is.

    Ends with 1 if a partition waits for a decision, a file is missing, or records were lost
    without a word.
    """
    with explained():
        settings = load()
        store = wiring.open_store(settings)
        archive = wiring.open_archive(settings, store)
        found = chains(archive)
        surveys = asyncio.run(_surveys(settings, archive))
        completeness = _completeness(settings, found)
    reports = [_report(lineage, one, surveys) for lineage, one in found.items()]
    reports += [_empty(one) for one in surveys.values() if one.standing.lineage not in found]
    answer = {"store": store.name, "partitions": reports, "completeness": completeness}
    emit(answer, as_json=as_json, show=lambda: _show(answer))
    if completeness.missing or any(one["stopped"] or one["holes"] for one in reports):
        raise typer.Exit(REFUSED)


@app.command("verify")
def verify(
    against: Annotated[
        str, typer.Option(help="Another archive of the same log: a folder, or s3://bucket/prefix.")
    ] = "",
    log: Annotated[
        bool, typer.Option("--log", help="Compare with what the log still has, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read every file whole, and hold it against what it says; then against what is named.

    Ends with 1 if anything differs, is damaged or is missing.
    """
    with explained():
        settings = load()
        archive = wiring.open_archive(settings, wiring.open_store(settings))
        found = chains(archive)
        problems = _read(archive, found)
        compared: list[Difference] = []
        if against:
            other = wiring.open_archive_at(settings, against)
            compared += differences(archive, other)
        if log:
            compared += asyncio.run(_replays(settings, archive))
    answer = {
        "files": sum(len(one.files) for one in found.values()),
        "rows": sum(file.contents.rows for one in found.values() for file in one.files),
        "damaged": [{"file": one.key, "problem": one.reason} for one in problems],
        "holes": {_name(lineage): one.holes for lineage, one in found.items() if one.holes},
        "compared": [
            {"lineage": _name(one.lineage), "same": one.same, **_sides(one)} for one in compared
        ],
    }
    emit(answer, as_json=as_json, show=lambda: _show_verified(answer))
    if against and not compared:
        err.print(f"{against} has nothing in common with this archive", style="red", markup=False)
        raise typer.Exit(REFUSED)
    if answer["damaged"] or answer["holes"] or not all(one.same for one in compared):
        raise typer.Exit(REFUSED)


@app.command("compact")
def compact(
    now: Annotated[
        bool,
        typer.Option("--now", help="Take superseded files away at once: nobody may be reading."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Seal all fresh files into large ones, let go of what is too old, and clear up."""
    with explained():
        settings = load()
        archive = wiring.open_archive(settings, wiring.open_store(settings))
        terms = upkeep(settings, everything=True)
        if now:
            terms = msgspec.structs.replace(terms, grace_seconds=0.0)
        done = look_after(archive, archive.lineages(), terms, now=datetime.now(UTC))
    columns = ("partition", "sealed", "into", "removed", "waiting", "let go")
    rows = [
        (
            one.lineage.partition,
            *(one.sealed, one.sealed_files, one.removed, one.waiting, one.retired_through),
        )
        for one in done
    ]
    emit(done, as_json=as_json, show=lambda: table(columns, rows))


@app.command("resume")
def resume(
    partition: str,
    why: Annotated[str, typer.Option(help="What happened, for whoever reads the ledger.")],
    by: Annotated[str, typer.Option(help="Who decides; left out, user and machine.")] = "",
    as_json: Json = False,
) -> None:
    """Let a stopped partition go on past what is in its way; the decision is kept for ever."""
    with explained():
        if not why.strip():
            raise SettingsError("--why: expected what happened")
        signed = (by or f"{getpass.getuser()}@{socket.gethostname()}", why, datetime.now(UTC))
        decided = asyncio.run(_resume(load(), partition, signed))
        if not decided:
            raise FeedbackLoopError(f"nothing is in the way of partition {partition}")
    emit(decided, as_json=as_json, show=lambda: _show_decisions(decided))


@app.command("files")
def files(as_json: Json = False) -> None:
    """Name the files that count, in order, one a line: for Spark, Trino and the like."""
    with explained():
        settings = load()
        store = wiring.open_store(settings)
        found = chains(wiring.open_archive(settings, store))
    paths = [f"{store.name}/{file.place.key}" for one in found.values() for file in one.files]
    emit(paths, as_json=as_json, show=lambda: out.print("\n".join(paths), soft_wrap=True))


@app.command("ledger")
def ledger(as_json: Json = False) -> None:
    """Show what operators and retention decided."""
    with explained():
        settings = load()
        decided = wiring.open_archive(settings, wiring.open_store(settings)).ledger()
    emit(decided.decisions, as_json=as_json, show=lambda: _show_decisions(decided.decisions))


async def _surveys(settings: Settings, archive: Archive) -> dict[Lineage, Survey]:
    """Hold every partition against the log; say so if it does not answer."""
    found: dict[Lineage, Survey] = {}
    event_log = wiring.open_log(settings, partition=None)
    try:
        for partition in await event_log.partitions():
            here = await survey(partition, event_log=event_log, archive=archive)
            found[here.standing.lineage] = here
    except UnavailableError as error:
        err.print(f"the log does not answer: {error}", style="yellow", markup=False)
    finally:
        await event_log.close()
    return found


async def _replays(settings: Settings, archive: Archive) -> list[Difference]:
    event_log = wiring.open_log(settings, partition=None)
    try:
        return [
            await replayed(
                event_log, archive, here.found, window_entries=settings.archiver.window_entries
            )
            for here in (await _surveys(settings, archive)).values()
            if here.found.files
        ]
    finally:
        await event_log.close()


async def _resume(
    settings: Settings, partition: str, signed: tuple[str, str, datetime]
) -> list[Decision]:
    archive = wiring.open_archive(settings, wiring.open_store(settings))
    event_log = wiring.open_log(settings, partition=None)
    try:
        decided = await mend(partition, event_log=event_log, archive=archive, signed=signed)
    finally:
        await event_log.close()
    return list(decided)


def _completeness(settings: Settings, found: dict[Lineage, Chain]) -> Completeness:
    every = [file for one in found.values() for file in one.files]
    views = wiring.open_views(settings, wiring.open_store(settings), every)
    try:
        return views.audit(now=datetime.now(UTC))[0]
    finally:
        views.close()


def _read(archive: Archive, found: dict[Lineage, Chain]) -> list[ArchiveDamaged]:
    total = sum(file.size for one in found.values() for file in one.files)
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("reading", total=total)
        return damaged(archive, found, checked=lambda size: progress.advance(task, size))


def _report(lineage: Lineage, found: Chain, surveys: dict[Lineage, Survey]) -> dict[str, Any]:
    here = surveys.get(lineage)
    contents = [file.contents for file in found.files]
    times = [at for one in contents for at in (one.first_at, one.last_at) if at is not None]
    return {
        "partition": lineage.partition,
        "log": lineage.log,
        "fresh": sum(file.place.level is Level.FRESH for file in found.files),
        "sealed": sum(file.place.level is Level.SEALED for file in found.files),
        "superseded": len(found.superseded),
        "rows": sum(one.rows for one in contents),
        "repeats": sum(one.entries - one.rows for one in contents),
        "unreadable": sum(one.unreadable for one in contents),
        "bytes": sum(file.size for file in found.files),
        "from": min(times, default=None),
        "to": max(times, default=None),
        "end": found.end,
        "log_end": None if here is None else here.log.end,
        "holes": list(found.holes),
        "stopped": None if here is None or here.obstacle is None else here.obstacle.explanation,
    }


def _empty(here: Survey) -> dict[str, Any]:
    """Report a partition of which nothing is archived yet."""
    return _report(here.standing.lineage, here.found, {here.standing.lineage: here})


def _show(answer: dict[str, Any]) -> None:
    facts({"store": answer["store"]})
    columns = ("partition", "rows", "files", "MB", "unreadable", "to")
    rows = [
        (
            one["partition"],
            one["rows"],
            f"{one['fresh']} + {one['sealed']} sealed",
            round(one["bytes"] / 1e6, 1),
            one["unreadable"],
            None if one["to"] is None else f"{one['to']:%Y-%m-%d %H:%M}",
        )
        for one in answer["partitions"]
    ]
    table(columns, rows)
    for one in answer["partitions"]:
        if one["holes"]:
            err.print(f"{one['partition']}: files are missing for {one['holes']}", style="red")
        if one["stopped"]:
            err.print(
                f"{one['partition']} stands still: {one['stopped']}. To go on:"
                f" feedbackloop archive resume {one['partition']} --why ...",
                style="red",
                markup=False,
                soft_wrap=True,
            )
    _show_completeness(answer["completeness"])


def _show_completeness(found: Completeness) -> None:
    facts(
        {
            "completeness": f"{found.ratio:.4%} of {found.expected} records of {found.producers}"
            " producers",
            "declared lost": found.declared or "none",
            "lost without a word": found.missing or "none",
            "may still come": found.pending,
        }
    )


def _show_verified(answer: dict[str, Any]) -> None:
    out.print(f"{answer['files']} files with {answer['rows']} rows were read whole")
    for one in answer["damaged"]:
        err.print(f"damaged: {one['file']}: {one['problem']}", style="red", markup=False)
    for lineage, holes in answer["holes"].items():
        err.print(f"missing: {lineage}: positions {holes}", style="red", markup=False)
    for one in answer["compared"]:
        word = "the same" if one["same"] else "DIFFERENT"
        here, there = one["here"], one["there"]
        out.print(
            f"{one['lineage']}, positions {here['first']} to {here['last']}: {word},"
            f" {here['rows']} and {there['rows']} rows, digests {here['digest']} and"
            f" {there['digest']}",
            markup=False,
            soft_wrap=True,
        )


def _show_decisions(decided: Any) -> None:  # noqa: ANN401  # decisions of any kind
    for one in decided:
        facts(msgspec.to_builtins(one))


def _sides(one: Difference) -> dict[str, Any]:
    return {"here": msgspec.to_builtins(one.here), "there": msgspec.to_builtins(one.there)}


def _name(lineage: Lineage) -> str:
    return f"{lineage.partition} of {lineage.log}"
