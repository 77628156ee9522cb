"""What is remembered stays within its bound, and the oldest goes first."""

import gc
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.attribution import Attribution
from feedbackloop.capture.remembered import Remembered
from feedbackloop.events import UserId
from tests.builders import a_completion

PUTS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 8)), min_size=1, max_size=60)


@given(PUTS, st.integers(1, 30))
def test_the_newest_that_fit_are_remembered_and_no_others(
    puts: list[tuple[int, int]], capacity: int
) -> None:
    """However they come, and whatever took the place of what."""
    remembered: Remembered[int, int] = Remembered(capacity)
    for number, (key, weight) in enumerate(puts):
        remembered.put(key, number, weight=weight)

    newest: dict[int, tuple[int, int]] = {}
    for number, (key, weight) in reversed(list(enumerate(puts))):
        newest.setdefault(key, (number, weight))
    held = dict(remembered.items())
    weights = {key: newest[key][1] for key in held}
    assert held == {key: newest[key][0] for key in held}
    assert remembered.weight == sum(weights.values())
    assert remembered.weight <= capacity or len(held) == 1
    # What was forgotten is older than all that is held.
    assert [newest[key][0] for key in held] == sorted(newest[key][0] for key in held)
    assert set(held) == set(list(newest)[: len(held)])


@given(PUTS)
def test_what_is_put_in_again_counts_as_new(puts: list[tuple[int, int]]) -> None:
    """A conversation that goes on is the last to be forgotten."""
    remembered: Remembered[int, int] = Remembered(10**6)
    for number, (key, weight) in enumerate(puts):
        remembered.put(key, number, weight=weight)
    oldest = next(key for key, _ in remembered.items())

    remembered.freshen(oldest)

    assert [key for key, _ in remembered.items()][-1] == oldest


@pytest.mark.parametrize(
    "who", [lambda number: number, lambda number: number // 8, lambda _: 0], ids=str
)
def test_conversations_take_no_more_memory_than_their_bound(who: Callable[[int], int]) -> None:
    """Long turns in a wide script are the heaviest there are; all else is beside them."""
    bound = 4 * 2**20
    attribution = Attribution(capacity_bytes=bound)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(1_500):
            said = f"{number} " + "\N{CJK UNIFIED IDEOGRAPH-9577}" * 1_300
            one = a_completion(f"chatcmpl-{number:040}", prompt=said, user=UserId(f"{who(number)}"))
            attribution.add(one)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert bound / 2 < held < bound * 1.5
