import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.folding import folded
from feedbackloop.capture.forms import Forms, is_end, is_form, is_part

WORDS = st.one_of(
    st.text(alphabet="abcd", min_size=1, max_size=11),
    st.text(alphabet="리스트를", min_size=1, max_size=4),
    st.sampled_from(
        ["python", "pyhton", "pythons", "15", "150", "entlüften", "entlüftet", "ab-ab"]
    ),
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bake", "baking"),
        ("python", "pyhton"),
        ("entlüften", "entlüftet"),
        ("английский", "английского"),
        ("리스트", "리스트를"),
        ("colour", "color"),
    ],
)
def test_forms_of_one_word_are_one_word(one: str, other: str) -> None:
    """People inflect and misspell what they ask again."""
    assert is_form(folded(one), folded(other))


@pytest.mark.parametrize(
    ("one", "other"), [("france", "spain"), ("15", "150"), ("boil", "peel"), ("cat", "dog")]
)
def test_other_words_are_other_words(one: str, other: str) -> None:
    """Else every lookup would be a retry of the one before."""
    assert not is_form(one, other)


@given(st.lists(WORDS, max_size=12), WORDS)
def test_a_form_is_found_without_comparing_each_with_each(known: list[str], word: str) -> None:
    """What is passed over quickly must be what would not have matched."""
    assert list(Forms(known).like(word)) == [
        place for place, other in enumerate(known) if is_form(word, other)
    ]


@given(st.lists(WORDS, max_size=8), st.lists(WORDS, max_size=8))
def test_no_word_is_the_twin_of_two(one: list[str], other: list[str]) -> None:
    """Else "very, very good" would share more words with "very good" than that has."""
    twins = Forms(other).twins(one)

    places = [place for place in twins if place is not None]
    assert len(set(places)) == len(places)
    assert all(is_form(one[n], other[place]) for n, place in enumerate(twins) if place is not None)


@given(WORDS, WORDS)
def test_a_part_stands_in_a_row(one: str, other: str) -> None:
    """Most of a word, and five letters at least: "kettle" in "teakettle", no "age" in "manager"."""
    shorter = min(len(one), len(other))
    runs = {
        one[start : start + size]
        for start in range(len(one))
        for size in range(1, len(one) - start + 1)
    }
    longest = max((len(run) for run in runs if run in other), default=0)

    assert is_part(one, other) == (
        shorter >= 5
        and not one.isdecimal()
        and not other.isdecimal()
        and longest >= max(5, 0.75 * shorter)
    )


@pytest.mark.parametrize(
    ("word", "other", "ends"),
    [
        ("vertrag", "fitnessstudiovertrag", True),
        ("bank", "gartenbank", True),
        ("ethanol", "methanol", False),
        ("mother", "brother", False),
        ("art", "breakfastart", False),
        ("vertrag", "vertrag", False),
    ],
)
def test_a_compound_ends_with_what_it_is_a_kind_of(word: str, other: str, *, ends: bool) -> None:
    """A gym contract is a contract; methanol is no ethanol."""
    assert is_end(word, other) is ends
