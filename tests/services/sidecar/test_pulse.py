"""When a child stands still for too long: looks at it, made up."""

from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st

from services.sidecar.pulse import LOOK_SECONDS, Seen, Watch

LIMIT = 10.0
TIMES = st.integers(1, 200)
BEATS = st.integers(0, 3)
PASSED = st.floats(0, 10_000)


def seen(beats: int = 0, *, through: int = 0, is_needed: bool = True) -> Seen:
    return Seen(beats=beats, through=through, is_needed=is_needed)


def looked(watch: Watch, *looks: Seen, passed_seconds: float = LOOK_SECONDS) -> Watch:
    for one in looks:
        watch = watch.after(one, passed_seconds=passed_seconds)
    return watch


def looks_until_stuck(watch: Watch, still: Seen) -> int:
    looks = 0
    while not watch.is_stuck:
        watch = looked(watch, still)
        looks += 1
    return looks


@given(TIMES, PASSED)
def test_who_goes_on_is_never_stuck(times: int, passed_seconds: float) -> None:
    """To try again counts: while the log is away for a week nobody is killed."""
    looks = [seen(beats) for beats in range(times)]

    watch = looked(Watch.of(LIMIT), *looks, passed_seconds=passed_seconds)

    assert watch.still_seconds == 0
    assert not watch.is_stuck


@given(TIMES, PASSED)
def test_who_has_nothing_to_do_is_never_stuck(times: int, passed_seconds: float) -> None:
    """Someone may have stopped it to look at it; nobody waits for it."""
    looks = [seen(is_needed=False)] * times

    watch = looked(Watch.of(LIMIT), *looks, passed_seconds=passed_seconds)

    assert not watch.is_stuck


@given(BEATS, st.floats(LOOK_SECONDS, 100))
def test_who_stands_still_is_stuck_after_its_time_and_not_before(
    beats: int, seconds: float
) -> None:
    """The first look only learns how far it is."""
    still = looks_until_stuck(Watch.of(seconds), seen(beats)) - 1

    assert (still - 1) * LOOK_SECONDS < seconds <= still * LOOK_SECONDS


@given(st.floats(60, 1e9))
def test_a_pause_of_us_both_kills_nobody(passed_seconds: float) -> None:
    """A container that was paused, a laptop that slept: the child did not stand still alone."""
    before = looked(Watch.of(LIMIT), seen(), seen())

    after = looked(before, seen(), passed_seconds=passed_seconds)

    assert after.still_seconds <= before.still_seconds + 2 * LOOK_SECONDS


@given(st.integers(0, 6))
def test_who_was_killed_in_vain_is_followed_by_one_with_twice_its_time(kills: int) -> None:
    """One step may honestly take long; killed again and again, it would never come to its end."""
    watch = Watch.of(LIMIT)
    for _ in range(kills):
        watch = watch.killed(seen()).anew()

    looks = looks_until_stuck(watch, seen()) - 1

    assert looks * LOOK_SECONDS == LIMIT * 2**kills


@given(st.integers(1, 6), st.integers(1, 100))
def test_where_it_helped_the_next_one_has_the_usual_time(kills: int, further: int) -> None:
    """What held it up is in the log."""
    watch = Watch.of(LIMIT)
    for _ in range(kills):
        watch = watch.killed(seen(through=7)).anew()

    helped = looked(watch, seen(through=7 + further))

    assert helped.patience_seconds == LIMIT
    assert looked(watch, seen(through=7)).patience_seconds == LIMIT * 2**kills


@given(st.integers(1, 300), st.integers(1, 10))
def test_who_needs_long_for_each_step_is_not_killed_for_each(looks: int, steps: int) -> None:
    """Long texts and a slow recogniser: half of the work would be done in vain for ever."""
    watch, kills = Watch.of(LIMIT), 0

    for step in range(steps):
        while True:
            watch = looked(watch.anew(), *[seen(through=step)] * looks)
            if not watch.is_stuck:
                break
            watch, kills = watch.killed(seen(through=step)), kills + 1
        watch = looked(watch, seen(1, through=step + 1))

    assert kills <= max(0, ceil(log2(looks * LOOK_SECONDS / LIMIT))) + 1


@given(st.lists(BEATS, max_size=30), st.integers(0, 30))
def test_another_child_owes_nothing_to_the_one_before(beats: list[int], still: int) -> None:
    """Whatever that one died of."""
    watch = looked(Watch.of(LIMIT), *map(seen, beats), *[seen()] * still)

    fresh = looked(watch.anew(), seen(beats[-1] if beats else 0))

    assert fresh.still_seconds == 0
