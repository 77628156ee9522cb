"""Ask the archive in SQL."""

import csv
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Annotated, Any

import msgspec
import typer

from feedbackloop.errors import QueryFailed, SettingsError
from feedbackloop.log.archive import SUFFIX, ArchiveFile
from services import wiring
from services.archiver.verify import chains
from services.cli.output import Json, err, explained, table
from services.settings import Settings, load

_SHOWN = 100
Row = tuple[Any, ...]
_encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")
_FORMATS = ("table", "csv", "jsonl")


def sql(
    query: str,
    form: Annotated[str, typer.Option("--format", help="table, csv or jsonl.")] = "table",
    since: Annotated[
        str, typer.Option(help="Look only at files with events since this day, 2026-03-04.")
    ] = "",
    limit: Annotated[int, typer.Option(help="Rows that a table shows; 0 shows all.")] = _SHOWN,
    as_json: Json = False,
) -> None:
    """Ask the archive: views completions, signals, labels, releases, runs, gaps, events, rows.

    `describe completions` lists a view's columns.
    """
    with explained():
        if form not in _FORMATS:
            raise SettingsError(f"--format {form}: expected {', '.join(_FORMATS)}")
        _answer(load(), query, _day(since), "json" if as_json else form, limit)


def _answer(settings: Settings, query: str, since: datetime | None, form: str, limit: int) -> None:
    try:
        _ask(settings, query, since, form, limit)
    except QueryFailed as error:
        if SUFFIX not in str(error):
            raise
        # A file was sealed and taken away since it was listed. Nothing is written before the first
        # rows are there, so the question can be asked again.
        _ask(settings, query, since, form, limit)


def _ask(settings: Settings, query: str, since: datetime | None, form: str, limit: int) -> None:
    store = wiring.open_store(settings)
    found = chains(wiring.open_archive(settings, store))
    files = [file for one in found.values() for file in one.files if _reaches(file, since)]
    views = wiring.open_views(settings, store, files)
    try:
        answer = views.query(query)
        batches = iter(answer.batches)
        rows = chain.from_iterable(chain([next(batches, ())], batches))
        if form in {"json", "jsonl"}:
            objects = (_object(answer.columns, answer.is_json, row) for row in rows)
            _write_json(objects, lines=form == "jsonl")
        elif form == "csv":
            _write_csv(answer.columns, rows)
        else:
            _show(answer.columns, rows, limit)
    finally:
        views.close()


def _write_json(objects: Iterator[dict[str, Any]], *, lines: bool) -> None:
    if not lines:
        text = _encoder.encode(list(objects))
        sys.stdout.write(msgspec.json.format(text, indent=2).decode() + "\n")
        return
    for one in objects:
        sys.stdout.write(_encoder.encode(one).decode() + "\n")


def _write_csv(columns: Sequence[str], rows: Iterator[Row]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_plain(cell) for cell in row] for row in rows)


def _object(columns: Sequence[str], is_json: Sequence[bool], row: Row) -> dict[str, Any]:
    """Make an object of a row; JSON stays JSON."""
    return {
        name: msgspec.Raw(cell.encode()) if json and cell is not None else cell
        for name, json, cell in zip(columns, is_json, row, strict=True)
    }


def _show(columns: Sequence[str], rows: Iterator[Row], limit: int) -> None:
    shown = list(islice(rows, limit)) if limit else list(rows)
    table(columns, [[_plain(cell) for cell in row] for row in shown])
    if limit and next(rows, None) is not None:
        err.print(f"the first {limit} rows: --limit 0 shows all, --format csv writes all")


def _plain(cell: Any) -> Any:  # noqa: ANN401  # any value of a database
    """Write a cell as people and spreadsheets read it."""
    if cell is None or isinstance(cell, str | int | float | bool):
        return cell
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ")
    if isinstance(cell, list | dict | tuple):
        return _encoder.encode(cell).decode()
    return str(cell)


def _reaches(file: ArchiveFile, since: datetime | None) -> bool:
    last = file.contents.last_at
    return since is None or last is None or last >= since


def _day(text: str) -> datetime | None:
    if not text:
        return None
    try:
        day = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"--since {text}: expected a day such as 2026-03-04") from error
    return day if day.tzinfo is not None else day.replace(tzinfo=UTC)
