"""One row for each fault, and whether every promise was kept under it."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Row:
    """What happened under one kind of fault.

    Attributes:
        part: What the fault was done to: ``spool``, ``kafka``.
        fault: In words.
        times: How often it was done.
        figures: Further columns by name, in order; None is one that was not measured.
        broken: Promises that were not kept, in words; empty if all were.
        skipped: Why it was not done, if it was not.
    """

    part: str
    fault: str
    times: int = 0
    figures: dict[str, int | float | None] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    skipped: str = ""


def table(rows: Sequence[Row]) -> str:
    """Show rows as Markdown, a table for each part."""
    return "\n\n".join(
        _part([row for row in rows if row.part == part])
        for part in dict.fromkeys(row.part for row in rows)
    )


def _part(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row.figures))
    head = [rows[0].part, "times", *columns, "kept"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        figures = [_figure(row.figures.get(name)) for name in columns]
        lines.append([row.fault, str(row.times) if not row.skipped else "-", *figures, _kept(row)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}"


def _kept(row: Row) -> str:
    if row.skipped:
        return f"not done: {row.skipped}"
    return "yes" if not row.broken else "NO: " + "; ".join(row.broken)
