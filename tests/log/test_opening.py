"""A spool whose disk fails at the start: it takes records once the disk does."""

import os
from pathlib import Path
from threading import Event

import pytest

from feedbackloop.errors import LogUnavailable, SettingsError
from feedbackloop.log.marks import Life
from feedbackloop.log.memory import MemoryMarks
from feedbackloop.log.port import Frame
from feedbackloop.log.spool import SpoolLimits, SpoolQueue
from feedbackloop.log.spools import open_spool


class Told:
    """What became of a record."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._known = Event()

    def __call__(self, error: Exception | None) -> None:
        self.error = error
        self._known.set()

    def wait(self) -> Exception | None:
        assert self._known.wait(10)
        return self.error


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Where the spool is to be: a link to a volume that is not mounted yet."""
    link = tmp_path / "spool"
    link.symlink_to(tmp_path / "volume")
    return link


def opened(folder: Path, *, marks: dict[str, Life] | None = None, name: str = "one") -> SpoolQueue:
    return open_spool(
        folder,
        producer=name,
        limits=SpoolLimits(segment_bytes=4096),
        now_ns=lambda: 0,
        marks=MemoryMarks(marks),
    )


def offer(spool: SpoolQueue, payload: bytes) -> Exception | None:
    """Offer a vote, and wait until its fate is known."""
    told = Told()
    spool.offer(payload, durable=True, written=told)
    return told.wait()


def until_taken(spool: SpoolQueue, payload: bytes) -> None:
    """Offer until the disk takes it; the test's own time limit ends it."""
    pause = Event()
    while offer(spool, payload) is not None:
        pause.wait(0.02)


def read(spool: SpoolQueue) -> list[bytes | tuple[int, str]]:
    """Return payloads, and gaps as their first number and reason."""
    return [
        one.payload if isinstance(one, Frame) else (one.first, one.reason)
        for one in spool.read(after=-1)
    ]


def test_what_comes_before_the_disk_works_is_refused_and_then_declared(volume: Path) -> None:
    """A client is told at once, and the log later."""
    spool = opened(volume)
    refused, why, seen = offer(spool, b"one"), spool.refusal, read(spool)

    volume.resolve().mkdir()
    until_taken(spool, b"two")
    found = read(spool)
    spool.close()

    assert isinstance(refused, LogUnavailable)
    assert isinstance(why, OSError)
    assert seen == []
    assert spool.refusal is None
    assert (found[0], found[-1]) == ((0, "disk_refused"), b"two")


def test_what_the_dead_have_left_is_there_once_the_disk_works(volume: Path) -> None:
    """Nothing of ours stands before it."""
    marks: dict[str, Life] = {}
    volume.resolve().mkdir()
    dead = opened(volume, marks=marks, name="dead")
    until_taken(dead, b"left")
    dead.close()
    marks["dead"] = Life(producer="dead", given=3, written=1)
    volume.resolve().rename(volume.with_name("away"))
    spool = opened(volume, marks=marks)
    offer(spool, b"one")

    volume.with_name("away").rename(volume.resolve())
    until_taken(spool, b"two")
    found = read(spool)
    spool.close()

    assert found[:3] == [b"left", (1, "killed"), (0, "disk_refused")]
    assert found[-1] == b"two"


def test_what_was_shed_to_the_end_is_declared_by_whoever_comes_next(volume: Path) -> None:
    """The mark outlives a process whose disk never worked."""
    marks: dict[str, Life] = {}
    spool = opened(volume, marks=marks)
    offer(spool, b"one")
    spool.close()

    volume.resolve().mkdir()
    heir = opened(volume, marks=marks, name="heir")
    found = read(heir)
    heir.close()

    assert found == [(0, "killed")]


def test_a_vote_is_not_taken_into_a_folder_that_nobody_finds(volume: Path) -> None:
    """A volume was taken away: files that are open still take everything, and nobody reads them."""
    volume.resolve().mkdir()
    spool = opened(volume)
    until_taken(spool, b"one")
    volume.resolve().rename(volume.with_name("away"))
    refused, why = offer(spool, b"two"), spool.refusal

    volume.with_name("away").rename(volume.resolve())
    until_taken(spool, b"three")
    found = read(spool)
    spool.close()

    assert isinstance(refused, LogUnavailable)
    assert "gone from its place" in str(why)
    assert (found[0], found[-1]) == (b"one", b"three")
    assert spool.refusal is None


def test_another_folder_in_the_place_of_ours_takes_no_votes(volume: Path) -> None:
    """A volume was mounted over it: what is written next lies beneath."""
    volume.resolve().mkdir()
    spool = opened(volume)
    until_taken(spool, b"one")
    volume.resolve().rename(volume.with_name("beneath"))
    volume.resolve().mkdir()

    refused = [offer(spool, b"two") for _ in range(3)]
    spool.close()

    assert all(isinstance(one, LogUnavailable) for one in refused)
    assert not list(volume.resolve().glob("*.seg"))


def test_a_spool_that_another_holds_ends_the_start(tmp_path: Path) -> None:
    """Two sidecars of one name are a mistake, which waiting does not mend."""
    owner = opened(tmp_path)

    with pytest.raises(SettingsError, match=f"written by process {os.getpid()}"):
        opened(tmp_path, name="two")
    owner.close()


def test_one_that_another_takes_before_its_disk_works_is_refused_until_it_is_free(
    volume: Path,
) -> None:
    """By then it answers people, and goes on doing so."""
    owner = opened(volume.with_name("away"), name="owner")
    spool = opened(volume)
    volume.with_name("away").rename(volume.resolve())
    refused = offer(spool, b"one")
    while not isinstance(spool.refusal, SettingsError):
        refused = offer(spool, b"one")

    owner.close()
    until_taken(spool, b"two")
    found = read(spool)
    spool.close()

    assert refused is not None
    assert (found[0], found[-1]) == ((0, "disk_refused"), b"two")
