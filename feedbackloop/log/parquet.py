"""The archive as partitioned Parquet in a store. See ``archive.py`` for which entry is where."""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from feedbackloop.errors import ArchiveDamaged, RecordError
from feedbackloop.log import codec, ledger
from feedbackloop.log.archive import (
    FORMAT,
    ArchiveFile,
    Chain,
    Contents,
    Level,
    Place,
    chain,
    digest,
    parse,
    sealed,
    short,
    shown,
    weighed,
)
from feedbackloop.log.ledger import Decision, Ledger, Lineage
from feedbackloop.log.parquet_rows import DICTIONARIES, SCHEMA, UNMEASURED, Row, table
from feedbackloop.log.port import Entry, Offset, Store, Stored
from feedbackloop.log.stored import StoredFile
from feedbackloop.log.window import Window

_KEY = b"feedbackloop"
_ROW_GROUP_BYTES = 32 * 2**20
_ROW_GROUP_ROWS = 65_536
_READ_ROWS = 4_096
_READERS = 16
_contents = msgspec.json.Decoder(Contents)
_STATISTICS = [name for name in SCHEMA.names if name not in UNMEASURED]


class Writer:
    """A Parquet file in the making, compressed in memory a row group at a time."""

    def __init__(self, schema: pa.Schema = SCHEMA) -> None:
        self._sink = io.BytesIO()
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._file = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in DICTIONARIES if name in schema.names],
            write_statistics=_STATISTICS,
            write_page_checksum=True,
            write_page_index=True,
            store_schema=False,
        )

    @property
    def size(self) -> int:
        """Return about how many bytes are held."""
        return self._sink.tell() + self._waiting_bytes

    def add(self, rows: pa.Table) -> None:
        """Append rows."""
        self._waiting.append(rows)
        self._waiting_bytes += rows.nbytes
        count = sum(one.num_rows for one in self._waiting)
        if self._waiting_bytes >= _ROW_GROUP_BYTES or count >= _ROW_GROUP_ROWS:
            self._flush()

    def finish(self, contents: Contents) -> bytes:
        """Return the whole file."""
        self._flush()
        self._file.add_key_value_metadata({_KEY: msgspec.json.encode(contents)})
        self._file.close()
        return self._sink.getvalue()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.concat_tables(self._waiting))
        self._waiting, self._waiting_bytes = [], 0


class ParquetDraft:
    """Entries on their way into one fresh file.

    Args:
        place: Where the file will be.
        topic: Of the log.
        window: Knows what was kept before; it is carried on.
    """

    def __init__(self, place: Place, *, topic: str, window: Window) -> None:
        self.place = place
        self.entries = 0
        self.rows = 0
        self.unreadable = 0
        self.end = place.start - 1
        self.last = ""
        self.first_at: datetime | None = None
        self._last_at: datetime | None = None
        self._topic = topic
        self._window = window
        self._writer = Writer()
        self._digest = 0
        self._data: bytes | None = None

    @property
    def size(self) -> int:
        return self._writer.size if self._data is None else len(self._data)

    def add(self, entries: Sequence[Entry]) -> None:
        kept = self._kept(entries)
        if kept:
            self._writer.add(table(kept))
        self.entries += len(entries)
        self.rows += len(kept)
        self.end = entries[-1].offset.position
        self.last = digest(entries[-1].raw).hex()
        times = [row.entry.event.at for row in kept if not isinstance(row.entry.event, RecordError)]
        self.first_at = min([*times, *_known(self.first_at)], default=None)
        self._last_at = max([*times, *_known(self._last_at)], default=None)

    def finish(self, *, written_at: datetime) -> bytes:
        if self._data is None:
            contents = Contents(
                schema=codec.VERSION,
                columns=len(SCHEMA),
                topic=self._topic,
                lineage=self.place.lineage,
                start=self.place.start,
                end=self.end,
                entries=self.entries,
                rows=self.rows,
                unreadable=self.unreadable,
                digest=shown(self._digest),
                last=self.last,
                first_at=self.first_at,
                last_at=self._last_at,
                written_at=written_at,
            )
            self._data = self._writer.finish(contents)
        return self._data

    def following(self) -> "ParquetDraft":
        place = msgspec.structs.replace(self.place, start=self.end + 1)
        return ParquetDraft(place, topic=self._topic, window=self._window)

    def _kept(self, entries: Sequence[Entry]) -> list[Row]:
        """Leave repeats out, and add the rest to the digest."""
        kept: list[Row] = []
        for entry in entries:
            known = digest(entry.raw)
            number = short(known)
            event = entry.event
            if isinstance(event, RecordError):
                self.unreadable += 1
            elif not self._window.keeps(event.event_id, number):
                continue
            self._digest += weighed(known, entry.offset.position)
            kept.append(Row(entry, number))
        return kept


class ParquetArchive:
    """The files of an archive. Footers are read once: files never change.

    Args:
        store: Where they are.
        topic: Name of the log's topic.
        window_entries: How many kept entries back a repeat is found.
    """

    def __init__(self, store: Store, *, topic: str, window_entries: int) -> None:
        self._store = store
        self._topic = topic
        self._window_entries = window_entries
        self._known: dict[str, ArchiveFile] = {}

    def lineages(self) -> Sequence[Lineage]:
        places = (parse(one.key) for level in Level for one in self._store.list(level))
        return sorted({place.lineage for place in places if place is not None})

    def chain(self, lineage: Lineage, decided: Ledger) -> Chain:
        found = chain(lineage, self._files(lineage), decided)
        if found.holes:
            # Sealed files were listed first: what was sealed since is gone from the fresh ones.
            found = chain(lineage, self._files(lineage), decided)
        return found

    def ledger(self) -> Ledger:
        found = (self._store.read(one.key) for one in self._store.list(ledger.FOLDER))
        return Ledger(tuple(ledger.decode(raw) for raw in found if raw is not None))

    def decide(self, known: Ledger, decision: Decision) -> bool:
        key = ledger.key(len(known.decisions))
        return self._store.create(key, ledger.encode(decision))

    def draft(self, archived: Chain) -> ParquetDraft:
        place = Place(level=Level.FRESH, lineage=archived.lineage, start=archived.next)
        window = Window(self._window_entries, self._kept(archived.before))
        return ParquetDraft(place, topic=self._topic, window=window)

    def publish(self, place: Place, data: bytes) -> bool:
        return self._store.create(place.key, data)

    def seal(self, files: Sequence[ArchiveFile], *, sealed_at: datetime) -> bool:
        place, contents = sealed(files, sealed_at=sealed_at, columns=len(SCHEMA))
        writer = Writer()
        for file in files:
            if file.contents.columns > len(SCHEMA):
                raise ArchiveDamaged(file.place.key, "it has columns of a newer version: upgrade")
            for batch in self._batches(file, SCHEMA.names):
                writer.add(_conformed(batch))
        data = writer.finish(contents)
        _check(place.key, pq.ParquetFile(pa.BufferReader(data)), contents)
        return self._store.create(place.key, data)

    def remove(self, file: ArchiveFile) -> None:
        self._store.remove(file.place.key)
        self._known.pop(file.place.key, None)

    def check(self, file: ArchiveFile) -> None:
        _check(file.place.key, self._open(file.place.key, file.size), file.contents)

    def rows(self, file: ArchiveFile) -> Iterator[tuple[int, bytes]]:
        for batch in self._batches(file, ["position", "raw", "bytes"]):
            yield from _raws(batch)

    def entries(self, file: ArchiveFile) -> Iterator[Entry]:
        partition = file.place.lineage.partition
        for position, raw in self.rows(file):
            offset = Offset(partition, position)
            yield Entry(offset=offset, event=codec.read(raw), raw=raw)

    def _files(self, lineage: Lineage) -> list[ArchiveFile]:
        listed: list[tuple[Place, Stored]] = []
        for level in (Level.SEALED, Level.FRESH):
            folder = f"{level}/log={lineage.log}/part={lineage.partition}"
            for one in self._store.list(folder):
                place = parse(one.key)
                if place is not None:
                    listed.append((place, one))
        with ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(lambda pair: self._file(*pair), listed))
        return [file for file in found if file is not None]

    def _file(self, place: Place, stored: Stored) -> ArchiveFile | None:
        known = self._known.get(stored.key)
        if known is None:
            contents = self._footer(stored)
            if contents is None:
                return None
            known = ArchiveFile(place=place, size=stored.size, contents=contents)
            self._known[stored.key] = known
        return known

    def _footer(self, stored: Stored) -> Contents | None:
        """Read what a file says of itself; None if it was removed meanwhile."""
        try:
            metadata = self._open(stored.key, stored.size).metadata.metadata or {}
            contents = _contents.decode(metadata[_KEY])
        except FileNotFoundError:
            return None
        except (pa.ArrowException, KeyError, msgspec.DecodeError) as error:
            raise ArchiveDamaged(stored.key, f"its footer cannot be read: {error}") from error
        if contents.format > FORMAT:
            raise ArchiveDamaged(stored.key, f"it has format {contents.format}: upgrade")
        return contents

    def _open(self, key: str, size: int) -> Any:  # noqa: ANN401  # pyarrow has no types
        file = pa.PythonFile(StoredFile(self._store, key, size), mode="r")
        return pq.ParquetFile(file, pre_buffer=True, page_checksum_verification=True)

    def _batches(self, file: ArchiveFile, columns: Sequence[str]) -> Iterator[Any]:
        opened = self._open(file.place.key, file.size)
        here = [name for name in columns if name in opened.schema_arrow.names]
        yield from opened.iter_batches(batch_size=_READ_ROWS, columns=here)

    def _kept(self, files: Sequence[ArchiveFile]) -> list[tuple[str, int]]:
        """Return the event ids and hashes of the rows kept last, in their order."""
        kept: list[tuple[str, int]] = []
        for file in reversed(files):
            if len(kept) >= self._window_entries:
                break
            here: list[tuple[str, int]] = []
            for batch in self._batches(file, ["event_id", "hash"]):
                found = batch.to_pydict()
                pairs = zip(found["event_id"], found["hash"], strict=True)
                here += [(event_id, number) for event_id, number in pairs if event_id is not None]
            kept = here + kept
        return kept[-self._window_entries :] if self._window_entries else []


def _conformed(batch: Any) -> pa.Table:  # noqa: ANN401  # pyarrow has no types
    """Give rows of an older file the columns of today."""
    names = set(batch.schema.names)
    return pa.table(
        [
            batch.column(field.name).cast(field.type)
            if field.name in names
            else pa.nulls(batch.num_rows, field.type)
            for field in SCHEMA
        ],
        schema=SCHEMA,
    )


def _known(value: datetime | None) -> list[datetime]:
    return [] if value is None else [value]


def _raws(batch: Any) -> Iterator[tuple[int, bytes]]:  # noqa: ANN401  # pyarrow has no types
    columns = {name: batch.column(name) for name in batch.schema.names}
    texts = columns["raw"].cast(pa.binary()).to_pylist()
    kept = columns["bytes"].to_pylist()
    for position, text, original in zip(columns["position"].to_pylist(), texts, kept, strict=True):
        yield position, text if original is None else original


def _check(key: str, opened: Any, contents: Contents) -> None:  # noqa: ANN401  # no types
    """Hold a file's rows against what its footer says.

    Raises:
        ArchiveDamaged: If they differ, or cannot be read.
    """
    total, rows, last = 0, 0, contents.start - 1
    try:
        # Every column: each of its pages has a checksum.
        for batch in opened.iter_batches(batch_size=_READ_ROWS):
            for position, raw in _raws(batch):
                if not last < position <= contents.end:
                    raise ArchiveDamaged(key, f"position {position} is out of order")
                total += weighed(digest(raw), position)
                rows, last = rows + 1, position
    except (pa.ArrowException, OSError) as error:
        raise ArchiveDamaged(key, f"it cannot be read: {error}") from error
    if rows != contents.rows:
        raise ArchiveDamaged(key, f"it has {rows} rows, and should have {contents.rows}")
    if shown(total) != contents.digest:
        raise ArchiveDamaged(key, "its rows are not those that were written")
