"""Hold the archive's files against what they say, against another archive, and against the log."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from feedbackloop.errors import ArchiveDamaged, RecordError
from feedbackloop.log.archive import ArchiveFile, Chain, digest, short, shown, weighed
from feedbackloop.log.ledger import Lineage
from feedbackloop.log.port import Archive, EventLog, Offset
from feedbackloop.log.window import Window


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a range of positions, however they are cut into files.

    Attributes:
        first: First position of the range.
        last: Last position of the range, inclusive.
        rows: How many there are.
        digest: Of all of them, their places and their bytes.
    """

    first: int
    last: int
    rows: int
    digest: str


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One range, in two places that should hold the same."""

    lineage: Lineage
    here: Content
    there: Content

    @property
    def same(self) -> bool:
        """Say whether they do."""
        return self.here == self.there


def chains(archive: Archive) -> dict[Lineage, Chain]:
    """Return what there is of every lineage."""
    decided = archive.ledger()
    return {lineage: archive.chain(lineage, decided) for lineage in archive.lineages()}


def damaged(
    archive: Archive, found: Mapping[Lineage, Chain], *, checked: Callable[[int], None]
) -> list[ArchiveDamaged]:
    """Read every file whole; return what is wrong with those that are not what they say.

    Args:
        archive: To be read.
        found: Which files.
        checked: Told the size of each file that was read.
    """
    problems = []
    for one in found.values():
        for file in one.files:
            try:
                archive.check(file)
            except ArchiveDamaged as error:
                problems.append(error)
            checked(file.size)
    return problems


def differences(one: Archive, other: Archive) -> list[Difference]:
    """Compare two archives of one log, range by range: as far as both reach."""
    here, there = chains(one), chains(other)
    found = []
    for lineage in sorted(here.keys() & there.keys()):
        first = max(_first(here[lineage]), _first(there[lineage]))
        last = min(here[lineage].end, there[lineage].end)
        found.append(
            Difference(
                lineage=lineage,
                here=content(one, here[lineage], first=first, last=last),
                there=content(other, there[lineage], first=first, last=last),
            )
        )
    return found


def content(archive: Archive, found: Chain, *, first: int, last: int) -> Content:
    """Sum up the rows of a range; files that lie in it are believed."""
    rows, total = 0, 0
    for file in found.files:
        if first <= file.start and file.end <= last:
            rows, total = rows + file.contents.rows, total + int(file.contents.digest, 16)
        elif file.start <= last and first <= file.end:
            for position, raw in archive.rows(file):
                if first <= position <= last:
                    rows, total = rows + 1, total + weighed(digest(raw), position)
    return Content(first=first, last=last, rows=rows, digest=shown(total))


async def replayed(
    event_log: EventLog, archive: Archive, found: Chain, *, window_entries: int
) -> Difference:
    """Compare a lineage with what the log still has of it, repeats left out in the same way."""
    partition = found.lineage.partition
    beginning = (await event_log.beginning(partition)).position
    first = max(beginning + 1, _first(found))
    window = Window(window_entries, _kept_before(archive, found, first, window_entries))
    rows, total = 0, 0
    async for entry in event_log.read(after=Offset(partition, first - 1)):
        position = entry.offset.position
        if position > found.end:
            break
        known = digest(entry.raw)
        event_id = getattr(entry.event, "event_id", None)
        if event_id is None or window.keeps(event_id, short(known)):
            rows, total = rows + 1, total + weighed(known, position)
    there = Content(first=first, last=found.end, rows=rows, digest=shown(total))
    here = content(archive, found, first=first, last=found.end)
    return Difference(lineage=found.lineage, here=here, there=there)


def _first(found: Chain) -> int:
    return found.files[0].start if found.files else found.next


def _kept_before(
    archive: Archive, found: Chain, first: int, entries: int
) -> Sequence[tuple[str, int]]:
    """Return what the archive kept last before a position, as a window has it."""
    kept: list[tuple[str, int]] = []
    for file in reversed(found.files):
        if file.start >= first:
            continue
        if len(kept) >= entries:
            break
        kept = [*_identified(archive, file, first), *kept]
    return kept[-entries:] if entries else []


def _identified(archive: Archive, file: ArchiveFile, first: int) -> Iterator[tuple[str, int]]:
    for entry in archive.entries(file):
        if entry.offset.position < first and not isinstance(entry.event, RecordError):
            yield entry.event.event_id, short(digest(entry.raw))
