"""The spool on disks that are full, damaged, or stand still."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.errors import LogUnavailable
from feedbackloop.log.folder import LocalDisk
from feedbackloop.log.marks import Life
from feedbackloop.log.memory import MemoryMarks
from feedbackloop.log.port import Frame, SpoolGap
from feedbackloop.log.spool import SpoolLimits, SpoolQueue
from tests.log.crashing_disk import CrashingDisk

LIMITS = SpoolLimits(segment_bytes=1_000)
FIRST = "00000000000000000000.seg"


class Told:
    """What became of each record."""

    def __init__(self) -> None:
        self.errors: list[Exception | None] = []
        self.all = Event()

    def __call__(self, error: Exception | None) -> None:
        self.errors.append(error)
        self.all.set()


class FrozenDisk(LocalDisk):
    """Writes and syncs nothing until it is thawed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.thawed = Event()
        self.thawed.set()
        self.reached = Event()

    def write(self, handle: int, data: bytes, at: int) -> int:
        self.reached.set()
        self.thawed.wait()
        return super().write(handle, data, at)


def a_spool(
    disk: CrashingDisk | LocalDisk,
    limits: SpoolLimits = LIMITS,
    *,
    producer: str = "p",
    marks: dict[str, Life] | None = None,
) -> SpoolQueue:
    ticks = itertools.count()
    spool = SpoolQueue(
        disk,
        producer=producer,
        limits=limits,
        now_ns=lambda: 0,
        marks=MemoryMarks(marks),
        clock=lambda: float(next(ticks)),
    )
    spool.open()
    return spool


def put(spool: SpoolQueue, *payloads: bytes, durable: bool = True) -> list[Exception | None]:
    told = Told()
    for payload in payloads:
        spool.offer(payload, durable=durable, written=told)
    spool.work()
    return told.errors


def read(spool: SpoolQueue) -> list[bytes | tuple[int, int, str]]:
    """Return payloads, and gaps as their numbers and reason."""
    return [
        one.payload if isinstance(one, Frame) else (one.first, one.last, one.reason)
        for one in spool.read(after=-1)
    ]


def test_this_segment_and_the_next_have_their_room_on_the_disk(tmp_path: Path) -> None:
    """Whoever else fills the disk, what is recorded in the meantime finds its place."""
    disk = LocalDisk(tmp_path)

    put(a_spool(disk), b"one")

    assert {name: disk.size(name) for name in disk.names()} == {FIRST: 1_000, "spare": 1_000}


def test_a_full_disk_is_declared_and_recording_goes_on_when_there_is_room() -> None:
    """Nothing is torn: room is asked for before anything is written."""
    disk = CrashingDisk(steps=10**6, room=100)
    spool = a_spool(disk)

    refused = put(spool, b"one", b"two")
    disk.room = 10_000
    accepted = put(spool, b"three")

    assert [type(error) for error in refused] == [LogUnavailable, LogUnavailable]
    assert accepted == [None]
    assert read(spool) == [(0, 1, "disk_refused"), b"three"]


class ShortOfMemory(CrashingDisk):
    """A machine that has no memory for what a write takes, as long as ``is_short``."""

    is_short = False

    def write(self, handle: int, data: bytes, at: int) -> int:
        if self.is_short:
            raise MemoryError
        return super().write(handle, data, at)


def test_who_has_no_memory_for_one_record_writes_the_next() -> None:
    """A thread that ends of it would take every later record with it, and tell nobody."""
    disk = ShortOfMemory(steps=10**6)
    spool = a_spool(disk)
    put(spool, b"zero")

    disk.is_short = True
    refused = put(spool, b"one")
    disk.is_short = False
    spool.work()
    accepted = put(spool, b"two")

    assert [type(error) for error in refused] == [LogUnavailable]
    assert (accepted, read(spool)) == ([None], [b"zero", (1, 1, "disk_refused"), b"two"])


def test_what_is_missing_is_noted_though_no_record_follows() -> None:
    """A sidecar that is asked nothing any more must not keep a loss to itself."""
    disk = CrashingDisk(steps=10**6, room=100)
    spool = a_spool(disk)
    put(spool, b"one")
    disk.room = 10_000

    spool.work()

    assert read(spool) == [(0, 0, "disk_refused")]


def test_the_last_room_on_a_full_disk_is_for_votes() -> None:
    """Others filled the disk: completions are shed first."""
    spool = a_spool(CrashingDisk(steps=10**6, room=6_000), SpoolLimits(segment_bytes=4_000))
    put(spool, b"x" * 2_900)

    completion = put(spool, b"y" * 600, durable=False)
    vote = put(spool, b"y" * 600)

    assert isinstance(completion[0], LogUnavailable)
    assert vote == [None]
    assert read(spool)[1:] == [(1, 1, "disk_full"), b"y" * 600]


def test_damage_in_the_middle_costs_what_it_hit_and_is_named(tmp_path: Path) -> None:
    """A bad sector is no reason to lose its neighbours, nor to be silent about it."""
    spool = a_spool(LocalDisk(tmp_path))
    put(spool, b"one", b"two", b"three")
    _damage(tmp_path / FIRST, b"two")

    found = read(spool)

    assert found == [b"one", (1, 1, "damaged"), b"three"]


def test_a_damaged_segment_is_kept_when_it_is_released(tmp_path: Path) -> None:
    """Somebody may be able to read more of it than we are."""
    spool = a_spool(LocalDisk(tmp_path))
    put(spool, b"one" * 100, b"two" * 100)
    _damage(tmp_path / FIRST, b"two")
    put(spool, b"three" * 150)
    last = list(spool.read(after=-1))[-1]

    spool.release(through=last.position)

    kept = [file.name for file in tmp_path.iterdir() if "0000.seg" in file.name]
    assert (kept, spool.troubles()[("segment", "quarantined")]) == ([f"{FIRST}.damaged"], 1)


def test_a_segment_whose_head_is_damaged_is_still_its_producers(tmp_path: Path) -> None:
    """Its records keep their numbers, so that nobody misses them."""
    spool = a_spool(LocalDisk(tmp_path))
    put(spool, b"one" * 100)
    put(spool, b"two" * 150)
    put(spool, b"three" * 150)
    _damage(tmp_path / FIRST, b"FBLS")

    found = [(one.producer, one.seq) for one in spool.read(after=-1) if isinstance(one, Frame)]

    assert found == [("p", 0), ("p", 1), ("p", 2)]


def test_a_disk_that_stands_still_holds_up_nobody_and_memory_is_bounded(tmp_path: Path) -> None:
    """People get their answers; what does not fit is shed, and named when the disk moves again."""
    disk = FrozenDisk(tmp_path)
    spool = a_spool(disk, SpoolLimits(memory_bytes=2_000, segment_bytes=10_000))
    spool.start()
    disk.thawed.clear()
    spool.offer(b"stuck", durable=True)
    disk.reached.wait(10)

    told = Told()
    for _ in range(10):
        spool.offer(b"x" * 500, durable=False, written=told)
    shed = list(told.errors)
    disk.thawed.set()
    spool.close()

    found: Sequence[Frame | SpoolGap] = list(spool.read(after=-1))
    gaps = [(one.first, one.last, one.reason) for one in found if isinstance(one, SpoolGap)]
    assert len(shed) == 7
    assert gaps == [(4, 10, "memory_full")]
    assert [one.seq for one in found if isinstance(one, Frame)] == [0, 1, 2, 3]


def test_what_was_numbered_and_in_memory_is_declared_after_a_kill(tmp_path: Path) -> None:
    """Its answer may have gone out: an answer waits 20 ms for its record, and no longer."""
    marks: dict[str, Life] = {}
    killed = a_spool(LocalDisk(tmp_path), marks=marks)
    put(killed, b"one")
    killed.offer(b"two", durable=False)
    killed.offer_all([b"three", b"four"], written=lambda _: None)

    found = read(a_spool(LocalDisk(tmp_path), producer="q", marks=marks))
    again = read(a_spool(LocalDisk(tmp_path), producer="r", marks=marks))

    assert found == again == [b"one", (1, 3, "killed")]


def test_who_was_killed_before_anything_was_written_is_known_by_its_mark(tmp_path: Path) -> None:
    """A disk that stood still from the beginning has no segment of it."""
    marks: dict[str, Life] = {}
    a_spool(LocalDisk(tmp_path), marks=marks).offer(b"one", durable=False)

    spool = a_spool(LocalDisk(tmp_path), producer="q", marks=marks)

    gaps = [one for one in spool.read(after=-1) if isinstance(one, SpoolGap)]
    assert [(one.producer, one.first, one.last) for one in gaps] == [("p", 0, 0)]


@given(st.integers(1, 40), st.integers(0, 3))
def test_what_was_released_is_not_declared(records: int, lost: int) -> None:
    """Its segments are gone, but for the last one."""
    marks: dict[str, Life] = {}
    disk = CrashingDisk(steps=10**6)
    killed = a_spool(disk, marks=marks)
    for _ in range(records):
        put(killed, b"one" * 100)
        killed.release(through=list(killed.read(after=-1))[-1].position)
    for _ in range(lost):
        killed.offer(b"two", durable=False)

    spool = a_spool(disk.after_kill(steps=10**6), producer="q", marks=marks)

    assert read(spool) == ([(records, records + lost - 1, "killed")] if lost else [])


@given(st.integers(0, 5), st.integers(0, 3))
def test_what_was_written_where_nobody_finds_it_is_declared(written: int, lost: int) -> None:
    """A volume was mounted over the spool, or taken away, and its sidecar was killed."""
    marks: dict[str, Life] = {}
    killed = a_spool(CrashingDisk(steps=10**6), marks=marks)
    put(killed, *[b"one"] * written)
    for _ in range(lost):
        killed.offer(b"two", durable=False)

    found = read(a_spool(CrashingDisk(steps=10**6), producer="q", marks=marks))

    hidden = [(0, written - 1, "hidden")] if written else []
    assert found == hidden + ([(written, written + lost - 1, "killed")] if lost else [])


def test_who_closes_has_said_all_and_leaves_no_mark(tmp_path: Path) -> None:
    """Nothing is declared that was only on its way."""
    marks: dict[str, Life] = {}
    spool = a_spool(LocalDisk(tmp_path), marks=marks)
    put(spool, b"one")

    spool.close()

    assert not marks


def test_who_closes_with_a_loss_unwritten_leaves_it_to_the_next() -> None:
    """A disk that was full until the end has taken no word of what was shed."""
    marks: dict[str, Life] = {}
    disk = CrashingDisk(steps=10**6, room=100)
    spool = a_spool(disk, marks=marks)
    put(spool, b"one", b"two")
    spool.close()
    disk.heal()

    assert read(a_spool(disk, producer="q", marks=marks)) == [(0, 1, "killed")]


def _damage(file: Path, where: bytes) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(where)] ^= 0xFF
    file.write_bytes(bytes(data))
