"""Whenever the power goes, what was acknowledged is there, and nothing else is.

The writer is driven without its thread, so that a crash hits exactly one call to the disk; the
disk afterwards is in any state that a real one might show. Recovery may lose power too.
"""

import contextlib
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop.log import frames, reader
from feedbackloop.log.frames import Kind
from feedbackloop.log.port import Frame
from feedbackloop.log.writer import Writer
from tests.log.crashing_disk import CrashingDisk, PowerLost

steps = st.lists(st.sampled_from(["append", "append", "append", "sync"]), max_size=25)
MANY = 10**6


class Life:
    """One incarnation: what it was told to write, and what it was told is safe."""

    def __init__(self, disk: CrashingDisk, producer: str) -> None:
        self.written: list[bytes] = []
        self.safe = 0
        self._disk = disk
        self._producer = producer

    def live(self, steps: list[str]) -> None:
        """Append and sync until the power goes or there is nothing left to do."""
        with contextlib.suppress(PowerLost):
            writer = Writer(self._disk, producer=self._producer, segment_bytes=300)
            for step in steps:
                if step == "sync":
                    writer.sync()
                    self.safe = len(self.written)
                    continue
                record = f"{self._producer}-{len(self.written)}".encode() * 5
                self.written.append(record)
                seq = len(self.written) - 1
                frame = frames.encode(record, kind=Kind.RECORD, seq=seq, at_ns=0)
                writer.append(frame, first_seq=seq)


def read(disk: CrashingDisk) -> list[bytes]:
    return [one.payload for one in reader.read(disk, after=-1) if isinstance(one, Frame)]


@settings(max_examples=300, deadline=None)
@given(steps, st.integers(0, 40), steps, st.integers(0, 40), st.integers())
def test_what_was_acknowledged_survives_any_crash(
    first_steps: list[str], first_crash: int, second_steps: list[str], second_crash: int, seed: int
) -> None:
    """Two lives, each of which may lose power at any call, its own recovery included."""
    random = Random(seed)
    disk = CrashingDisk(steps=first_crash)
    first = Life(disk, "a")
    first.live(first_steps)
    disk = disk.after_power_loss(random, steps=second_crash)
    second = Life(disk, "b")
    second.live(second_steps)
    disk = disk.after_power_loss(random, steps=MANY)
    Writer(disk, producer="c", segment_bytes=300)

    found = read(disk)

    assert set(found) <= set(first.written) | set(second.written)
    assert [one for one in found if one in first.written[: first.safe]] == first.written[
        : first.safe
    ]
    assert [one for one in found if one in second.written[: second.safe]] == (
        second.written[: second.safe]
    )


@settings(max_examples=100, deadline=None)
@given(steps, st.integers(0, 40), st.integers())
def test_recovering_twice_is_recovering_once(done: list[str], crash: int, seed: int) -> None:
    """A process that dies during its start must not make things worse."""
    disk = CrashingDisk(steps=crash)
    Life(disk, "a").live(done)
    disk = disk.after_power_loss(Random(seed), steps=MANY)
    Writer(disk, producer="b", segment_bytes=300)
    once = read(disk)

    Writer(disk, producer="c", segment_bytes=300)

    assert read(disk) == once
