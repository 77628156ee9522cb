from typing import Any

import pytest

from feedbackloop.capture.retries import THANKED, Implied, event, judge
from feedbackloop.events import Outcome, OutcomeReported, PromptRetried, RetryKind
from tests.capture.asking_again import LONG, PIZZA, react, replied, verdict
from tests.capture.talks import ANN, sketched, talk


def test_the_same_prompt_once_more_is_a_rejection() -> None:
    """The button under the answer says "regenerate", and the request says it without words."""
    found = react(talk(PIZZA), talk(PIZZA))

    assert verdict(found) == (Implied.REJECTED, RetryKind.REGENERATE)


def test_regenerating_is_noticed_however_late() -> None:
    """People come back after lunch; the same words cannot be meant otherwise."""
    found = react(talk(PIZZA), talk(PIZZA), after=7200)

    assert verdict(found) == (Implied.REJECTED, RetryKind.REGENERATE)


def test_a_turn_that_was_edited_is_a_rejection() -> None:
    """Nobody rewrites a question whose answer helped."""
    before = ["Hi", "Hello!"]

    found = react(talk(*before, PIZZA), talk(*before, PIZZA + " Without an oven."), after=4000)

    assert verdict(found) == (Implied.REJECTED, RetryKind.EDIT)


def test_another_question_at_the_same_place_is_no_edit() -> None:
    """A tab that was left open and used for something else."""
    before = ["Hi", "Hello!"]

    found = react(talk(*before, PIZZA), talk(*before, "Explain the tides to me"))

    assert verdict(found) == (Implied.NONE, None)


def test_a_first_turn_is_edited_only_soon() -> None:
    """Every talk of a person begins at the same place; after a while it is a new talk."""
    soon = react(talk(PIZZA), talk("How can I make pizza at home?"), after=60)
    late = react(talk(PIZZA), talk("How can I make pizza at home?"), after=4000)

    assert verdict(soon) == (Implied.REJECTED, RetryKind.EDIT)
    assert verdict(late) == (Implied.NONE, None)


@pytest.mark.parametrize(
    ("first", "second", "after", "expected"),
    [
        (PIZZA, PIZZA + " Without an oven.", 4000, RetryKind.EDIT),
        (PIZZA, "Quick: " + PIZZA, 4000, RetryKind.EDIT),
        (
            "how much can i put in a savings plan",
            "how much can i put in a british savings plan for shares in one tax year",
            4000,
            RetryKind.EDIT,
        ),
        (PIZZA, PIZZA + " Without an oven.", 30_000, None),
        ("Make a pizza", "Make a pizza without an oven", 4000, None),
        (PIZZA, "How do I make a good pizza in school?", 4000, None),
    ],
)
def test_a_first_turn_that_was_copied_is_edited_however_late(
    first: str, second: str, after: float, expected: RetryKind | None
) -> None:
    """Nobody types eight words again as they were: an old talk was opened, and its turn mended."""
    found = react(talk(first), talk(second), after=after)

    assert found is not None
    assert found.kind is expected


def test_a_first_turn_of_another_talk_is_edited_only_in_nearly_the_same_words() -> None:
    """People ask about many things in an evening, and often in like words."""
    first, other = talk("Teach me the capital of Peru"), talk("Quick: the capital of Chile?")
    mended = talk("Teach me about the capital of Peru")
    elsewhere: dict[str, Any] = {"conversation": "8877665544332211"}

    assert verdict(react(first, other, **elsewhere)) == (Implied.NONE, None)
    assert verdict(react(first, mended, **elsewhere)) == (Implied.REJECTED, RetryKind.EDIT)


def test_the_question_in_other_words_is_a_rejection() -> None:
    """Hassan et al.: a similar query within minutes implies dissatisfaction; not the next day."""
    soon, late = (replied("How can I make pizza at home?", after=s) for s in (60, 21_601))

    assert verdict(soon) == (Implied.REJECTED, RetryKind.REPHRASE)
    assert verdict(late) == (Implied.NONE, None)


@pytest.mark.parametrize(
    ("turn", "expected", "reason"),
    [
        ("That's not what I asked", Implied.REJECTED, "correction"),
        ("No.", Implied.REJECTED, "correction"),
        ("Thanks, but you forgot the cheese", Implied.REJECTED, "correction"),
        ("Thanks!", Implied.ACCEPTED, "thanks"),
        ("Perfect. And a calzone?", Implied.ACCEPTED, "thanks"),
        ("Perfect, I'll make it shorter", Implied.ACCEPTED, "thanks"),
        ("Lovely. Now a shorter one", Implied.NONE, "constraint"),
        ("That is perfect bread, not pizza", Implied.REJECTED, "correction"),
        ("It's still a calzone", Implied.REJECTED, "correction"),
        ("Where is the pizza now?", Implied.NONE, "new_request"),
        ("Give me another one", Implied.NONE, "variety"),
        ("How do I make a lasagne at home?", Implied.NONE, "new_request"),
        ("How do I make a pizza at home step by step?", Implied.NONE, "constraint"),
        ("When was pizza first made at home?", Implied.NONE, "new_request"),
        ("And how do I make a pizza at school?", Implied.NONE, "new_request"),
        ("continue", Implied.NONE, "go_on"),
        ("No, thanks", Implied.NONE, "new_request"),
        ("Which flour is best?", Implied.NONE, "new_request"),
    ],
)
def test_what_a_person_says_next_is_read(turn: str, expected: Implied, reason: str) -> None:
    """The clearest words count first; what is not clear is not counted."""
    found = replied(turn)

    assert found is not None
    assert (found.implied, found.reason) == (expected, reason)


def test_no_after_a_question_is_an_answer() -> None:
    """The assistant offered something, and the person declined."""
    found = replied("No, just the dough", answer="Use flour. Shall I add a sauce?")

    assert found is not None
    assert (found.implied, found.reason) == (Implied.NONE, "answer")


def test_an_answer_that_was_stopped_late_is_a_rejection() -> None:
    """They saw enough to know."""
    stopped = {"outcome": Outcome.CLIENT_GONE, "finish_reason": None}

    found = react(talk(PIZZA), talk(PIZZA), answer=LONG, earlier=stopped)
    moved_on = react(
        talk(PIZZA), talk(PIZZA, LONG, "Explain the tides"), answer=LONG, earlier=stopped
    )

    assert verdict(found) == verdict(moved_on) == (Implied.REJECTED, RetryKind.STOPPED)


@pytest.mark.parametrize(
    "sent_back",
    [
        "**Knead** the dough,   then rest it.",
        "Knead the dough,\nthen rest it.",
        "<think>flour?</think>Knead the dough, then rest it.",
    ],
)
def test_an_answer_that_the_client_reformatted_is_still_that_answer(sent_back: str) -> None:
    """Clients strip markup, join lines and drop thoughts before they send a talk back."""
    answer = "Knead the dough, then rest it."

    found = react(talk(PIZZA), talk(PIZZA, sent_back, "That's wrong."), answer=answer)

    assert verdict(found) == (Implied.REJECTED, RetryKind.CORRECTION)


def test_a_talk_whose_beginning_was_dropped_goes_on_all_the_same() -> None:
    """Clients keep the last messages only, once a talk grows too long for the context."""
    first = talk("Hi", "Hello!", PIZZA)
    second = talk(PIZZA, "Buy one.", "That's wrong.")

    assert verdict(react(first, second)) == (Implied.REJECTED, RetryKind.CORRECTION)


def test_a_stop_outranks_what_the_person_wrote_instead() -> None:
    """They saw enough, and said so by the button; the words only say what they want."""
    stopped = {"outcome": Outcome.CLIENT_GONE, "finish_reason": None}

    edited = react(talk(PIZZA), talk(PIZZA + " Vegan!"), answer=LONG, earlier=stopped)

    assert verdict(edited) == (Implied.REJECTED, RetryKind.STOPPED)


def test_a_wish_for_the_rest_of_an_answer_is_no_rejection() -> None:
    """Whoever says "continue" wants more of it."""
    stopped = {"outcome": Outcome.CLIENT_GONE, "finish_reason": None}

    found = react(talk(PIZZA), talk(PIZZA, LONG, "continue"), answer=LONG, earlier=stopped)

    assert verdict(found) == (Implied.NONE, None)


@pytest.mark.parametrize(
    ("turn", "answer", "expected"),
    [
        ("I asked about pizza, not pasta", "Pasta is easy.", Implied.REJECTED),
        ("But pasta is no pizza", "Pasta is easy.", Implied.REJECTED),
        ("My oven is not electric", "Use an electric oven.", Implied.NONE),
        ("Bake it without an oven", "Use an oven.", Implied.NONE),
    ],
)
def test_a_statement_may_speak_against_the_answer(
    turn: str, answer: str, expected: Implied
) -> None:
    """People correct by saying how things are; what they say of themselves is news."""
    found = replied(turn, answer=answer)

    assert found is not None
    assert found.implied is expected


def test_prompts_that_have_nothing_in_common_are_not_judged() -> None:
    """The word "wrong" in another talk is about another answer."""
    assert react(talk(PIZZA), talk("Hi", "Hello!", "That's wrong.")) is None


def test_a_rejection_becomes_a_fact_about_the_first_completion() -> None:
    """The label goes to the answer that failed, and the pair to both."""
    first, second = sketched("c1", talk(PIZZA)), sketched("c2", talk(PIZZA), at=21)
    found = judge(first, second)
    assert found is not None

    fact = event(first, second, found)

    assert isinstance(fact, PromptRetried)
    assert (fact.completion_id, fact.retry_id, fact.user) == ("c1", "c2", ANN)
    assert (fact.kind, fact.similarity, fact.gap_seconds) == (RetryKind.REGENERATE, 1.0, 20.0)
    assert fact.event_id == getattr(event(first, second, found), "event_id", None)


def test_thanks_become_an_outcome() -> None:
    """Accepted answers are half of every pair."""
    first = sketched("c1", talk(PIZZA), "Buy one.")
    second = sketched("c2", talk(PIZZA, "Buy one.", "Thanks!"), at=21)
    found = judge(first, second)
    assert found is not None

    fact = event(first, second, found)

    assert isinstance(fact, OutcomeReported)
    assert (fact.completion_id, fact.outcome) == ("c1", THANKED)
