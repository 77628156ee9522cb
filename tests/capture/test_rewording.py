import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.retries import Implied, judge
from feedbackloop.events import RetryKind
from tests.capture.talks import sketched, talk


def kind(first: str, answer: str, second: str) -> RetryKind | None:
    """What the next turn, half a minute after the answer, says of it."""
    found = judge(
        sketched("c1", talk(first), answer), sketched("c2", talk(first, answer, second), at=30)
    )
    assert found is not None
    return found.kind


ANEW = [
    (
        "how do i get rid of the blank page in word",
        "You can add a blank page through Insert.",
        "delete the empty page at the end of my word doc, how",
    ),
    (
        "quand partent les trains pour lyon le dimanche",
        "Lyon est la troisième ville de France.",
        "horaires sncf paris-lyon dimanche svp",
    ),
    (
        "warum startet mein raspberry nicht",
        "Der Raspberry Pi ist ein Einplatinencomputer.",
        "raspi bootet nicht, nur rote led an, woran kann das liegen",
    ),
    (
        "エクセルで重複を削除する方法は?",
        "エクセルは表計算ソフトです。",
        "エクセルの重複データを消すにはどうすればいいですか?",
    ),
]

NEW = {
    "something of the answer": (
        "how do i clean a cast iron pan",
        "Scrub the iron pan with salt.",
        "which salt removes burnt rice from an iron pan",
    ),
    "a pronoun": (
        "how do i remove rust from a cast iron pan",
        "Scrub.",
        "does soap hurt the iron pan when they are rusty",
    ),
    "yes or no": (
        "how do i apply for parental leave",
        "Tell your employer.",
        "parental leave for twins: is that longer",
    ),
    "a number": (
        "formula for the area of a round table",
        "Pi times the radius squared.",
        "area of a table with radius 40",
    ),
    "another fact": (
        "how do i plant a lemon tree outside",
        "Dig a hole.",
        "when do lemon trees bear fruit",
    ),
    "a name of two words": (
        "hiking trails near lake como",
        "The Greenway.",
        "which hotels by lake como allow dogs",
    ),
    "no longer a time": (
        "how long do i boil eggs for a salad",
        "Eight minutes.",
        "peel boiled eggs with a spoon without breaking the white",
    ),
    "one word only": ("best beer in munich", "Augustiner.", "hotels near munich airport"),
    "the same frame": (
        "how many calories are in a small banana",
        "About 90.",
        "how many calories are in a large apple",
    ),
    "a form": (
        "write a short poem about autumn leaves",
        "Leaves fall.",
        "write a long letter to my aunt about the autumn leaves here",
    ),
    "a quote": (
        "what does 'cold turkey' mean in english",
        "To stop at once.",
        "origin of cold turkey as an english idiom",
    ),
}


@pytest.mark.parametrize(("first", "answer", "second"), ANEW)
def test_the_question_in_other_words_throughout_is_a_rephrasing(
    first: str, answer: str, second: str
) -> None:
    """Whoever was not understood tries other words, and keeps what it is about."""
    assert kind(first, answer, second) is RetryKind.REPHRASE


@pytest.mark.parametrize("what", NEW)
def test_a_question_that_brings_something_of_its_own_is_new(what: str) -> None:
    """Most follow-up questions name the subject again; what they add tells them apart."""
    assert kind(*NEW[what]) is None


@given(
    st.lists(st.sampled_from(["tovaku", "limeso", "rabuni", "gopeka"]), min_size=1, max_size=6),
    st.lists(st.sampled_from(["zyrrit", "quendl", "haxxof", "jestum"]), min_size=1, max_size=6),
)
def test_turns_that_share_no_word_are_no_rephrasing(one: list[str], other: list[str]) -> None:
    """Without a model nothing shows that two words mean the same."""
    first, second = " ".join(one), " ".join(other)
    found = judge(
        sketched("c1", talk(first), "Yes."), sketched("c2", talk(first, "Yes.", second), at=30)
    )

    assert found is None or found.implied is Implied.NONE
