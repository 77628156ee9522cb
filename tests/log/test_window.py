"""Repeats are found as far back as was promised, and however often the archiver restarts."""

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.log.window import Window

entries = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2)), max_size=60)


def test_a_repeat_is_left_out() -> None:
    """A forwarder sends again what was on its way when it died."""
    window = Window(10)

    assert [window.keeps("a", 1), window.keeps("b", 1), window.keeps("a", 1)] == [True, True, False]


def test_the_same_event_with_other_bytes_is_kept() -> None:
    """The second record may know more: a reader decides."""
    window = Window(10)

    assert [window.keeps("a", 1), window.keeps("a", 2), window.keeps("a", 1)] == [True, True, False]


def test_what_lies_further_back_is_not_known() -> None:
    """Memory is bounded; readers count exactly, by the event's id."""
    window = Window(2)
    for event_id in "abc":
        window.keeps(event_id, 1)

    assert window.keeps("a", 1)


@given(entries, st.integers(0, 6), st.integers(0, 60))
def test_a_restart_changes_nothing(found: list[tuple[str, int]], size: int, cut: int) -> None:
    """Two archivers that restart at other places write the same rows."""
    whole, first = Window(size), Window(size)
    expected = [whole.keeps(*one) for one in found]

    kept = [one for one in found[:cut] if first.keeps(*one)]
    second = Window(size, kept[-size:] if size else [])
    rest = [second.keeps(*one) for one in found[cut:]]

    assert rest == expected[cut:]
