"""The archive as tables: DuckDB reads its files where they are, in bounded memory.

``rows`` is what the files hold. ``events`` counts each event once: of several records of one event
it takes the one that knows more, by the rule of ``labels/gather.py``. The other views are made of
``events``; see docs/archive.md for their columns.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
from fsspec import AbstractFileSystem

from feedbackloop.errors import QueryFailed
from feedbackloop.log.archive import ArchiveFile, Level
from feedbackloop.log.completeness import PATIENCE, Completeness, Producer, summed
from feedbackloop.log.parquet_rows import SCHEMA
from feedbackloop.log.port import Store
from feedbackloop.log.stored import StoredFile

_SCHEME = "archive"
_BATCH = 1_000

_EVENTS = """
CREATE TEMP TABLE repeats AS
WITH doubled AS (
    SELECT event_id FROM rows WHERE unreadable IS NULL GROUP BY event_id HAVING count(*) > 1
), ranked AS (
    SELECT log, part, position, row_number() OVER (
        PARTITION BY event_id
        ORDER BY reply_characters DESC NULLS LAST, ended_at DESC NULLS LAST, raw DESC,
            log, part, position
    ) AS place
    FROM rows SEMI JOIN doubled USING (event_id) WHERE unreadable IS NULL
)
SELECT log, part, position FROM ranked WHERE place > 1;

CREATE VIEW events AS
SELECT * EXCLUDE (hash, bytes, unreadable, problem)
FROM rows ANTI JOIN repeats USING (log, part, position)
WHERE unreadable IS NULL;
"""

_VIEWS = """
CREATE VIEW completions AS
SELECT completion_id, tenant, user_id, conversation, alias, release, release_seq, assigned, arm,
    propensity, epoch, endpoint, source, accepted_at, first_token_at, ended_at,
    epoch(ended_at) - epoch(accepted_at) AS seconds, outcome, status, streamed, finish_reason,
    prompt_tokens, completion_tokens, replies, reply_characters, prompt_hash,
    raw -> '$.messages' AS messages, raw ->> '$.replies[0].text' AS reply,
    raw -> '$.parameters' AS parameters, event_id, log, part, position
FROM events WHERE type = 'CompletionServed';

CREATE VIEW signals AS
SELECT completion_id, tenant, user_id, conversation, happened_at AS given_at,
    CASE type
        WHEN 'ThumbGiven' THEN 'thumb' WHEN 'RatingGiven' THEN 'rating'
        WHEN 'CorrectionGiven' THEN 'correction' WHEN 'CommentGiven' THEN 'comment'
        WHEN 'ChoiceMade' THEN 'choice' WHEN 'OutcomeReported' THEN 'outcome'
        WHEN 'PromptRetried' THEN 'retry' WHEN 'ThumbWithdrawn' THEN 'withdrawn'
        WHEN 'SignalWithdrawn' THEN 'withdrawn' ELSE type
    END AS kind,
    CASE type
        WHEN 'ThumbGiven' THEN thumb WHEN 'RatingGiven' THEN CAST(rating AS VARCHAR)
        WHEN 'CorrectionGiven' THEN raw ->> '$.correction'
        WHEN 'CommentGiven' THEN raw ->> '$.comment'
        WHEN 'ChoiceMade' THEN CAST(choice AS VARCHAR) WHEN 'OutcomeReported' THEN reported
        WHEN 'PromptRetried' THEN retry_kind WHEN 'ThumbWithdrawn' THEN 'thumb'
        WHEN 'SignalWithdrawn' THEN withdrawn
    END AS value,
    raw -> '$.reasons' AS reasons, retry_id, similarity, gap_seconds, client_key, event_id, log,
    part, position
FROM events WHERE completion_id IS NOT NULL AND type <> 'CompletionServed';

CREATE VIEW releases AS
SELECT alias, epoch, before, after, changed_by, why, happened_at AS changed_at, tenant, event_id
FROM events WHERE type = 'ReleaseChanged';

CREATE VIEW runs AS
SELECT run, before, after, epoch, changed_by, why, happened_at AS changed_at, tenant, event_id
FROM events WHERE type = 'RunChanged';

CREATE VIEW gaps AS
SELECT producer, first_seq, last_seq, lost, reason, happened_at AS began_at, until AS ended_at,
    event_id
FROM events WHERE type = 'CaptureGap';

CREATE VIEW unreadable AS
SELECT log, part, position, unreadable AS reason, problem, bytes FROM rows
WHERE unreadable IS NOT NULL;
"""

# A repeat that came from another record was recorded all the same: rows, not events.
_KNOWN = """
CREATE TEMP VIEW known_numbers AS
WITH numbered AS (
    SELECT producer, unnest(seqs) AS seq, generate_subscripts(seqs, 1) AS nth,
        happened_at, coalesce(ended_at, happened_at) AS last_at
    FROM rows WHERE producer <> '' AND len(seqs) > 0 AND unreadable IS NULL
)
SELECT producer, seq AS first, seq AS last, NULL AS reason,
    CASE nth WHEN 1 THEN happened_at ELSE last_at END AS known_at
FROM numbered
UNION ALL
SELECT producer, first_seq, last_seq, reason, happened_at FROM rows WHERE type = 'CaptureGap';
"""

_PRODUCERS = """
WITH ranked AS (
    SELECT producer, first, last, known_at, max(last) OVER (
        PARTITION BY producer ORDER BY first, known_at, last
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS before
    FROM known_numbers
), holes AS (
    SELECT producer, coalesce(before, $start) + 1 AS first, ranked.first - 1 AS last, known_at
    FROM ranked WHERE ranked.first > coalesce(before, $start, ranked.first) + 1
), missed AS (
    SELECT producer,
        coalesce(sum(last - first + 1) FILTER (known_at <= $settled), 0) AS missing,
        coalesce(sum(last - first + 1) FILTER (known_at > $settled), 0) AS pending,
        list([first, last] ORDER BY first) FILTER (known_at <= $settled) AS missing_ranges
    FROM holes GROUP BY producer
), totals AS (
    SELECT producer, max(last) - coalesce($start, min(first) - 1) AS expected,
        count(DISTINCT first) FILTER (reason IS NULL) AS seen
    FROM known_numbers GROUP BY producer
)
SELECT producer, expected, seen, coalesce(missing, 0), coalesce(pending, 0), missing_ranges
FROM totals LEFT JOIN missed USING (producer) ORDER BY producer
"""

_DECLARED = """
WITH declared AS (
    SELECT reason, producer, first, last, max(last) OVER (
        PARTITION BY reason, producer ORDER BY first, last
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS before
    FROM known_numbers WHERE reason IS NOT NULL
), apart AS (
    SELECT reason, producer, greatest(first, coalesce(before, -1) + 1) AS first, last FROM declared
    WHERE last > coalesce(before, -1)
), seen AS (
    SELECT DISTINCT producer, first AS seq FROM known_numbers WHERE reason IS NULL
)
SELECT reason, sum(size) FROM (
    SELECT reason, last - first + 1 AS size FROM apart
    UNION ALL
    SELECT reason, -1 FROM apart JOIN seen ON apart.producer = seen.producer
        AND seen.seq BETWEEN apart.first AND apart.last
) GROUP BY reason HAVING sum(size) > 0 ORDER BY reason
"""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a query found: its columns' names, which of them hold JSON, and its rows in batches."""

    columns: tuple[str, ...]
    is_json: tuple[bool, ...]
    batches: Iterator[Sequence[tuple[Any, ...]]]


class ArchiveViews:
    """The files of an archive as tables of a DuckDB in this process.

    Args:
        store: Where they are.
        files: Those that count: see ``log/archive.py``.
        root: The store's folder, if it is one: DuckDB then reads it itself.
        memory_bytes: What a query may use; beyond it DuckDB goes to ``scratch``.
        scratch: A folder for what does not fit into memory.
    """

    def __init__(
        self,
        store: Store,
        files: Sequence[ArchiveFile],
        *,
        root: Path | None,
        memory_bytes: int,
        scratch: Path,
    ) -> None:
        self.connection = duckdb.connect(
            config={
                "memory_limit": f"{memory_bytes // 2**20}MiB",
                "temp_directory": str(scratch),
                "TimeZone": "UTC",
                "autoinstall_known_extensions": False,
                "preserve_insertion_order": False,
            }
        )
        if root is None:
            self.connection.register_filesystem(_StoreFiles(store, files))
        self._make_rows(files, f"{_SCHEME}://" if root is None else f"{root}/")
        for statement in (_EVENTS, _VIEWS, _KNOWN):
            self._run(statement)

    def query(self, sql: str) -> Answer:
        """Run a query.

        Raises:
            QueryFailed: If it is wrong, or a file could not be read.
        """
        result = self._run(sql)
        described = result.description or []
        return Answer(
            columns=tuple(str(column[0]) for column in described),
            is_json=tuple(str(column[1]) == "JSON" for column in described),
            batches=_batches(result) if described else iter(()),
        )

    def audit(
        self, *, now: datetime, patience: timedelta = PATIENCE, whole: bool = True
    ) -> tuple[Completeness, dict[str, Producer]]:
        """Hold what producers numbered against what is archived, as ``log/completeness.py`` does.

        Args:
            now: Numbers passed over less than ``patience`` before are pending.
            patience: See there.
            whole: Whether the files go back to the beginning; if not, a producer's numbers count
                from the first one that is in them.
        """
        values = {"settled": now - patience, "start": -1 if whole else None}
        found = self._run(_PRODUCERS, values).fetchall()
        producers = {
            name: Producer(
                expected=expected,
                seen=seen,
                declared=expected - seen - int(missing) - int(pending),
                pending=int(pending),
                missing=int(missing),
                first_missing=tuple((low, high) for low, high in (ranges or ())[:5]),
            )
            for name, expected, seen, missing, pending, ranges in found
        }
        declared = {reason: int(count) for reason, count in self._run(_DECLARED).fetchall()}
        return summed(producers, declared), producers

    def close(self) -> None:
        """Let go of everything. Safe to call twice."""
        self.connection.close()

    def _make_rows(self, files: Iterable[ArchiveFile], prefix: str) -> None:
        parts = []
        for level in Level:
            here = [file for file in files if file.place.level is level]
            if here:
                parts.append(_scan(here, prefix, without="(day)" if level is Level.SEALED else ""))
        if not parts:
            self.connection.register("nothing", SCHEMA.empty_table())
            parts.append("SELECT *, '' AS log, '' AS part FROM nothing")
        self._run(f"CREATE VIEW rows AS {' UNION ALL BY NAME '.join(parts)}")

    def _run(self, sql: str, values: object = None) -> duckdb.DuckDBPyConnection:
        try:
            return self.connection.execute(sql, values)
        except duckdb.Error as error:
            raise QueryFailed(str(error)) from error


def _scan(files: Sequence[ArchiveFile], prefix: str, *, without: str) -> str:
    names = ", ".join("'" + f"{prefix}{file.place.key}".replace("'", "''") + "'" for file in files)
    # Looking into every file for its columns costs a request each: only if they differ.
    differ = str(len({file.contents.columns for file in files}) > 1).lower()
    columns = f"* EXCLUDE {without}" if without else "*"
    return (
        f"SELECT {columns} FROM read_parquet([{names}], hive_partitioning = true,"  # noqa: S608  # quoted above
        f" hive_types_autocast = false, union_by_name = {differ})"
    )


def _batches(result: duckdb.DuckDBPyConnection) -> Iterator[Sequence[tuple[Any, ...]]]:
    try:
        while batch := result.fetchmany(_BATCH):
            yield batch
    except duckdb.Error as error:
        raise QueryFailed(str(error)) from error


class _StoreFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The files as DuckDB asks for them: whole names, known sizes, ranges read from the store."""

    protocol = _SCHEME
    cachable = False

    def __init__(self, store: Store, files: Sequence[ArchiveFile]) -> None:
        super().__init__()
        self._store = store
        self._sizes = {file.place.key: file.size for file in files}

    def info(self, path: str, **_: object) -> dict[str, object]:
        key = self._strip_protocol(path)
        if key not in self._sizes:
            raise FileNotFoundError(path)
        return {"name": key, "size": self._sizes[key], "type": "file"}

    def exists(self, path: str, **_: object) -> bool:
        return self._strip_protocol(path) in self._sizes

    def glob(self, path: str, **_: object) -> list[str]:
        return [self._strip_protocol(path)]

    def modified(self, path: str) -> datetime:
        # Never: a file is written once.
        del path
        return datetime(2000, 1, 1, tzinfo=UTC)

    def _open(self, path: str, **_: object) -> StoredFile:
        key = self._strip_protocol(path)
        return StoredFile(self._store, key, self._sizes[key])
