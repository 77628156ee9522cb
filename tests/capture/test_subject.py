import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture import subject as subjects
from feedbackloop.capture.subject import Subject, asks_otherwise, facts, is_open, shared
from feedbackloop.capture.tongues import tongues
from feedbackloop.capture.words import known_words

KNOWN = known_words()


def subject(said: str, other: str = "") -> Subject:
    """What a turn is about, in its own language and that of another."""
    return subjects.subject(said, tongues(said, other, KNOWN))


def is_other_subject(one: str, other: str, *, strictly: bool = False) -> bool:
    """Compare two turns as retry detection does."""
    return subjects.is_other_subject(subject(one, other), subject(other, one), strictly=strictly)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the capital of France?", "What is the capital of Spain?"),
        ("What is 17 * 23?", "What is 18 * 41?"),
        ("Weather in Oslo on Monday", "Weather in Rome on Friday"),
        ("Was ist die Hauptstadt von Peru?", "Was ist die Hauptstadt von Chile?"),
        ("法国的首都是什么", "德国的首都是什么"),
        ("What is 12 + 9?", "Tell me 12 + 19, please"),
        ("Translate to Dutch: The train is late.", "Translate to Dutch: The bus is early."),
        ("Chi ha dipinto la Gioconda?", "Chi ha dipinto l'Urlo?"),
    ],
)
def test_another_subject_in_the_same_words_is_recognised(one: str, other: str) -> None:
    """Quizzes, lookups and templates are the commonest prompts that only look like retries."""
    assert is_other_subject(one, other)


def test_where_only_likeness_speaks_any_exchanged_word_counts() -> None:
    """Two first turns of a person are two wishes, unless they are nearly the same words."""
    one, other = "Teach me the capital of Peru", "Quick: the capital of Chile?"

    assert is_other_subject(one, other, strictly=True)
    assert not is_other_subject(one, "Teach me about the capital of Peru", strictly=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I undo it?", "How can I undo it?"),
        ("How do I install Pyhton?", "How do I install Python?"),
        ("Explain recursion simply", "Explain recursion in short"),
        ("Which beaches are quiet?", "Which beaches are quiet in September?"),
        ("What is DNS?", "What is DNS?"),
        ("Sort the list [30, 1]", "Sort the list [30, 1] in Go 1.22"),
        ("Kündige meinen Vertrag", "Kündige meinen Handyvertrag"),
    ],
)
def test_a_second_try_is_no_other_subject(one: str, other: str) -> None:
    """Function words, spelling and manner change from try to try; so do additions."""
    assert not is_other_subject(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who was Ada Lovelace?", "When was Ada Lovelace born?"),
        ("How do I bleed a radiator?", "How often should a radiator be bled?"),
        ("Was macht ein Notar?", "Wie viel verdient ein Notar?"),
        ("东京在哪里?", "东京有多少人?"),
    ],
)
def test_another_question_about_the_same_thing_asks_otherwise(one: str, other: str) -> None:
    """A follow-up repeats the nouns, and so does a rephrasing; the question word tells."""
    languages = tongues(other, one, KNOWN)

    assert asks_otherwise(facts(one, languages), facts(other, languages))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Why do cats purr?", "What makes a cat purr?"),
        ("Combien coûte un passeport ?", "Quel est le prix d'un passeport ?"),
        ("How long does it keep?", "For how many days does it keep?"),
        ("How do I change my password?", "Where can I change my password?"),
    ],
)
def test_the_same_question_in_other_question_words_does_not(one: str, other: str) -> None:
    """A price is an amount, and a reason answers why."""
    languages = tongues(other, one, KNOWN)

    assert not asks_otherwise(facts(one, languages), facts(other, languages))


@pytest.mark.parametrize(
    ("said", "answered_by_yes"),
    [
        ("does basil need shade", True),
        ("which basil needs shade", False),
        ("basil braucht schatten", True),
        ("罗勒需要浇水吗", True),
        ("罗勒怎么浇水", False),
    ],
)
def test_a_word_that_asks_openly_is_found_with_and_without_spaces(
    said: str, *, answered_by_yes: bool
) -> None:
    """In Chinese it stands amid the others."""
    assert is_open(said, tongues(said, "", KNOWN)[:1]) is not answered_by_yes


@given(st.text(max_size=200), st.text(max_size=200))
def test_what_turns_share_is_a_share(one: str, other: str) -> None:
    """Whatever people paste, thresholds mean the same."""
    found = shared(subject(one), subject(other), idf={})

    assert 0 <= found.content <= 1
    assert found.matched + len(found.gone) == len(subject(one).content)
    assert shared(subject(one), subject(one), idf={}).gone == ()


def test_a_rare_word_can_weigh_more() -> None:
    """In an app about cars, "car" says nothing."""
    one, other = subject("fix my car radio"), subject("sell my car boat")

    plain = shared(one, other, idf={}).content
    weighed = shared(one, other, idf={"car": 0.1}).content

    assert weighed < plain
