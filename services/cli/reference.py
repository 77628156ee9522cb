"""Every setting and every metric, and what they mean: for a terminal, and for docs/."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import msgspec
import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from services import telemetry
from services.cli.output import Json, emit, explained, table
from services.sections.section import Section
from services.settings import Settings, load

_HEAD = """\
# Settings

Written by `feedbackloop settings --markdown`; a test compares the two.

A setting is a variable of the environment, or a name in the TOML file that
`FEEDBACKLOOP_SETTINGS_FILE` names: `FEEDBACKLOOP_SIDECAR__BIND` is `bind` in the file's section
`[sidecar]`. A variable outranks the file. Unknown names are refused at the start, with what was
expected. Lists and tables are written as JSON in a variable. Times are in seconds, shares lie
between 0 and 1. A section with several kinds names one by its field `kind`; left out, it is the
kind that comes first."""


_METRICS_HEAD = """\
# Metrics

Written by `feedbackloop metrics --markdown`; a test compares the two.

Sidecar, scheduler and archiver answer `/metrics` in Prometheus' text format, the sidecar on its
admin listener, with vLLM's own. Each process counts in those that are its work. Times are in
seconds. No label is ever a person, a prompt or a conversation.

| metric | kind | labels | means |
| --- | --- | --- | --- |
"""

_KIND = "Chooses this kind."


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting.

    Attributes:
        variable: Its name in the environment.
        section: The class that holds it.
        default: As it would be written; None if there is none.
        means: Its sentence.
    """

    variable: str
    section: type[BaseModel]
    default: str | None
    means: str


def settings(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/settings.md instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the settings in force. Secrets are not shown."""
    if markdown:
        sys.stdout.write(as_markdown())
        return
    with explained():
        now = load().model_dump(mode="json")
    rows = list(_flat(now))
    emit(now, as_json=as_json, show=lambda: table(("setting", "value"), rows))


def metrics(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print docs/metrics.md instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List every metric, with its labels and its meaning."""
    if markdown:
        sys.stdout.write(metrics_as_markdown())
        return
    known = telemetry.described()
    rows = [(one.name, ", ".join(one.labels), one.means) for one in known]
    emit(known, as_json=as_json, show=lambda: table(("metric", "labels", "means"), rows))


def metrics_as_markdown() -> str:
    """Write the page of all metrics."""
    lines = [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)}"
        f" | {one.means} |\n"
        for one in telemetry.described()
    ]
    return _METRICS_HEAD + "".join(lines)


def documented() -> list[Setting]:
    """Return every setting there is, in the order of the classes."""
    return list(_walk(Settings, "FEEDBACKLOOP_"))


def as_markdown() -> str:
    """Write the page of all settings."""
    lines = [_HEAD]
    section: type[BaseModel] | None = None
    for one in documented():
        if one.section is not section:
            section = one.section
            lines += [
                "",
                *_heading(one),
                "",
                "| variable | default | means |",
                "| --- | --- | --- |",
            ]
        default = "" if one.default is None else f"`{one.default}`"
        lines.append(f"| `{one.variable}` | {default} | {one.means} |")
    return "\n".join(lines) + "\n"


def _heading(one: Setting) -> list[str]:
    if one.section is Settings:
        return ["## Everywhere"]
    name = one.variable.removeprefix("FEEDBACKLOOP_").split("__")[0].lower()
    kind = one.section.model_fields.get("kind")
    title = f"## {name}" if kind is None else f"## {name}, of kind `{kind.default}`"
    return [title, "", (one.section.__doc__ or "").strip().splitlines()[0]]


def _walk(section: type[BaseModel], prefix: str) -> Iterator[Setting]:
    """Yield a section's own settings, then those of the sections in it."""
    inner: list[tuple[type[BaseModel], str]] = []
    for name, field in section.model_fields.items():
        variable = prefix + name.upper()
        sections = list(_sections(field.annotation))
        if not sections:
            yield Setting(
                variable=variable,
                section=section,
                default=_default(field),
                means=_KIND if name == "kind" else _sentence(field),
            )
        many = get_origin(field.annotation) is dict
        inner += [
            (each, f"{variable}__{{NAME}}__" if many else f"{variable}__") for each in sections
        ]
    for each, where in inner:
        yield from _walk(each, where)


def _sentence(field: FieldInfo) -> str:
    return " ".join((field.description or "").replace("``", "`").split())


def _sections(annotation: Any) -> Iterator[type[Section]]:  # noqa: ANN401  # any annotation
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
        return
    for part in get_args(annotation):
        yield from _sections(part)


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if isinstance(value, str | bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value) or None
    if isinstance(value, SecretStr):
        return None
    if isinstance(value, tuple | dict):
        return msgspec.json.encode(value).decode() if value else None
    return str(value)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
