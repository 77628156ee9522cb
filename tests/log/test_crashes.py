"""Whatever happens to the disk: what was acknowledged is there, nothing is invented, no hole hides.

The spool is driven without its thread, so that each call to the disk may be the one that fails, or
before which the process is killed or the power goes. Recovery and release may be hit, too. What the
next process finds is any state that a real disk might show.
"""

import contextlib
import itertools
from collections.abc import Sequence
from itertools import count
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop.errors import LogUnavailable
from feedbackloop.log.killed import KILLED
from feedbackloop.log.marks import Life
from feedbackloop.log.memory import MemoryMarks
from feedbackloop.log.port import Frame, SpoolGap
from feedbackloop.log.spool import SpoolLimits, SpoolQueue
from tests.log.crashing_disk import CrashingDisk, PowerLost

LIMITS = SpoolLimits(memory_bytes=10**6, disk_bytes=10**6, segment_bytes=400)
STEPS = ["vote", "completion", "completion", "several", "work", "work", "forward"]
MANY = 10**6


class Plan(msgspec.Struct, frozen=True):
    """One life of a process: what it does, which calls to the disk fail, and when it dies."""

    steps: list[str]
    failing: frozenset[int]
    dies_after: int
    loses_power: bool


def lives(loses_power: st.SearchStrategy[bool]) -> st.SearchStrategy[Plan]:
    return st.builds(
        Plan,
        st.lists(st.sampled_from(STEPS), max_size=25),
        st.frozensets(st.integers(1, 80), max_size=6),
        st.integers(0, 120),
        loses_power,
    )


plans, kills = lives(st.booleans()), lives(st.just(value=False))


UNTROUBLED = Plan(steps=[], failing=frozenset(), dies_after=MANY, loses_power=False)


class World:
    """What clients and the log were told, over all lives."""

    def __init__(self) -> None:
        self.offered: dict[tuple[str, int], bytes] = {}
        self.on_disk: set[tuple[str, int]] = set()
        self.in_memory: set[tuple[str, int]] = set()
        """Acknowledged, and lost with the power."""
        self.forwarded: set[tuple[str, int]] = set()
        self.declared: set[tuple[str, int]] = set()
        self.killed: set[tuple[str, int]] = set()
        """Of the declared, those that only a mark knew of."""
        self.marks: dict[str, Life] = {}

    def live(self, disk: CrashingDisk, producer: str, plan: Plan) -> None:
        """Live one life to its end; a disk that fails at the start does not end it."""
        with contextlib.suppress(PowerLost):
            spool = a_spool(disk, producer, self.marks)
            for step in plan.steps:
                with contextlib.suppress(OSError, LogUnavailable):
                    self.do(spool, producer, step)

    def do(self, spool: SpoolQueue, producer: str, step: str) -> None:
        """Take one step of a life."""
        match step:
            case "work":
                spool.work()
            case "forward":
                found = list(spool.read(after=-1))
                for one in found[: len(found) // 2 + 1]:
                    self.take(one)
                    spool.release(through=one.position)
            case "several":
                self._offer(spool, producer, count=3, durable=False)
            case _:
                self._offer(spool, producer, count=1, durable=step == "vote")

    def _offer(self, spool: SpoolQueue, producer: str, *, count: int, durable: bool) -> None:
        seqs = [self.next_number(producer) + n for n in range(count)]
        payloads = [f"{producer}-{seq}".encode() * 6 for seq in seqs]
        self.offered |= {(producer, seq): one for seq, one in zip(seqs, payloads, strict=True)}

        def written(errors: Sequence[Exception | None]) -> None:
            good = {(producer, seq) for seq, e in zip(seqs, errors, strict=True) if e is None}
            self.in_memory |= good
            if durable:
                self.on_disk |= good

        if durable:
            spool.offer(payloads[0], durable=True, written=lambda error: written([error]))
        else:
            spool.offer_all(payloads, written=written)

    def next_number(self, producer: str) -> int:
        """Return the number of a producer's next record."""
        return sum(name == producer for name, _ in self.offered)

    def take(self, one: Frame | SpoolGap) -> None:
        """Forward one entry of the spool."""
        if isinstance(one, Frame):
            self.forwarded.add((one.producer, one.seq))
            assert one.payload == self.offered[one.producer, one.seq]
        else:
            gone = {(one.producer, seq) for seq in range(one.first, one.last + 1)}
            self.declared |= gone
            if one.reason == KILLED:
                self.killed |= gone

    def die(self, disk: CrashingDisk, plan: Plan, following: Plan, random: Random) -> CrashingDisk:
        """End one life; return what the next one finds."""
        steps, failing = following.dies_after, following.failing
        if not plan.loses_power:
            return disk.after_kill(steps=steps, failing=failing)
        self.in_memory = set(self.on_disk)
        self.marks.clear()
        return disk.after_power_loss(random, steps=steps, failing=failing)

    def holes(self) -> set[tuple[str, int]]:
        """Return the numbers that were passed over without a word."""
        heard = self.forwarded | self.declared
        tops = {name: max(seq for other, seq in heard if other == name) for name, _ in heard}
        known = {(name, seq) for name, top in tops.items() for seq in range(top + 1)}
        return known - heard


def opened(disk: CrashingDisk, producer: str, marks: dict[str, Life] | None = None) -> SpoolQueue:
    spool = a_spool(disk, producer, marks)
    spool.open()
    return spool


def a_spool(disk: CrashingDisk, producer: str, marks: dict[str, Life] | None = None) -> SpoolQueue:
    ticks = count()
    return SpoolQueue(
        disk,
        producer=producer,
        limits=LIMITS,
        now_ns=lambda: 0,
        marks=MemoryMarks(marks),
        # A look at the clock is 20 ms after the last one: some pauses are over, and some are not.
        clock=lambda: next(ticks) / 50,
    )


@settings(max_examples=400, deadline=None)
@given(plans, plans, st.sampled_from([10**9, 2_500]), st.integers())
def test_nothing_acknowledged_is_lost_nothing_invented_and_no_hole_hides(
    first: Plan, second: Plan, room: int, seed: int
) -> None:
    """Two lives, each with a failing disk and its own death; then somebody reads what is left."""
    random, world = Random(seed), World()
    disk = CrashingDisk(steps=first.dies_after, failing=first.failing, room=room)
    world.live(disk, "a", first)
    disk = world.die(disk, first, second, random)
    world.live(disk, "b", second)
    disk = world.die(disk, second, UNTROUBLED, random)
    disk.heal()

    left = list(opened(disk, "c", world.marks).read(after=-1))

    for one in left:
        world.take(one)
    assert world.in_memory <= world.forwarded
    assert not world.holes()
    assert world.declared <= set(world.offered)
    assert [one.position for one in left] == sorted({one.position for one in left})


@settings(max_examples=1_000, deadline=None)
@given(st.lists(kills, min_size=1, max_size=3), st.sampled_from([10**9, 2_500]))
def test_after_kills_expected_is_seen_and_declared_exactly(plans: list[Plan], room: int) -> None:
    """What was in memory had its numbers: somebody may have seen the answer, and nobody the record.

    Each number that was ever given is carried by a record or named by a gap, and by a kill's gap
    only if no record carries it, however often a process is killed while it declares them.
    """
    random, world = Random(0), World()
    disk = CrashingDisk(steps=plans[0].dies_after, failing=plans[0].failing, room=room)
    for name, plan, following in zip("abc", plans, [*plans[1:], UNTROUBLED], strict=False):
        world.live(disk, name, plan)
        disk = world.die(disk, plan, following, random)
    disk.heal()

    for one in opened(disk, "z", world.marks).read(after=-1):
        world.take(one)

    assert world.forwarded | world.declared == set(world.offered)
    assert not world.killed & world.forwarded
    assert not world.marks.keys() - {"z"}


def test_a_kill_at_any_call_after_any_failure_is_declared_exactly() -> None:
    """A failed sync has records written once more: the copy may end before the original does."""
    steps = ["completion", "work", "completion", "work", "vote", "work", "forward", "several"]
    for failing, dies_after in itertools.product(range(30), range(40)):
        world = World()
        plan = Plan(steps, frozenset({failing}), dies_after=dies_after, loses_power=False)
        disk = CrashingDisk(steps=dies_after, failing=plan.failing)
        world.live(disk, "a", plan)
        disk = world.die(disk, plan, UNTROUBLED, Random(0))

        for one in opened(disk, "z", world.marks).read(after=-1):
            world.take(one)

        assert world.forwarded | world.declared == set(world.offered), (failing, dies_after)
        assert not world.killed & world.forwarded, (failing, dies_after)


@settings(max_examples=200, deadline=None)
@given(plans, st.sampled_from([10**9, 2_500]))
def test_a_disk_that_works_again_is_written_again(plan: Plan, room: int) -> None:
    """Whatever a failing disk left lying about must not stand in the way for ever."""
    disk = CrashingDisk(steps=MANY, failing=plan.failing, room=room)
    spool = a_spool(disk, "a")
    world = World()
    for step in plan.steps:
        with contextlib.suppress(OSError, LogUnavailable):
            world.do(spool, "a", step)
    disk.heal()

    # A disk that has refused is left alone for a moment: a client tries again.
    for _ in range(10):
        world.do(spool, "a", "vote")
        spool.work()

    left = list(spool.read(after=-1))
    for one in left:
        world.take(one)
    assert world.on_disk <= world.forwarded
    assert world.next_number("a") - 1 in {seq for _, seq in world.on_disk}
    assert not world.holes()


@settings(max_examples=100, deadline=None)
@given(plans, st.integers())
def test_recovering_twice_is_recovering_once(plan: Plan, seed: int) -> None:
    """A process that dies during its start must not make things worse."""
    disk = CrashingDisk(steps=plan.dies_after, failing=plan.failing)
    World().live(disk, "a", plan)
    disk = disk.after_power_loss(Random(seed), steps=MANY)
    once = list(opened(disk, "b").read(after=-1))

    again = list(opened(disk, "c").read(after=-1))

    assert again == once
