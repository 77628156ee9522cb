"""Which entries of the log are in which file of the archive, and what must not go on.

    {root}/fresh/log=L/part=P/{start:020d}.parquet
    {root}/sealed/log=L/part=P/day=D/{start:020d}.parquet
    {root}/ledger/{number:08d}.json

A file holds one contiguous range of one partition and is named by where the range starts, so that
of two who go on from one place one is refused. The files of a partition are a chain: each starts
just past the end of the one before it. Sealed files are made of whole fresh ones; a file that
starts where the chain has already been is superseded, and counts no more. Nothing is ever
overwritten.

A lineage is one partition of one log. A partition that was made anew, or cut, goes on as another
lineage, once an operator has said so in the ledger.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from enum import StrEnum
from hashlib import sha256

import msgspec

from feedbackloop.log.ledger import Ledger, Lineage, Removed

FORMAT = 1
"""Of files. Grows when a reader of the format before would misunderstand one."""

SUFFIX = ".parquet"
_DIGEST_BYTES = 16
_MODULUS = 2**128


class Level(StrEnum):
    """Where in its life a file is."""

    FRESH = "fresh"
    SEALED = "sealed"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A file's name, taken apart.

    Attributes:
        start: Position from which on it holds the partition's entries.
        day: On which the first fresh file in it was written; only of sealed ones.
    """

    level: Level
    lineage: Lineage
    start: int
    day: date | None = None

    @property
    def key(self) -> str:
        """Return the key in the store."""
        folder = f"{self.level}/log={self.lineage.log}/part={self.lineage.partition}"
        day = f"/day={self.day.isoformat()}" if self.day is not None else ""
        return f"{folder}{day}/{self.start:020d}{SUFFIX}"


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself, in its footer.

    Attributes:
        format: Of the file.
        schema: Newest version of the events in it.
        columns: How many columns it has; newer files may have more, behind those.
        topic: Name of the log's topic.
        lineage: Whose entries.
        start: First position that it stands for: just past the end of the file before it.
        end: Position of its last entry.
        entries: Entries of the log in that range.
        rows: Those that are in the file; the rest were repeats.
        unreadable: Rows that are no event we know, kept as they were.
        digest: Of positions and bytes of all rows: adds up over files, however they are cut.
        last: Digest of the last entry, by which a reader knows the log again.
        first_at: Earliest time of an event; None if there is none.
        last_at: Latest time of an event.
        written_at: When the fresh file was written; of a sealed one, when its first fresh one was.
        sealed_at: When it was sealed; None for a fresh one.
    """

    format: int = FORMAT
    schema: int
    columns: int
    topic: str
    lineage: Lineage
    start: int
    end: int
    entries: int
    rows: int
    unreadable: int
    digest: str
    last: str
    first_at: datetime | None
    last_at: datetime | None
    written_at: datetime
    sealed_at: datetime | None = None


class ArchiveFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is there: its name, its size in bytes, and what it says of itself."""

    place: Place
    size: int
    contents: Contents

    @property
    def start(self) -> int:
        """Return the first position that it stands for."""
        return self.place.start

    @property
    def end(self) -> int:
        """Return the last position that it stands for."""
        return self.contents.end


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """What is archived of one lineage.

    Attributes:
        files: In order; each position is in one of them.
        superseded: What a sealed file, a retention or a decision has made worthless.
        holes: Ranges that no file and no decision speaks of, inclusive.
        end: Position of the last entry of the last file, or just before the first one's start.
    """

    lineage: Lineage
    files: tuple[ArchiveFile, ...]
    superseded: tuple[ArchiveFile, ...] = ()
    holes: tuple[tuple[int, int], ...] = ()
    end: int

    @property
    def next(self) -> int:
        """Return where the next file starts: the first hole is filled first."""
        return self.holes[0][0] if self.holes else self.end + 1

    @property
    def limit(self) -> int | None:
        """Return the last position that the next file may stand for, if there is a limit."""
        return self.holes[0][1] if self.holes else None

    @property
    def before(self) -> tuple[ArchiveFile, ...]:
        """Return the files that the next one follows on."""
        return tuple(file for file in self.files if file.end < self.next)

    @property
    def worthless(self) -> tuple[ArchiveFile, ...]:
        """Return the superseded files of which every entry is elsewhere or given up."""
        return () if self.holes else tuple(f for f in self.superseded if f.end <= self.end)


def parse(key: str) -> Place | None:
    """Take a key apart; None if it is no file of ours."""
    parts = key.split("/")
    values = dict(part.split("=", 1) for part in parts[1:-1] if "=" in part)
    name = parts[-1].removesuffix(SUFFIX)
    if parts[0] not in set(Level) or not name.isdecimal() or not {"log", "part"} <= set(values):
        return None
    place = Place(
        level=Level(parts[0]),
        lineage=Lineage(log=values["log"], partition=values["part"]),
        start=int(name),
        day=date.fromisoformat(values["day"]) if "day" in values else None,
    )
    return place if place.key == key else None


def chain(lineage: Lineage, files: Iterable[ArchiveFile], ledger: Ledger) -> Chain:
    """Put the files of one lineage in order; the order of ``files`` does not matter."""
    expected = ledger.begins(lineage)
    kept: list[ArchiveFile] = []
    superseded: list[ArchiveFile] = []
    holes: list[tuple[int, int]] = []
    for file in sorted(files, key=lambda file: (file.start, file.place.level is Level.FRESH)):
        expected = ledger.past_gaps(lineage, expected)
        if file.start < expected:
            superseded.append(file)
            continue
        if file.start > expected:
            holes.append((expected, file.start - 1))
        kept.append(file)
        expected = file.end + 1
    return Chain(
        lineage=lineage,
        files=tuple(kept),
        superseded=tuple(superseded),
        holes=tuple(holes),
        end=ledger.past_gaps(lineage, expected) - 1,
    )


def runs_to_seal(
    found: Chain, *, today: date, target_bytes: int, everything: bool = False
) -> list[Sequence[ArchiveFile]]:
    """Say which fresh files become one sealed file each, in order.

    A run lies within one day, so that a sealed file belongs to it, and is closed once it has
    ``target_bytes``, or its day is over, or the next file does not follow on it.

    Args:
        found: The lineage's files.
        today: The present day, in UTC: its files may still get company.
        target_bytes: Size of a sealed file that is worth no more company.
        everything: Seal today's files too.
    """
    runs: list[list[ArchiveFile]] = []
    size, open_run = 0, False
    for file in found.files:
        if file.place.level is Level.SEALED:
            continue
        if open_run and _follows(runs[-1][-1], file):
            runs[-1].append(file)
        else:
            runs.append([file])
            size = 0
        size += file.size
        open_run = size < target_bytes
    if runs and open_run and not everything and _day(runs[-1][0]) >= today:
        runs.pop()
    return list(runs)


def outlived(found: Chain, *, before: date) -> int | None:
    """Say through which position a lineage is older than ``before``; None if nothing is.

    Only whole sealed files go, from the beginning on, and only if none of their events is younger.
    """
    through: int | None = None
    for file in found.files:
        last_at = file.contents.last_at
        young = last_at is not None and last_at.date() >= before
        if file.place.level is Level.FRESH or _day(file) >= before or young:
            break
        through = file.end
    return through


def removable(found: Chain, decided: Ledger, *, before: datetime) -> list[ArchiveFile]:
    """Say which files may be taken away: worthless since ``before``, so that nobody reads them."""
    return [
        file
        for file in found.worthless
        if (since := _worthless_since(file, found, decided)) is not None and since <= before
    ]


def _worthless_since(file: ArchiveFile, found: Chain, decided: Ledger) -> datetime | None:
    removals = (one for one in decided.decisions if isinstance(one, Removed))
    for one in removals:
        if one.lineage == found.lineage and file.end <= one.through:
            return one.at
    covering = (other for other in found.files if other.start <= file.start <= other.end)
    return next((other.contents.sealed_at for other in covering), None)


def sealed(
    files: Sequence[ArchiveFile], *, sealed_at: datetime, columns: int
) -> tuple[Place, Contents]:
    """Name the sealed file that holds a run of fresh ones, and say what is in it."""
    first, last = files[0], files[-1]
    place = Place(
        level=Level.SEALED, lineage=first.place.lineage, start=first.start, day=_day(first)
    )
    times = [
        at
        for file in files
        for at in (file.contents.first_at, file.contents.last_at)
        if at is not None
    ]
    contents = msgspec.structs.replace(
        first.contents,
        schema=max(file.contents.schema for file in files),
        columns=columns,
        end=last.end,
        entries=sum(file.contents.entries for file in files),
        rows=sum(file.contents.rows for file in files),
        unreadable=sum(file.contents.unreadable for file in files),
        digest=added(file.contents.digest for file in files),
        last=last.contents.last,
        first_at=min(times, default=None),
        last_at=max(times, default=None),
        sealed_at=sealed_at,
    )
    return place, contents


def digest(raw: bytes) -> bytes:
    """Name the bytes of an entry: 16 bytes."""
    return sha256(raw).digest()[:_DIGEST_BYTES]


def short(known: bytes) -> int:
    """Make a signed 64-bit number of a digest, by which repeats are found."""
    return int.from_bytes(known[:8], "big", signed=True)


def weighed(known: bytes, position: int) -> int:
    """Make one number of an entry's digest and its place, such that two cannot change places.

    The digest of many rows is the sum of these, modulo 2 to the power of 128.
    """
    return int.from_bytes(known, "big") * (2 * position + 1)


def shown(total: int) -> str:
    """Write a sum of rows as a file's contents have it."""
    return f"{total % _MODULUS:032x}"


def added(digests: Iterable[str]) -> str:
    """Add digests of rows up: the sum does not depend on how rows are cut into files."""
    return shown(sum(int(one, 16) for one in digests))


def _follows(file: ArchiveFile, other: ArchiveFile) -> bool:
    return other.start == file.end + 1 and _day(other) == _day(file)


def _day(file: ArchiveFile) -> date:
    return file.contents.written_at.date()
