"""A spool that one process writes and its child reads."""

import shutil
from pathlib import Path
from queue import Queue
from threading import Event

import pytest

from feedbackloop.errors import LogUnavailable, SettingsError
from feedbackloop.log.board import NearBell
from feedbackloop.log.folder import LocalDisk
from feedbackloop.log.outlet import checkpoint
from feedbackloop.log.port import Frame, SpoolGap
from feedbackloop.log.spool import SpoolLimits
from feedbackloop.log.spools import open_outlet, open_spool
from tests.log.halves import Halves


def put(spool: Halves, *payloads: bytes, durable: bool = True) -> None:
    """Write records one after the other."""
    for payload in payloads:
        told: Queue[Exception | None] = Queue()
        spool.offer(payload, durable=durable, written=told.put)
        assert told.get(timeout=10) is None


def opened(folder: Path) -> None:
    """Open a spool as the next incarnation does, and close it."""
    open_spool(folder, producer="two", limits=SpoolLimits(), now_ns=lambda: 0).close()


def test_nobody_opens_a_spool_whose_reader_lives(tmp_path: Path) -> None:
    """A child that outlives its parent by a moment may still write the checkpoint."""
    spool = Halves(tmp_path)
    spool.written.close()

    with pytest.raises(SettingsError, match="a name of its own"):
        opened(tmp_path)
    spool.close()
    opened(tmp_path)


def test_what_the_reader_frees_may_be_written_again(tmp_path: Path) -> None:
    """Whoever writes counts what the disk holds, and learns of it within a second or so."""
    spool = Halves(tmp_path)
    put(spool, *[b"x" * 1_000] * 20)
    before = spool.written.backlog_bytes()

    spool.release(through=list(spool.read(after=-1))[-1].position)
    waiting = Event()
    while spool.written.backlog_bytes() > before / 3:
        waiting.wait(0.05)  # the test's own time limit ends it

    spool.close()


def test_no_checkpoint_stands_for_what_is_not_on_disk(tmp_path: Path) -> None:
    """It would hide what a loss of power took behind it."""
    spool = Halves(tmp_path)
    put(spool, b"one")
    (first,) = spool.read(after=-1)
    put(spool, b"two")
    last = list(spool.read(after=-1))[-1]
    spool.share.board.synced = first.position

    spool.release(through=last.position)

    assert checkpoint(LocalDisk(tmp_path)) == first.position
    assert spool.released() == last.position
    spool.close()


def test_the_end_of_the_writer_releases_nothing(tmp_path: Path) -> None:
    """It does not know what its child has forwarded since."""
    spool = Halves(tmp_path)
    put(spool, b"one", b"two")
    first, last = spool.read(after=-1)
    spool.release(through=first.position)

    spool.written.close()
    spool.release(through=last.position)

    assert checkpoint(LocalDisk(tmp_path)) == last.position
    spool.close()


def test_a_reader_that_died_is_followed_by_one_that_begins_at_the_checkpoint(
    tmp_path: Path,
) -> None:
    """What it had read and not released is read again; ids make that harmless."""
    spool = Halves(tmp_path)
    put(spool, b"one", b"two")
    first, _ = spool.read(after=-1)
    spool.release(through=first.position)
    put(spool, b"three")

    heir = open_outlet(tmp_path, spool.share.handles("one"), bell=NearBell())

    found = [one.payload for one in heir.read(after=heir.released()) if isinstance(one, Frame)]
    assert found == [b"two", b"three"]
    spool.close()


def test_a_damaged_segment_that_the_reader_keeps_is_counted_by_the_writer(tmp_path: Path) -> None:
    """An operator looks at one number, whoever it was that found the damage."""
    spool = Halves(tmp_path)
    put(spool, *[b"x" * 1_000] * 10)
    segment = min(tmp_path.glob("*.seg"))
    raw = bytearray(segment.read_bytes())
    raw[1_500] ^= 0xFF
    segment.write_bytes(raw)

    entries = list(spool.read(after=-1))
    spool.release(through=entries[-1].position)

    assert [one.reason for one in entries if isinstance(one, SpoolGap)] == ["damaged"]
    assert spool.troubles()["segment", "quarantined"] == 1
    assert [file.name for file in tmp_path.glob("*.damaged")] == [f"{segment.name}.damaged"]
    spool.close()


def hidden(folder: Path, *, by: Path) -> None:
    """Put another folder in the place of one, as a volume does that is mounted over it."""
    folder.rename(folder.with_name("beneath"))
    shutil.copytree(by, folder)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume with what an earlier sidecar has left on it: a record that nobody forwarded."""
    folder = tmp_path / "volume"
    earlier = Halves(folder)
    put(earlier, b"earlier")
    earlier.close()
    return folder


def test_what_lies_beneath_a_volume_is_read_and_freed_all_the_same(
    tmp_path: Path, volume: Path
) -> None:
    """Votes that were answered 202 lie there, and nobody would look there again."""
    spool = Halves(tmp_path / "spool")
    put(spool, b"one", b"two")
    hidden(tmp_path / "spool", by=volume)

    found = [one for one in spool.read(after=-1) if isinstance(one, Frame)]
    spool.release(through=found[-1].position)
    spool.close()

    assert [one.payload for one in found] == [b"one", b"two"]
    assert checkpoint(LocalDisk(tmp_path / "beneath")) == found[-1].position


def test_a_volume_that_comes_is_not_touched(tmp_path: Path, volume: Path) -> None:
    """The checkpoint of the folder beneath would say of its records that they were forwarded."""
    spool = Halves(tmp_path / "spool")
    put(spool, *[b"x" * 1_000] * 20)
    before = contents(volume)
    hidden(tmp_path / "spool", by=volume)

    refused: Queue[Exception | None] = Queue()
    spool.offer(b"late", durable=True, written=refused.put)
    spool.release(through=list(spool.read(after=-1))[-1].position)
    why = refused.get(timeout=10)
    spool.close()

    assert isinstance(why, LogUnavailable)
    assert contents(tmp_path / "spool") == before


def test_another_reader_goes_on_beneath_a_volume(tmp_path: Path, volume: Path) -> None:
    """The child may die at the same time."""
    spool = Halves(tmp_path / "spool")
    put(spool, b"one")
    hidden(tmp_path / "spool", by=volume)

    heir = open_outlet(tmp_path / "spool", spool.share.handles("one"), bell=NearBell())

    found = [one.payload for one in heir.read(after=-1) if isinstance(one, Frame)]
    assert found == [b"one"]
    spool.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
