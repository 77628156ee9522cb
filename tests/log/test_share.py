"""A spool that one process writes and its child reads."""

from pathlib import Path
from queue import Queue
from threading import Event

import pytest

from feedbackloop.errors import SettingsError
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


def test_a_reader_of_another_folder_is_refused(tmp_path: Path) -> None:
    """Its settings may have changed since its parent was started."""
    spool = Halves(tmp_path / "one")
    Halves(tmp_path / "two").close()

    with pytest.raises(SettingsError, match="restart"):
        open_outlet(tmp_path / "two", spool.share.handles("one"), bell=NearBell())
    spool.close()
