"""Entries of the log as rows of the archive: one wide table, and the bytes as they were.

Every event has the common columns; each kind fills those of its own fields. What has no column,
and what a newer version added, is in ``raw``.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa

from feedbackloop.errors import RecordError
from feedbackloop.events import (
    CaptureGap,
    ChoiceMade,
    CompletionServed,
    OutcomeReported,
    PromptRetried,
    RatingGiven,
    ReleaseChanged,
    RunChanged,
    Signal,
    SignalWithdrawn,
    ThumbGiven,
    UserErased,
)
from feedbackloop.log.port import Entry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIME = pa.timestamp("us", tz="UTC")

SCHEMA = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("hash", pa.int64(), nullable=False),
        ("type", pa.string()),
        ("event_id", pa.string()),
        ("tenant", pa.string()),
        ("happened_at", _TIME),
        ("producer", pa.string()),
        ("seqs", pa.list_(pa.int64())),
        ("completion_id", pa.string()),
        ("conversation", pa.string()),
        ("user_id", pa.string()),
        ("alias", pa.string()),
        ("assigned", pa.string()),
        ("release", pa.string()),
        ("release_seq", pa.int64()),
        ("arm", pa.string()),
        ("propensity", pa.float64()),
        ("epoch", pa.int64()),
        ("endpoint", pa.string()),
        ("source", pa.string()),
        ("outcome", pa.string()),
        ("status", pa.int64()),
        ("streamed", pa.bool_()),
        ("accepted_at", _TIME),
        ("first_token_at", _TIME),
        ("ended_at", _TIME),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("prompt_hash", pa.string()),
        ("replies", pa.int64()),
        ("reply_characters", pa.int64()),
        ("finish_reason", pa.string()),
        ("client_key", pa.string()),
        ("thumb", pa.string()),
        ("rating", pa.int64()),
        ("choice", pa.int64()),
        ("reported", pa.string()),
        ("withdrawn", pa.string()),
        ("retry_id", pa.string()),
        ("retry_kind", pa.string()),
        ("similarity", pa.float64()),
        ("gap_seconds", pa.float64()),
        ("first_seq", pa.int64()),
        ("last_seq", pa.int64()),
        ("lost", pa.int64()),
        ("reason", pa.string()),
        ("until", _TIME),
        ("run", pa.string()),
        ("before", pa.string()),
        ("after", pa.string()),
        ("changed_by", pa.string()),
        ("why", pa.string()),
        ("raw", pa.string()),
        ("bytes", pa.binary()),
        ("unreadable", pa.string()),
        ("problem", pa.string()),
    ]
)
"""The columns, in order. New ones come at the end; none is ever renamed or given another type."""

DICTIONARIES = [
    *("type", "tenant", "producer", "alias", "assigned", "release", "arm", "endpoint", "source"),
    *("outcome", "finish_reason", "thumb", "reported", "withdrawn", "retry_kind", "reason"),
    *("changed_by", "unreadable"),
]
"""Columns with few values."""

UNMEASURED = {"raw", "bytes", "problem", "why", "hash"}
"""Columns whose smallest and largest value help nobody."""

_Fields = Mapping[str, str]


def _as_named(*names: str, **renamed: str) -> _Fields:
    """Map columns to the fields that they are filled from."""
    return {**{name: name for name in names}, **renamed}


# A column is named otherwise where SQL has a meaning for the field's name.
_COMMON = _as_named("event_id", "tenant", "producer", "seqs", happened_at="at")
_SIGNAL = _as_named("completion_id", "conversation", "client_key", user_id="user")
_COMPLETION = _as_named(
    *("completion_id", "conversation", "alias", "assigned", "release", "release_seq", "arm"),
    *("propensity", "epoch", "endpoint", "source", "outcome", "status", "streamed", "accepted_at"),
    *("first_token_at", "ended_at", "prompt_tokens", "completion_tokens"),
    user_id="user",
)
_CHANGE = _as_named("before", "after", "epoch", "why", changed_by="by")
_OWN: Mapping[type, _Fields] = {
    CompletionServed: _COMPLETION,
    ThumbGiven: {"thumb": "thumb"},
    RatingGiven: {"rating": "rating"},
    ChoiceMade: {"choice": "choice"},
    OutcomeReported: {"reported": "outcome"},
    PromptRetried: {
        "retry_id": "retry_id",
        "retry_kind": "kind",
        "similarity": "similarity",
        "gap_seconds": "gap_seconds",
    },
    CaptureGap: {
        "first_seq": "first",
        "last_seq": "last",
        "lost": "count",
        "reason": "reason",
        "until": "until",
    },
    SignalWithdrawn: {"withdrawn": "signal"},
    UserErased: {"user_id": "user", "changed_by": "asked_by"},
    RunChanged: {"run": "run", **_CHANGE},
    ReleaseChanged: {"alias": "alias", **_CHANGE},
}


class Row(msgspec.Struct, frozen=True, gc=False):
    """An entry that is kept, and the number that its bytes are known by."""

    entry: Entry
    hash: int


def table(rows: Sequence[Row]) -> pa.Table:
    """Turn rows into Arrow's columns, in their order.

    An event whose fields fit no column (a number beyond 64 bits) becomes an unreadable row.
    """
    groups: defaultdict[type, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        groups[type(row.entry.event)].append(number)
    parts, order = [], []
    for kind, numbers in groups.items():
        parts.append(_group(kind, [rows[number] for number in numbers]))
        order += numbers
    whole = pa.concat_tables(parts) if len(parts) > 1 else parts[0]
    if len(parts) == 1:
        return whole
    places = [0] * len(order)
    for place, number in enumerate(order):
        places[number] = place
    return whole.take(pa.array(places, pa.int64()))


def _group(kind: type, rows: Sequence[Row]) -> pa.Table:
    """Turn rows of one kind of event into columns."""
    if issubclass(kind, RecordError):
        return _table(rows, _unreadable(rows))
    try:
        return _table(rows, _columns(kind, [row.entry.event for row in rows]))
    except (pa.ArrowException, OverflowError, UnicodeError, ValueError) as error:
        if len(rows) == 1:
            return _table(rows, _unfit(rows[0], error))
        return pa.concat_tables([_group(kind, [row]) for row in rows])


def _table(rows: Sequence[Row], columns: Mapping[str, pa.Array]) -> pa.Table:
    found = {
        "position": pa.array([row.entry.offset.position for row in rows], pa.int64()),
        "hash": pa.array([row.hash for row in rows], pa.int64()),
        **({} if "raw" in columns else _raw(rows)),
        **columns,
    }
    return pa.table(
        [
            found[field.name] if field.name in found else pa.nulls(len(rows), field.type)
            for field in SCHEMA
        ],
        schema=SCHEMA,
    )


def _raw(rows: Sequence[Row]) -> dict[str, pa.Array]:
    raw = pa.array([row.entry.raw for row in rows], pa.binary())
    try:
        return {"raw": raw.cast(pa.string())}
    except pa.ArrowInvalid:
        # A field that we do not know holds bytes that are no text: they are kept beside it.
        texts = [row.entry.raw.decode("utf-8", "replace") for row in rows]
        clean = [text.encode() == row.entry.raw for text, row in zip(texts, rows, strict=True)]
        kept = [None if ok else row.entry.raw for ok, row in zip(clean, rows, strict=True)]
        return {"raw": pa.array(texts, pa.string()), "bytes": pa.array(kept, pa.binary())}


def _columns(kind: type, events: Sequence[Any]) -> dict[str, pa.Array]:
    fields = {**_COMMON, **(_SIGNAL if issubclass(kind, Signal) else {}), **_OWN.get(kind, {})}
    values = zip(*map(attrgetter(*fields.values()), events), strict=True)
    columns = {name: _array(name, column) for name, column in zip(fields, values, strict=True)}
    columns["type"] = pa.array([kind.__name__] * len(events), pa.string())
    if kind is CompletionServed:
        columns |= _replies(events)
    return columns


def _replies(events: Sequence[CompletionServed]) -> dict[str, pa.Array]:
    return {
        "prompt_hash": pa.array([e.chain[-1] if e.chain else None for e in events], pa.string()),
        "replies": pa.array([len(e.replies) for e in events], pa.int64()),
        "reply_characters": pa.array(
            [sum(len(reply.text) for reply in e.replies) for e in events], pa.int64()
        ),
        "finish_reason": pa.array(
            [e.replies[0].finish_reason if e.replies else None for e in events], pa.string()
        ),
    }


def _array(name: str, values: Iterable[Any]) -> pa.Array:
    kind = SCHEMA.field(name).type
    if kind == _TIME:
        # Arrow reads an aware datetime thirty times slower.
        micros = [None if one is None else (one - _EPOCH) // _MICROSECOND for one in values]
        return pa.array(micros, pa.int64()).cast(_TIME)
    return pa.array(values, kind)


def _unreadable(rows: Sequence[Row]) -> dict[str, pa.Array]:
    errors = [row.entry.event for row in rows]
    return {
        "raw": pa.nulls(len(rows), pa.string()),
        "bytes": pa.array([row.entry.raw for row in rows], pa.binary()),
        "unreadable": pa.array([type(error).__name__ for error in errors], pa.string()),
        "problem": pa.array([str(error) for error in errors], pa.string()),
    }


def _unfit(row: Row, error: Exception) -> dict[str, pa.Array]:
    event = row.entry.event
    assert not isinstance(event, RecordError)  # noqa: S101  # those have no columns to fit
    return {
        "event_id": pa.array([event.event_id], pa.string()),
        "raw": pa.nulls(1, pa.string()),
        "bytes": pa.array([row.entry.raw], pa.binary()),
        "unreadable": pa.array(["OutOfRange"], pa.string()),
        "problem": pa.array([str(error)], pa.string()),
    }
