"""What any spool promises."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest

from feedbackloop.errors import LogUnavailable, SettingsError
from feedbackloop.log.marks import Life, Marks, Unmarked
from feedbackloop.log.memory import MemoryMarks, MemorySpool
from feedbackloop.log.port import Frame, Spool, SpoolGap
from feedbackloop.log.spool import SpoolLimits, SpoolQueue
from feedbackloop.log.spools import adopt, open_spool, spool_behind_bytes
from tests.log.halves import Halves


def segments(folder: Path, limits: SpoolLimits | None = None, producer: str = "one") -> SpoolQueue:
    ticks = iter(range(10**9))
    return open_spool(
        folder,
        producer=producer,
        limits=limits or SpoolLimits(segment_bytes=4096),
        now_ns=lambda: next(ticks),
    )


@pytest.fixture(params=["memory", "segments", "shared"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spool]:
    kinds: dict[str, Callable[[], Spool]] = {
        "memory": MemorySpool,
        "segments": lambda: segments(tmp_path),
        "shared": lambda: Halves(tmp_path),
    }
    made = kinds[request.param]()
    yield made
    made.close()


def put(spool: Spool, payload: bytes, *, durable: bool = False) -> Exception | None:
    """Offer a record and wait until its fate is known."""
    told: list[Exception | None] = []
    known = Event()

    def written(error: Exception | None) -> None:
        told.append(error)
        known.set()

    spool.offer(payload, durable=durable, written=written)
    assert known.wait(10)
    return told[0]


def payloads(spool: Spool, after: int = -1) -> list[bytes]:
    return [one.payload for one in spool.read(after=after) if isinstance(one, Frame)]


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_written_is_read_in_order(spool: Spool, *, durable: bool) -> None:
    """A completion opens before it closes."""
    assert put(spool, b"one", durable=durable) is None
    assert put(spool, b"two", durable=durable) is None

    assert payloads(spool) == [b"one", b"two"]


def test_numbers_have_no_gaps(spool: Spool) -> None:
    """Whoever counts them can tell that nothing is missing."""
    for n in range(5):
        put(spool, b"%d" % n)

    assert [one.seq for one in spool.read(after=-1) if isinstance(one, Frame)] == [0, 1, 2, 3, 4]


def test_what_was_released_is_not_read_again(spool: Spool) -> None:
    """It is in the log by now."""
    put(spool, b"one")
    (first,) = spool.read(after=-1)
    put(spool, b"two")

    spool.release(through=first.position)

    assert payloads(spool) == [b"two"]
    assert spool.released() == first.position


def test_waiting_ends_when_something_is_there(spool: Spool) -> None:
    """The forwarder sleeps until there is work, and not longer."""
    assert not spool.wait(after=-1, timeout_seconds=0)

    put(spool, b"one")

    assert spool.wait(after=-1, timeout_seconds=10)


def test_a_new_incarnation_finds_what_the_last_one_left(tmp_path: Path) -> None:
    """That is what a kill -9 leaves behind."""
    before = segments(tmp_path)
    put(before, b"one")
    (first,) = before.read(after=-1)
    put(before, b"two")
    before.release(through=first.position)
    before.close()

    after = segments(tmp_path, producer="two")
    put(after, b"three")

    found = [(one.producer, one.seq) for one in after.read(after=-1) if isinstance(one, Frame)]
    assert payloads(after) == [b"two", b"three"]
    assert found == [("one", 1), ("two", 0)]
    after.close()


def test_a_spool_has_one_owner(tmp_path: Path) -> None:
    """Two writers would number the same records twice."""
    owner = segments(tmp_path)

    with pytest.raises(SettingsError, match="a name of its own"):
        segments(tmp_path, producer="two")
    owner.close()


def test_what_does_not_fit_is_shed_and_declared(tmp_path: Path) -> None:
    """Loss is never silent: the gap names the numbers, the reason and the time."""
    spool = segments(tmp_path, SpoolLimits(disk_bytes=1000, segment_bytes=4096))
    put(spool, b"x" * 500)

    refused = [put(spool, b"y" * 500), put(spool, b"z" * 500)]
    put(spool, b"small")

    gaps = [one for one in spool.read(after=-1) if isinstance(one, SpoolGap)]
    assert [type(error) for error in refused] == [LogUnavailable, LogUnavailable]
    assert [(gap.first, gap.last, gap.reason) for gap in gaps] == [(1, 2, "disk_full")]
    assert len(payloads(spool)) == 2
    spool.close()


def test_the_last_tenth_is_kept_for_votes(tmp_path: Path) -> None:
    """A completion may be lost before a vote is refused."""
    spool = segments(tmp_path, SpoolLimits(disk_bytes=1000, segment_bytes=4096))
    put(spool, b"x" * 800)

    completion, vote = put(spool, b"y" * 100), put(spool, b"y" * 100, durable=True)

    assert isinstance(completion, LogUnavailable)
    assert vote is None
    spool.close()


def test_releasing_gives_the_disk_back(tmp_path: Path) -> None:
    """Segments that were forwarded whole are removed."""
    spool = segments(tmp_path)
    for _ in range(20):
        put(spool, b"x" * 1000)
    put(spool, b"on disk", durable=True)
    before = spool.backlog_bytes()
    last = list(spool.read(after=-1))[-1]

    spool.release(through=last.position)

    assert spool.backlog_bytes() < before / 3
    spool.close()


def left_behind(root: Path, name: str = "dead", *, producer: str = "one") -> None:
    """Leave a spool with two records as a killed process does."""
    spool = segments(root / name, producer=producer)
    put(spool, b"one", durable=True)
    put(spool, b"two", durable=True)
    spool.close()


def adopted(
    root: Path,
    own: str = "alive",
    *,
    untouched_since: float = 10**11,
    marks: Callable[[Path], Marks] = lambda _: Unmarked(),
) -> SpoolQueue | None:
    return adopt(
        root,
        own=own,
        limits=SpoolLimits(segment_bytes=4096),
        untouched_since=untouched_since,
        now_ns=lambda: 0,
        marks=marks,
    )


def test_what_a_dead_process_left_is_read_under_its_own_name_and_numbers(tmp_path: Path) -> None:
    """The audit counts them as what they are: records of that process."""
    left_behind(tmp_path)

    orphan = adopted(tmp_path)

    assert orphan is not None
    found = [one for one in orphan.read(after=-1) if isinstance(one, Frame)]
    assert [(one.producer, one.seq) for one in found] == [("one", 0), ("one", 1)]
    assert orphan.producer != "one"


def test_of_two_that_look_at_once_one_takes_it(tmp_path: Path) -> None:
    """Two sidecars that start together forward it once."""
    left_behind(tmp_path)

    first, second = adopted(tmp_path, "a"), adopted(tmp_path, "b")

    assert first is not None
    assert second is None


def test_its_name_is_free_again_for_its_owner(tmp_path: Path) -> None:
    """A sidecar that was away for long may come back while another forwards what it left."""
    left_behind(tmp_path)
    orphan = adopted(tmp_path)

    owner = segments(tmp_path / "dead", producer="two")

    assert orphan is not None
    assert payloads(orphan) == [b"one", b"two"]
    assert payloads(owner) == []
    owner.close()


def test_an_orphan_that_was_forwarded_is_gone_and_one_that_was_not_is_left(tmp_path: Path) -> None:
    """Whoever adopts it may die on the way: the next one goes on where it stopped."""
    left_behind(tmp_path)
    killed = adopted(tmp_path)
    assert killed is not None
    first, last = killed.read(after=-1)
    killed.release(through=first.position)
    killed.close()

    heir = adopted(tmp_path)
    assert heir is not None
    rest = payloads(heir)
    heir.release(through=last.position)
    heir.close()

    assert rest == [b"two"]
    assert list(tmp_path.iterdir()) == []
    assert adopted(tmp_path) is None


@pytest.mark.parametrize("why", ["it is ours", "its process lives", "it was written just now"])
def test_a_spool_is_left_alone(tmp_path: Path, why: str) -> None:
    """Only what nobody else will forward is taken."""
    left_behind(tmp_path)
    owner = segments(tmp_path / "dead", producer="two") if why == "its process lives" else None

    orphan = adopted(
        tmp_path,
        "dead" if why == "it is ours" else "alive",
        untouched_since=0 if why == "it was written just now" else 10**11,
    )

    assert orphan is None
    if owner is not None:
        owner.close()


@pytest.mark.parametrize("anything_written", [True, False])
def test_what_marks_alone_know_of_is_adopted_with_its_spool(
    tmp_path: Path, *, anything_written: bool
) -> None:
    """Its process will not come back to say what it had numbered when it was killed."""
    if anything_written:
        left_behind(tmp_path, "dead")
    else:
        (tmp_path / "dead").mkdir()
    kept = {"one": Life(producer="one", given=5, written=0)}
    marks = {tmp_path / "dead": MemoryMarks(kept)}

    orphan = adopted(tmp_path, marks=marks.__getitem__)

    assert orphan is not None
    gaps = [one for one in orphan.read(after=-1) if isinstance(one, SpoolGap)]
    first = 2 if anything_written else 0
    assert [(one.producer, one.first, one.last) for one in gaps] == [("one", first, 4)]
    assert not kept


def test_a_spool_that_was_forwarded_whole_is_adopted_for_its_mark(tmp_path: Path) -> None:
    """Nothing else in it would have anybody look."""
    left_behind(tmp_path)
    spool = segments(tmp_path / "dead", producer="two")
    spool.release(through=list(spool.read(after=-1))[-1].position)
    spool.close()
    marks = MemoryMarks({"one": Life(producer="one", given=3, written=2)})

    orphan = adopted(tmp_path, marks=lambda _: marks)

    assert orphan is not None
    assert [one.last for one in orphan.read(after=-1) if isinstance(one, SpoolGap)] == [2]


def test_how_far_the_reader_is_behind_can_be_seen_from_outside(tmp_path: Path) -> None:
    """An operator asks what a crash would leave to be done, while the sidecar runs."""
    spool = segments(tmp_path)
    put(spool, b"one", durable=True)
    put(spool, b"two", durable=True)

    behind = spool_behind_bytes(tmp_path)
    spool.release(through=list(spool.read(after=-1))[-1].position)

    assert behind > 0
    assert spool_behind_bytes(tmp_path) == 0
    assert spool_behind_bytes(tmp_path / "nothing") == 0
    spool.close()


def test_records_handed_over_together_have_a_word_each(spool: Spool) -> None:
    """Many answers end in one turn of the event loop, and wake the writer once."""
    told: list[Sequence[Exception | None]] = []
    known = Event()

    def written(errors: Sequence[Exception | None]) -> None:
        told.append(errors)
        known.set()

    spool.offer_all([b"one", b"two", b"three"], written=written)
    known.wait(10)

    assert told == [[None, None, None]]
    assert payloads(spool) == [b"one", b"two", b"three"]


def test_of_records_handed_over_together_the_one_that_does_not_fit_is_shed(tmp_path: Path) -> None:
    """Its neighbours are kept, and what is missing is named where it is missing."""
    spool = segments(tmp_path, SpoolLimits(memory_bytes=2_000, segment_bytes=4096))
    told: list[Sequence[Exception | None]] = []
    known = Event()

    def written(errors: Sequence[Exception | None]) -> None:
        told.append(errors)
        known.set()

    spool.offer_all([b"one", b"x" * 5_000, b"two"], written=written)
    known.wait(10)
    entries = list(spool.read(after=-1))
    spool.close()

    assert [isinstance(error, LogUnavailable) for error in told[0]] == [False, True, False]
    assert [one.payload for one in entries if isinstance(one, Frame)] == [b"one", b"two"]
    assert [(one.first, one.last) for one in entries if isinstance(one, SpoolGap)] == [(1, 1)]
