import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.material import brings_text, instruction, is_other_material

OTHER = [
    ("Translate to Italian: The meeting is at noon.", "Translate to Italian: Bring your laptop."),
    ("Classify the ticket: 'I was charged twice.'", "Classify the ticket: 'The app crashes.'"),
    ("Fix the spelling\nteh cat sat", "Fix the spelling\nwe was late"),
    ("Say 'see you soon' in French", "Say 'happy birthday' in French"),
    (
        "I was charged twice.\n\nSum this up in 5 words",
        "The app is slow.\n\nSum this up in 5 words",
    ),
    ("Name the mood. The food was cold.", "Name the mood. Lovely staff!"),
    ("翻译成英文:今天下雨了", "翻译成英文:请带上你的电脑"),
]
SAME = [
    ("Translate to Italian: The meeting is at noon.", "Translate to Italian: The meeting is at 1."),
    ("Translate to Italian: good morning", "Translate to Italian: Good morning, dear colleagues!"),
    ("Translate: teh meetnig is at noon", "Translate: the meeting is at noon"),
    ("How do I make a pizza?", "How do I make a pizza without an oven?"),
    ("What is the capital of Peru?", "What is the capital of Chile?"),  # told by its words
    ("Explain the tides.", "Write a poem."),
]


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_one_instruction_over_two_materials_is_two_wishes(one: str, other: str) -> None:
    """Most traffic of apps is one instruction and many texts."""
    assert is_other_material(one, other)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_mended_material_and_a_changed_instruction_are_no_other_material(
    one: str, other: str
) -> None:
    """Whoever mends what they pasted wants the same once more."""
    assert not is_other_material(one, other)


_words = st.text(alphabet="ab:\n'\" .", max_size=30)


@given(_words, _words)
def test_the_order_of_two_turns_does_not_matter(one: str, other: str) -> None:
    """Which of two tickets came first says nothing of either."""
    assert is_other_material(one, other) == is_other_material(other, one)


@given(st.text(max_size=200))
def test_a_turn_is_not_about_other_material_than_itself(one: str) -> None:
    """The same prompt once more is a retry, whatever it holds."""
    assert not is_other_material(one, one)


@pytest.mark.parametrize(
    ("one", "other", "brings"),
    [
        ("Is this opening good: 'It was dark.'", "Now: 'It was a cold night in May.'", True),
        ("Reply to this mail", 'next: "where is my parcel, please"', True),
        ("Fix: 'we was late for the bus'", "I said fix 'we was late for the bus'", False),
        ("what does 'cold turkey' mean", "where does 'cold turkey' come from", False),
        ("how do i stop my dog's barking", "what's my dog's reason to bark so much", False),
    ],
)
def test_a_text_that_is_quoted_for_the_first_time_is_to_be_worked_on(
    one: str, other: str, *, brings: bool
) -> None:
    """A term in quotes is what a question is about; a sentence is material."""
    assert brings_text(one, other) is brings


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_text_that_was_there_before_is_not_brought(one: str, text: str) -> None:
    """Whoever asks again quotes what was quoted."""
    assert not brings_text(f"{one} {text}", text) or text not in f"{one} {text}"


PASTED = "We were late for the bus and missed the boat"


@pytest.mark.parametrize(
    ("one", "other", "left"),
    [
        (f"Put this into French: {PASTED}", "french please, not latin", "Put this into French: "),
        (f"Put this into French\n{PASTED}", "in french", "Put this into French\n"),
        (f"Put '{PASTED}' into French", "in french", "Put   into French"),
        (f"Put this into French: {PASTED}", f"Put this into Greek: {PASTED}", None),
        (
            f"Put this into French: {PASTED}",
            "Put this into French: the boat left when we came",
            None,
        ),
        ("Put this into French: we are late", "in french", None),
        ("what does 'cold turkey' mean", "its meaning", None),
        (f"Translate:{PASTED}", "translate", None),
    ],
)
def test_what_was_pasted_is_not_what_is_wanted(one: str, other: str, left: str | None) -> None:
    """Whoever asks again does not paste again, unless for another wish."""
    assert instruction(one, other) == (one if left is None else left)


@given(st.text(max_size=120), st.text(max_size=60))
def test_an_instruction_is_never_empty_nor_longer_than_its_turn(one: str, other: str) -> None:
    """What is left can be compared."""
    left = instruction(one, other)

    assert left == one or (len(left) <= len(one) and len(left.split()) >= 2)
