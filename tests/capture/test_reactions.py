"""What single turns say of an answer, each a kind of turn that people who never saw us wrote."""

from typing import Any

import pytest

from feedbackloop.capture.retries import Implication, Implied, judge
from feedbackloop.events import Outcome, RetryKind
from tests.capture.talks import sketched, talk

LONG = "The tyre was invented by John Boyd Dunlop in 1888 for his son's tricycle. " * 8
STOPPED: dict[str, Any] = {"outcome": Outcome.CLIENT_GONE, "finish_reason": None}


TEMPLATE = "You label support tickets. Answer with one of billing, bug, praise, other. " * 20


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
            "а теперь открытку стихами",  # noqa: RUF001  # Russian
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
        ("Write a haiku", "Snow falls.", "not bad, thanks", Implied.ACCEPTED),
        ("Write a haiku", "Snow falls.", "no thanks", Implied.NONE),
        ("Write a haiku", "Snow falls.", "no, thanks", Implied.NONE),
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


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Translate to Italian: It rains.", "Translate to Italian: Please bring your laptop."),
        (f"{TEMPLATE}\nTicket: I was charged twice", f"{TEMPLATE}\nTicket: The app crashes"),
        (f"{TEMPLATE}I paid twice. {TEMPLATE}", f"{TEMPLATE}The app crashes. {TEMPLATE}"),
    ],
)
def test_one_instruction_over_other_material_is_a_new_wish(first: str, second: str) -> None:
    """An app's template is most of each of its prompts, and no prompt repeats another."""
    places = [said(first, "An answer.", second, replacing=replacing) for replacing in (True, False)]

    assert {(one.implied, one.kind) for one in places} == {(Implied.NONE, None)}


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("git remove file", "git remove file from tracking but keep it on disk", RetryKind.EDIT),
        ("recette crêpes", "une recette de crêpes pour 4, sans repos", RetryKind.EDIT),
        ("git remove file", "git rename branch on the server and here", None),
        ("weather oslo", "hotels by the sea in bergen for two", None),
    ],
)
def test_a_short_turn_that_was_made_a_brief_was_edited(
    first: str, second: str, kind: RetryKind | None
) -> None:
    """Three words left open what was wanted; the second try keeps them and says it."""
    assert said(first, "It depends.", second, replacing=True).kind is kind


def test_the_next_sentence_to_be_mended_is_no_objection() -> None:
    """Said alone, "correct this" is one."""
    mend, lament = "Correct this: i has a dog", "Correct this: they was late"

    assert said(mend, "I have a dog.", lament).implied is Implied.NONE
    assert said(mend, "I have dog.", "Correct this").kind is RetryKind.CORRECTION


def test_a_long_prompt_once_more_is_a_retry() -> None:
    """All of it is compared, though only its ends are kept."""
    ticket = f"{TEMPLATE}\nTicket: I was charged twice"

    assert said(ticket, "bug", ticket, replacing=True).kind is RetryKind.REGENERATE


def test_another_picture_is_another_wish() -> None:
    """Pictures of one camera begin with the same bytes."""
    first, second = (
        [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:," + "A" * 2000 + end}},
                    {"type": "text", "text": "What is this?"},
                ],
            }
        ]
        for end in ("B" * 2000, "C" * 2000)
    )

    found = judge(sketched("c1", first), sketched("c2", second, at=20))

    assert found is not None
    assert (found.implied, found.reason) == (Implied.NONE, "other_subject")


@pytest.mark.parametrize(
    ("parameters", "implied"),
    [
        ({"temperature": 0, "max_tokens": 1}, Implied.NONE),
        ({"temperature": 0, "max_completion_tokens": 5}, Implied.NONE),
        ({"temperature": 0, "seed": 7}, Implied.NONE),
        ({"temperature": 0, "max_tokens": 500}, Implied.REJECTED),
        ({"temperature": 0.7, "seed": 7}, Implied.REJECTED),
        ({"temperature": 0.7, "max_tokens": 5}, Implied.REJECTED),
    ],
)
def test_a_probe_is_no_persons_retry(parameters: dict[str, Any], implied: Implied) -> None:
    """Health checks and benchmarks ask the same again, of a model that shall not vary."""
    first = sketched("c1", talk("ping"), parameters=parameters)
    found = judge(first, sketched("c2", talk("ping"), "Pong!", at=60, parameters=parameters))

    assert found is not None
    assert found.implied is implied


@pytest.mark.parametrize(
    ("turns", "hours", "kind"),
    [
        (["Write a good-morning message."], 5, RetryKind.REGENERATE),
        (["Write a good-morning message."], 24, None),
        (["Hi", "Hello!", "Write a good-morning message."], 24, RetryKind.REGENERATE),
    ],
)
def test_the_same_first_turn_on_another_day_is_another_talk(
    turns: list[str], hours: float, kind: RetryKind | None
) -> None:
    """Some things people ask every morning; a talk that they go back to shows by its turns."""
    first, second = sketched("c1", talk(*turns)), sketched("c2", talk(*turns), at=3600 * hours)

    found = judge(first, second)

    assert found is not None
    assert found.kind is kind


@pytest.mark.parametrize("text", ["鸡蛋是人类最常食用的食物之一。", "エクセルは表計算ソフトです。"])
def test_what_was_shown_is_counted_where_spaces_divide_no_words(text: str) -> None:
    """A hundred characters of Chinese are a paragraph, and take a while to read."""
    shown = [sketched("c1", talk("Hi"), text * times, **STOPPED).shown_tokens for times in (2, 8)]

    assert shown[0] < 30 < shown[1]
