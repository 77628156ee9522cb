"""Requests without an end: each comes out once, and they take no more memory than they may."""

from datetime import timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.events import CompletionId
from feedbackloop.log.port import Frame
from services.sidecar.unanswered import Unanswered, Waiting
from tests.capture.records import an_opening
from tests.services.sidecar.forwarding import NOON

BOUND = 20_000
STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "open", "end"]), st.integers(0, 9_000)), max_size=60
)


def a_frame(position: int, producer: str = "p") -> Frame:
    at = NOON + timedelta(seconds=position)
    return Frame(position=position, producer=producer, seq=position, at=at, payload=b"")


def waiting(number: int, size: int) -> Waiting:
    opened = msgspec.structs.replace(an_opening(f"c{number}"), body=b"x" * size)
    return Waiting(number - 1, a_frame(number), opened)


@given(STEPS)
def test_memory_is_bounded_and_each_request_is_closed_once(steps: list[tuple[str, int]]) -> None:
    """A spool full of requests whose ends were shed must not become as large in memory."""
    open_ones = Unanswered(held_bytes=10**9, memory_bytes=BOUND)
    opened, guessed, ended = dict[str, Waiting](), list[str](), list[str]()
    for number, (step, size) in enumerate(steps):
        if step == "open":
            opened[f"c{number}"] = waiting(number, size)
            open_ones.add(opened[f"c{number}"])
            guessed += [one.opened.completion_id for one in open_ones.gone(a_frame(number))]
        elif opened:
            name = sorted(opened)[size % len(opened)]
            if open_ones.end(CompletionId(name)) is not None:
                ended.append(name)
        left = [one for name, one in opened.items() if name not in {*guessed, *ended}]
        assert sum(one.size for one in left) <= BOUND

    rest = [one.opened.completion_id for one in open_ones.left_by_the_dead("nobody")]

    assert len({*guessed}) == len(guessed)
    assert len({*ended}) == len(ended)
    assert {*guessed, *ended, *rest} == set(opened)
    assert not {*rest} & {*guessed, *ended}
    # The oldest are given up first.
    assert guessed == sorted(guessed, key=lambda name: int(name[1:]))


def test_an_end_that_comes_though_it_was_given_up_finds_its_request() -> None:
    """What it says outranks the guess."""
    open_ones = Unanswered(held_bytes=10**9, memory_bytes=BOUND)
    for number in range(3):
        open_ones.add(waiting(number, 9_000))
    (oldest,) = open_ones.gone(a_frame(3))

    assert open_ones.end(oldest.opened.completion_id) == oldest
    assert open_ones.end(oldest.opened.completion_id) is None
    assert open_ones.before_first() == 0
