"""The programs that are compared, each in a process of its own: what it is given, what it took."""

import asyncio
import resource
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from feedbackloop.log.parquet_rows import SCHEMA
from feedbackloop.log.port import Offset
from services import telemetry, wiring
from services.archiver.__main__ import calm_collector, make_runner
from services.sections.archive import FolderArchive, ObjectArchive
from services.settings import Settings

WARM_UP = 4_000


class Turn(msgspec.Struct):
    """What a program is given.

    Attributes:
        settings: Of an archiver, whose log holds ``events``.
        events: How many there are, the first ones to warm up.
        lines: A file with the same events, one a line.
        output: A file that DuckDB writes.
        threads: How many DuckDB may use.
    """

    settings: dict[str, object]
    events: int
    lines: str
    output: str
    threads: int


class Took(msgspec.Struct):
    """What one turn took.

    Attributes:
        seconds: From the first event after the warm-up to the last file.
        cpu_seconds: Of all threads.
        events: In that time.
        peak_bytes: Most memory that the process had at once.
        written_bytes: Size of the files.
    """

    seconds: float
    cpu_seconds: float
    events: int
    peak_bytes: int
    written_bytes: int

    @property
    def per_second(self) -> float:
        """Return events a second."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """Return CPU microseconds an event."""
        return self.cpu_seconds / self.events * 1e6


def archiver(turn: Turn) -> Took:
    """Archive a log from its beginning, as the process does, turn by turn."""
    settings = Settings.model_validate(turn.settings)
    store = wiring.open_store(settings)

    async def run() -> Took:
        runner = make_runner(settings, store)
        calm_collector()
        warm, began = 0, _clocks()
        while telemetry.ARCHIVED_EVENTS._value.get() < turn.events:  # noqa: SLF001
            moved = await runner.turn()
            if warm < WARM_UP:
                warm, began = warm + moved, _clocks()
            elif not moved:
                # Nothing more to read: what waits for its time is published now.
                for one in runner.archivists.values():
                    await one.finish()
        seconds, cpu = (now - then for now, then in zip(_clocks(), began, strict=True))
        await runner.drain()
        return _took(seconds, cpu, turn.events - warm, _size(settings.archive))

    return asyncio.run(run())


def duckdb(turn: Turn) -> Took:
    """Read the same events as lines of JSON, and write the same columns as Parquet."""
    import duckdb as product  # noqa: PLC0415  # one program a process

    connection = product.connect()
    connection.execute(f"SET threads = {turn.threads}; SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = true")
    connection.execute(_copy(turn.lines, turn.output + ".warm", WARM_UP))
    began = _clocks()
    connection.execute(_copy(turn.lines, turn.output, turn.events))
    seconds, cpu = (now - then for now, then in zip(_clocks(), began, strict=True))
    return _took(seconds, cpu, turn.events, Path(turn.output).stat().st_size)


def reading(turn: Turn) -> Took:
    """Read the log and write nothing: a part of what the archiver takes."""
    settings = Settings.model_validate(turn.settings)

    async def run() -> Took:
        event_log = wiring.open_log(settings, partition=None)
        began, count = _clocks(), 0
        for partition in await event_log.partitions():
            async for _ in event_log.read(after=Offset(partition, -1)):
                count += 1
        seconds, cpu = (now - then for now, then in zip(_clocks(), began, strict=True))
        await event_log.close()
        return _took(seconds, cpu, count, 0)

    return asyncio.run(run())


WORKERS: dict[str, Callable[[Turn], Took]] = {
    "archiver": archiver,
    "duckdb": duckdb,
    "reading": reading,
}

_RENAMED = {"happened_at": "at", "user_id": "user"}
_ELSEWHERE = {"position", "hash", "type", "raw", "prompt_hash", "replies", "reply_characters"} | {
    *("finish_reason", "bytes", "unreadable", "problem")
}
_COLUMNS = [field.name for field in SCHEMA if field.name not in _ELSEWHERE]
_TYPES = {"int64": "BIGINT", "double": "DOUBLE", "bool": "BOOLEAN", "string": "VARCHAR"}


def _type(name: str) -> str | list[str]:
    found = str(SCHEMA.field(name).type)
    if found.startswith("timestamp"):
        return "TIMESTAMPTZ"
    return ["BIGINT"] if found.startswith("list") else _TYPES[found]


_SHAPE = {
    **{_RENAMED.get(name, name): _type(name) for name in _COLUMNS},
    "type": "VARCHAR",
    "chain": ["VARCHAR"],
    "replies": [{"text": "VARCHAR", "finish_reason": "VARCHAR"}],
}
_COPIED = ", ".join(f'e."{_RENAMED.get(name, name)}" AS "{name}"' for name in _COLUMNS)
_COPY = """
COPY (
    SELECT
        row_number() OVER () - 1 AS position, hash(raw) AS hash, e."type",
        {columns},
        e.chain[-1] AS prompt_hash, len(e.replies) AS replies,
        list_sum(list_transform(e.replies, lambda one: length(one."text"))) AS reply_characters,
        e.replies[1].finish_reason AS finish_reason, raw
    FROM (
        SELECT json::VARCHAR AS raw,
               json_transform(json, '{shape}') AS e
        FROM read_ndjson_objects('{lines}') LIMIT {limit}
    )
) TO '{output}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)
"""


def _copy(lines: str, output: str, limit: int) -> str:
    shape = msgspec.json.encode(_SHAPE).decode()
    return _COPY.format(columns=_COPIED, shape=shape, lines=lines, output=output, limit=limit)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _took(seconds: float, cpu: float, events: int, written: int) -> Took:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Took(
        seconds=seconds, cpu_seconds=cpu, events=events, peak_bytes=peak, written_bytes=written
    )


def _size(archive: FolderArchive | ObjectArchive) -> int:
    assert isinstance(archive, FolderArchive)  # noqa: S101  # as every turn's is
    assert archive.path is not None  # noqa: S101
    return sum(file.stat().st_size for file in archive.path.rglob("*.parquet"))
