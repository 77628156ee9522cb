"""What single turns say of an answer, each a kind of turn that people who never saw us wrote."""

from typing import Any

import pytest

from feedbackloop.capture.retries import Implication, Implied, judge
from feedbackloop.events import Outcome, RetryKind
from tests.capture.talks import sketched, talk

LONG = "The tyre was invented by John Boyd Dunlop in 1888 for his son's tricycle. " * 8
STOPPED: dict[str, Any] = {"outcome": Outcome.CLIENT_GONE, "finish_reason": None}


def said(
    first: str, answer: str, second: str, *, replacing: bool = False, **changed: Any
) -> Implication:
    """Judge a turn that goes on from an answer, or stands in place of the one before."""
    later = talk(second) if replacing else talk(first, answer, second)
    found = judge(sketched("c1", talk(first), answer, **changed), sketched("c2", later, at=20))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("first", "answer", "second"),
    [
        ("what year did the wall fall", "It fell in 1991.", "no it was 1989"),
        ("wie viel wiegen 2 Tassen Mehl?", "Etwa 500 g.", "nee das ist zu viel, 250 g"),
        ("hoeveel inwoners heeft Gent?", "Een miljoen.", "nee het zijn er 270.000"),
        ("quand est tombé le mur ?", "En 1991.", "non c'était en 1989"),
        ("Name three apes", "Gorilla, lemur, gibbon.", "no those are not all apes"),
    ],
)
def test_a_no_may_lack_its_comma(first: str, answer: str, second: str) -> None:
    """People type as they speak."""
    assert said(first, answer, second).kind is RetryKind.CORRECTION


@pytest.mark.parametrize(
    ("first", "answer", "second", "kind"),
    [
        (
            "Suggest a vegan cake",
            "How about a sponge with eggs and butter?",
            "eggs arent vegan",
            RetryKind.CORRECTION,
        ),
        (
            "Translate 'see you on Tuesday' into French",
            "À jeudi !",
            "hmm jeudi is thursday",
            RetryKind.CORRECTION,
        ),
        (
            "My flight from Manchester was cancelled, what are my rights?",
            "Under the rules of the US you get a refund.",
            "Manchester in the UK, so those aren't the rules that apply to me",
            RetryKind.CORRECTION,
        ),
        ("Suggest a cake", "How about a sponge with eggs?", "I'm not vegan", None),
        ("Suggest a cake", "A sponge.", "the sponge, is it vegan?", None),
        ("Suggest a drink", "A tea from Assam.", "my kettle is broken", None),
    ],
)
def test_the_contrary_can_be_stated_without_a_no(
    first: str, answer: str, second: str, kind: RetryKind | None
) -> None:
    """Whoever knows better says how it is; whoever speaks of themselves does not."""
    assert said(first, answer, second).kind is kind


@pytest.mark.parametrize(
    ("first", "answer", "second"),
    [
        (
            "Give me 3 true/false questions about volcanoes",
            "1. Lava is cold. 2. Mount Fuji is in China.",
            "now the answer key, with an explanation for the ones that are false",
        ),
        ("quiz me, true or false, about animals", "True or false: frogs can fly.", "false"),
        (
            "Play the dragon guarding the gate. I'm the knight.",
            "HALT, little knight!",
            "No! You are mistaken, beast, I do not fear you!",
        ),
        (
            "When was the Eiffel Tower built?",
            "Between 1887 and 1889.",
            "huh, my teacher told us 1901, she was wrong then",
        ),
        (
            "Напиши открытку",  # in Russian one word is "and" and "but"
            "Пусть будет тепло!",
            "а теперь открытку стихами",  # noqa: RUF001
        ),
    ],
)
def test_a_word_of_judgement_may_judge_something_else(first: str, answer: str, second: str) -> None:
    """What a talk is about, what a game asks for and what others said is no word on the answer."""
    assert said(first, answer, second).implied is Implied.NONE


@pytest.mark.parametrize(
    ("first", "answer", "second", "implied"),
    [
        (
            "help me write something for my teacher",
            "Is it a card or a speech?",
            "a thank you card, she taught me maths",
            Implied.NONE,
        ),
        (
            "What do you say in Korean when you get a gift?",
            "Gamsahamnida.",
            "and how do I say thank you to a close friend?",
            Implied.NONE,
        ),
        ("Capital of Peru?", "Lima.", "oh nice thank you", Implied.ACCEPTED),
        ("Which bus?", "The 7. Is that all?", "Thank you, yes", Implied.ACCEPTED),
    ],
)
def test_thanks_may_be_what_is_asked_for(
    first: str, answer: str, second: str, implied: Implied
) -> None:
    """Cards, letters and phrase books are full of them."""
    assert said(first, answer, second).implied is implied


@pytest.mark.parametrize(
    ("second", "implied"),
    [
        ("oops hit stop by accident, please carry on", Implied.NONE),
        ("perdón, le di a parar sin querer, sigue por favor", Implied.NONE),
        ("just the steps please", Implied.REJECTED),
        ("That's not what I asked", Implied.REJECTED),
    ],
)
def test_a_stop_counts_unless_the_person_wants_the_rest(second: str, implied: Implied) -> None:
    """A finger slips; whoever says anything else had seen enough, in whatever words."""
    found = said("how do i change a tyre", LONG, second, **STOPPED)

    assert found.implied is implied
    assert found.kind in (None, RetryKind.STOPPED)
