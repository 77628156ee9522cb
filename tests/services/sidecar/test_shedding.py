"""What goes first when there is little room: large bodies, then completions, and votes last."""

import asyncio
import itertools
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop.capture import record
from feedbackloop.capture.record import LARGE_BYTES, Closed, Opened
from feedbackloop.errors import RequestError
from feedbackloop.events import CaptureGap, CompletionServed, ThumbGiven
from feedbackloop.log.frames import HEADER_BYTES
from feedbackloop.log.memory import MemorySpool
from feedbackloop.log.port import Frame
from feedbackloop.log.spool import SpoolLimits, SpoolQueue
from services.sidecar.recording import Recorder
from tests.capture.records import a_closing, a_vote, an_opening
from tests.log.crashing_disk import CrashingDisk
from tests.services.sidecar.forwarding import a_translator

BOUND = 200_000
AMPLE, COMPLETIONS = 0.75 * BOUND, 0.9 * BOUND
SIZES = st.integers(100, 14_000)
STEPS = st.lists(st.tuples(st.booleans(), SIZES, SIZES), min_size=20, max_size=60)


@dataclass
class Life:
    """A spool that fills up, and nobody who frees it."""

    spool: SpoolQueue
    recorder: Recorder
    used: list[int] = field(default_factory=list)
    """Before each record, by number."""
    halves: dict[int, Opened | Closed] = field(default_factory=dict)
    """What was handed over, by number."""
    refused: list[int] = field(default_factory=list)
    """Numbers of votes."""

    def _note(self, half: Opened | Closed | None) -> None:
        if half is not None:
            self.halves[len(self.used)] = half
        self.used.append(self.spool.backlog_bytes())

    async def completion(self, name: str, prompt: int, reply: int) -> None:
        opened = an_opening(name, body=b"x" * prompt)
        closed = a_closing(name, body=b"y" * reply)
        for half in (opened, closed):
            self._note(half)
        self.recorder.opened(opened)
        self.recorder.closed(closed, lambda: None)
        await self._work()

    async def vote(self, name: str) -> None:
        self._note(None)
        number = len(self.used) - 1
        voting = asyncio.create_task(self.recorder.voted(a_vote(name)))
        await self._work()
        try:
            await voting
        except RequestError:
            self.refused.append(number)

    async def _work(self) -> None:
        # What is handed over is offered at the end of the loop's turn.
        for _ in range(3):
            await asyncio.sleep(0)
        self.spool.work()


async def lived(steps: list[tuple[bool, int, int]]) -> Life:
    ticks = itertools.count()
    spool = SpoolQueue(
        CrashingDisk(steps=10**9),
        producer="p",
        limits=SpoolLimits(memory_bytes=10**9, disk_bytes=BOUND, segment_bytes=50_000),
        now_ns=lambda: 0,
        clock=lambda: float(next(ticks)),
    )
    spool.open()
    life = Life(spool, Recorder(spool, wait_seconds=60, vote_wait_seconds=60))
    for number, (votes, prompt, reply) in enumerate(steps):
        await life.completion(f"c{number}", prompt, reply)
        if votes:
            await life.vote(f"c{number}")
    return life


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_bodies_go_before_completions_and_completions_before_votes(
    steps: list[tuple[bool, int, int]],
) -> None:
    """Of a long outage of the log, as much is known as fits."""
    life = asyncio.run(lived(steps))
    entries = list(life.spool.read(after=-1))
    frames = {one.seq: record.decode(one.payload) for one in entries if isinstance(one, Frame)}

    for seq, half in life.halves.items():
        found = frames.get(seq)
        is_large = len(half.body) > LARGE_BYTES
        shortest = record.encode(record.without_body(half) if is_large else half)
        if found is None:
            # The other half may have come between.
            assert life.used[seq] + 2 * (len(shortest) + HEADER_BYTES) + 14_500 > COMPLETIONS
        elif found == half:
            assert not is_large or life.used[seq] + len(half.body) <= AMPLE
        else:
            assert is_large
            assert found == record.without_body(half)
    assert all(life.used[seq] + 1_000 > BOUND for seq in life.refused)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_votes_find_their_completion_and_the_gap_is_exact(
    steps: list[tuple[bool, int, int]],
) -> None:
    """A completion without its text has its id and its number all the same."""
    life = asyncio.run(lived([(votes, 20_000, reply) for votes, _, reply in steps]))
    translator = a_translator()

    events = translator.events(life.spool.read(after=-1)) + translator.left_by_the_dead("")

    completions = {one.completion_id: one for one in events if isinstance(one, CompletionServed)}
    gaps = [one for one in events if isinstance(one, CaptureGap)]
    seen = [seq for one in events if not isinstance(one, CaptureGap) for seq in one.seqs]
    declared = [seq for gap in gaps for seq in range(gap.first, gap.last + 1)]
    assert sorted(seen + declared) == list(range(len(life.used)))
    voted = {one.completion_id for one in events if isinstance(one, ThumbGiven)}
    shed = {half.completion_id for seq, half in life.halves.items() if seq in declared}
    assert voted <= completions.keys() | shed
    unkept = [one for one in completions.values() if one.unkept]
    assert len(unkept) >= len(completions) - AMPLE // 20_000 - 1
    assert all("x" * 100 not in str(one.messages) for one in unkept)


async def test_small_bodies_stay() -> None:
    """What stands for them would take as much."""
    spool = MemorySpool()
    spool.nearly_full = True
    recorder = Recorder(spool, wait_seconds=60, vote_wait_seconds=60)
    small, large = a_closing(body=b"x" * LARGE_BYTES), a_closing(body=b"x" * (LARGE_BYTES + 1))

    recorder.closed(small, lambda: None)
    recorder.closed(large, lambda: None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    found = [record.decode(one.payload) for one in spool.read(after=-1) if isinstance(one, Frame)]
    assert found == [small, record.without_body(large)]
