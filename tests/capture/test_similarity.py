import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.similarity import edit_distance, is_similar, similarity

WORDS = st.text(alphabet="ab c", max_size=8)


def by_the_table(one: str, other: str) -> int:
    """Edit distance as the textbook has it."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        above, row = row, [i]
        for j, right in enumerate(other, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (left != right)))
    return row[-1]


@given(WORDS, WORDS)
def test_the_fast_edit_distance_is_the_textbooks(one: str, other: str) -> None:
    """It runs beside the event loop for every prompt, so it is the clever one."""
    assert edit_distance(one, other) == by_the_table(one, other)


@given(st.text(), st.text())
def test_likeness_is_a_share_and_knows_no_order(one: str, other: str) -> None:
    """Thresholds are shares, and which of two prompts came first says nothing."""
    alike = similarity(one, other)

    assert 0 <= alike <= 1
    assert alike == pytest.approx(similarity(other, one))


@given(WORDS | st.text(), WORDS | st.text(), st.floats(0, 1))
def test_a_threshold_is_met_exactly_where_likeness_meets_it(
    one: str, other: str, least: float
) -> None:
    """Bounds that cost little decide most pairs, and must decide them alike."""
    alike = similarity(one, other)

    assert is_similar(one, other, least=least) == (alike >= least)
    assert is_similar(one, other, least=alike)


@given(st.text())
def test_a_text_is_like_itself(text: str) -> None:
    """Typed once more is asked again."""
    assert similarity(text, text) == 1.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I undo my last commit?", "How can I undo the last commit?"),
        ("How do I install Pyhton", "How do I install Python"),
        ("opening hours of the post office", "post office opening hours"),
        ("怎么在家里做披萨", "在家里怎么做披萨"),
    ],
)
def test_the_same_wish_in_other_words_is_alike(one: str, other: str) -> None:
    """Other words, a typing error, another order: each view of likeness has its case."""
    assert similarity(one, other) >= 0.6


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "How do I bake bread?"),
        ("Tell me about bees", "Write a contract for a flat"),
        ("推荐一本书", "今天天气怎么样"),
    ],
)
def test_another_wish_is_not_alike(one: str, other: str) -> None:
    """A new question must not make the last answer look bad."""
    assert similarity(one, other) < 0.5


def test_common_words_can_be_made_to_weigh_less() -> None:
    """In an app where all turns begin alike, the beginning says nothing."""
    one, other = "please tell me about mortgages now", "please tell me about volcanoes now"
    idf = {"please": 0.01, "tell": 0.01, "me": 0.01, "about": 0.01, "now": 0.01}

    assert similarity("x y mortgages", "mortgages x y", idf=idf) == 1.0
    assert similarity(one, other, idf=idf) <= similarity(one, other)
