"""The programs that are compared, each in a process of its own: what it is given, what it took."""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from feedbackloop.log.parquet_rows import SCHEMA
from feedbackloop.log.port import Offset
from services import telemetry, wiring
from services.archiver.__main__ import calm_collector, make_runner
from services.archiver.runner import Runner
from services.sections.archive import FolderArchive, ObjectArchive
from services.settings import Settings

WARM_UP = 4_000


class Turn(msgspec.Struct):
    """What a program is given.

    Attributes:
        settings: Of an archiver, whose log holds ``events``.
        events: How many there are, the first ones to warm up.
        share: How many partitions are this process' own, the others being another's; 0 for all.
        lines: A file with the same events, one a line.
        output: A file that DuckDB writes.
        threads: How many DuckDB may use.
    """

    settings: dict[str, object]
    events: int
    share: int
    lines: str
    output: str
    threads: int


class Took(msgspec.Struct):
    """What one turn took.

    Attributes:
        began: When the first event after the warm-up was read, by a clock that all programs share.
        ended: When the last file was there.
        cpu_seconds: Of all threads, in that time.
        events: In that time.
        peak_bytes: Most memory that the process had at once.
        output: Where it wrote: two that share a log share that, too.
        written_bytes: Size of all files there.
    """

    began: float
    ended: float
    cpu_seconds: float
    events: int
    peak_bytes: int
    output: str
    written_bytes: int


def archiver(turn: Turn) -> Took:
    """Archive a log from its beginning, as the process does, turn by turn."""
    settings = Settings.model_validate(turn.settings)
    store = wiring.open_store(settings)

    async def run() -> Took:
        runner = make_runner(settings, store)
        calm_collector()
        ends = await _ends(settings)
        await _join(runner, turn.share)
        await asyncio.to_thread(wait_for_all)
        warm = 0
        while warm < WARM_UP:
            warm += await runner.turn()
        began = _clocks()
        while not _is_done(runner, ends):
            if not await runner.turn():
                # Nothing more to read: what waits for its time is published now.
                for one in runner.archivists.values():
                    await one.finish()
        ended = _clocks()
        # Whoever leaves now would leave its partitions to the others.
        await asyncio.to_thread(wait_for_all)
        await runner.drain()
        archived = round(telemetry.ARCHIVED_EVENTS._value.get())  # noqa: SLF001
        return _took(began, ended, archived - warm, _files(settings.archive))

    return asyncio.run(run())


async def _ends(settings: Settings) -> dict[str, Offset]:
    event_log = wiring.open_log(settings, partition=None)
    found = {name: await event_log.end(name) for name in await event_log.partitions()}
    await event_log.close()
    return found


async def _join(runner: Runner, share: int) -> None:
    """Wait until the partitions are shared out: whoever comes first has them all for a while."""
    # Nobody tells when the group has changed.
    while share and len(await runner._sharing.mine()) != share:  # noqa: ASYNC110, SLF001
        await asyncio.sleep(0.1)


def wait_for_all() -> None:
    """Say that this process has come so far, and wait until all have."""
    sys.stdout.write("here\n")
    sys.stdout.flush()
    sys.stdin.buffer.readline()


def _is_done(runner: Runner, ends: dict[str, Offset]) -> bool:
    return all(one.archived() == ends[one.partition] for one in runner.archivists.values())


def duckdb(turn: Turn) -> Took:
    """Read the same events as lines of JSON, and write the same columns as Parquet."""
    import duckdb as product  # noqa: PLC0415  # one program a process

    connection = product.connect()
    connection.execute(f"SET threads = {turn.threads}; SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = true")
    connection.execute(_copy(turn.lines, turn.output + ".warm", WARM_UP))
    wait_for_all()
    began = _clocks()
    connection.execute(_copy(turn.lines, turn.output, turn.events))
    ended = _clocks()
    wait_for_all()
    return _took(began, ended, turn.events, Path(turn.output))


def reading(turn: Turn) -> Took:
    """Read the log and write nothing: a part of what the archiver takes."""
    settings = Settings.model_validate(turn.settings)

    async def run() -> Took:
        event_log = wiring.open_log(settings, partition=None)
        await asyncio.to_thread(wait_for_all)
        began, count = _clocks(), 0
        for partition in await event_log.partitions():
            async for _ in event_log.read(after=Offset(partition, -1)):
                count += 1
        ended = _clocks()
        await asyncio.to_thread(wait_for_all)
        await event_log.close()
        return _took(began, ended, count, None)

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
    return time.monotonic(), time.process_time()


def _took(
    began: tuple[float, float], ended: tuple[float, float], events: int, output: Path | None
) -> Took:
    return Took(
        began=began[0],
        ended=ended[0],
        cpu_seconds=ended[1] - began[1],
        events=events,
        peak_bytes=_peak(),
        output=str(output),
        written_bytes=0 if output is None else _size(output),
    )


def _peak() -> int:
    # Not getrusage: there the memory of the process that started this one counts, too.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _files(archive: FolderArchive | ObjectArchive) -> Path:
    assert isinstance(archive, FolderArchive)  # noqa: S101  # as every turn's is
    assert archive.path is not None  # noqa: S101
    return archive.path


def _size(output: Path) -> int:
    found = [output, *output.rglob("*.parquet")]
    return sum(file.stat().st_size for file in found if file.is_file())
