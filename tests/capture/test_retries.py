from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.retries import (
    PRIORS,
    THANKED,
    Crowd,
    Implication,
    Implied,
    Rules,
    event,
    judge,
)
from feedbackloop.capture.sketch import Sketch
from feedbackloop.events import (
    Alias,
    JsonObject,
    Outcome,
    OutcomeReported,
    PromptRetried,
    RetryKind,
)
from tests.capture.talks import ANN, BOB, sketched, talk

PIZZA = "How do I make a pizza at home?"
LONG = "Knead the dough for ten minutes and let it rest. " * 12


def react(
    first: list[JsonObject],
    second: list[JsonObject],
    *,
    answer: str = "Buy one.",
    after: float = 20.0,
    **changed: Any,
) -> Implication | None:
    """Judge ``second``, asked so many seconds after the answer to ``first`` had ended."""
    earlier = changed.pop("earlier", {})
    return judge(
        sketched("c1", first, answer, **earlier),
        sketched("c2", second, at=1.0 + after, **changed),
    )


def verdict(found: Implication | None) -> tuple[Implied, RetryKind | None]:
    """What is implied, and by which kind."""
    assert found is not None
    return found.implied, found.kind


def replied(turn: str, *, after: float = 20.0, answer: str = "Buy one.") -> Implication | None:
    """Judge what a person says next."""
    return react(talk(PIZZA), talk(PIZZA, answer, turn), answer=answer, after=after)


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
    soon = react(talk(PIZZA), talk(PIZZA + " Without an oven."), after=60)
    late = react(talk(PIZZA), talk(PIZZA + " Without an oven."), after=4000)

    assert verdict(soon) == (Implied.REJECTED, RetryKind.EDIT)
    assert verdict(late) == (Implied.NONE, None)


def test_a_first_turn_of_another_talk_is_edited_only_in_nearly_the_same_words() -> None:
    """People ask about many things in an evening, and often in like words."""
    first, other = talk("Teach me the capital of Peru"), talk("Quick: the capital of Chile?")
    mended = talk("Teach me about the capital of Peru")
    elsewhere: dict[str, Any] = {"conversation": "8877665544332211"}

    assert verdict(react(first, other, **elsewhere)) == (Implied.NONE, None)
    assert verdict(react(first, mended, **elsewhere)) == (Implied.REJECTED, RetryKind.EDIT)


def test_the_question_in_other_words_is_a_rejection() -> None:
    """Hassan et al.: a similar query within five minutes implies dissatisfaction."""
    soon, late = (replied("How can I make pizza at home?", after=s) for s in (60, 301))

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
        ("Give me another one", Implied.NONE, "variety"),
        ("How do I make a lasagne at home?", Implied.NONE, "other_subject"),
        ("How do I make a pizza at home step by step?", Implied.NONE, "constraint"),
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


EXCLUDED: dict[str, dict[str, Any]] = {
    "failed": {"earlier": {"outcome": Outcome.UPSTREAM_FAILED}},
    "no_answer": {"earlier": {"status": 503, "body": {"error": {}}}},
    "not_read": {"earlier": {"outcome": Outcome.CLIENT_GONE}},
    "same_request": {
        "earlier": {"headers": {"idempotency-key": "k"}},
        "headers": {"idempotency-key": "k"},
    },
    "too_soon": {"after": 0.5},
    "several_choices": {"parameters": {"n": 2}},
    "cut_at_length": {"earlier": {"finish_reason": "length"}},
    "other_model": {"alias": Alias("other")},
    "other_person": {"user": BOB},
    "same_answer": {"parameters": {"temperature": 0}, "answer": "An answer."},
}


@pytest.mark.parametrize("reason", EXCLUDED)
@pytest.mark.parametrize("turns", [(PIZZA,), (PIZZA, "Hello", "And then?")])
def test_an_exclusion_outranks_an_identical_prompt(reason: str, turns: tuple[str, ...]) -> None:
    """Each of these looks exactly like a retry and says nothing about the answer."""
    found = react(talk(*turns), talk(*turns), **EXCLUDED[reason])

    assert found is not None
    assert (found.implied, found.reason) == (Implied.NONE, reason)


@pytest.mark.parametrize("reason", sorted(EXCLUDED.keys() - {"same_answer"}))
@pytest.mark.parametrize("turn", ["That's wrong.", "Thanks!", "How can I make pizza at home?"])
def test_an_exclusion_outranks_words(reason: str, turn: str) -> None:
    """Words after a cut or failed answer are about the cut or the failure."""
    changed = {"answer": "Buy one."} | EXCLUDED[reason]
    second = talk(PIZZA, str(changed["answer"]), turn)
    if reason == "no_answer":
        return

    found = react(talk(PIZZA), second, **changed)

    assert found is not None
    assert (found.implied, found.reason) == (Implied.NONE, reason)


def test_a_prompt_that_a_crowd_asks_is_nobodys_retry() -> None:
    """A load test, and the example button of a demo."""
    first, second = sketched("c1", talk(PIZZA)), sketched("c2", talk(PIZZA), at=20)

    shared = judge(first, second, crowd=Crowd(askers=201))
    hammered = judge(first, second, crowd=Crowd(times=6))

    assert shared is not None
    assert hammered is not None
    assert (shared.reason, hammered.reason) == ("crowd", "crowd")


def test_a_title_for_the_chat_is_the_apps_wish() -> None:
    """Chat apps ask for titles, tags and follow-ups on their own, again and again."""
    task = talk("### Task:\nGenerate a concise, 3-5 word title for the chat history.")
    inline = talk(PIZZA, "Buy one.", "Suggest 3 follow-up questions about this conversation")

    assert [one.reason for one in (react(task, task), react(talk(PIZZA), inline)) if one] == [
        "side_call",
        "side_call",
    ]


def test_a_title_that_a_person_wants_is_a_persons_wish() -> None:
    """Writers ask for titles too, and can be unhappy with them."""
    essay = talk("Write a title for my essay about bees")

    assert verdict(react(essay, essay)) == (Implied.REJECTED, RetryKind.REGENERATE)


def test_a_tools_result_is_no_word_of_the_person() -> None:
    """Agents call the model again after each tool: the person has not read a thing."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said: JsonObject = {"role": "assistant", "content": "", "tool_calls": [call]}
    result: JsonObject = {"role": "tool", "tool_call_id": "1", "content": "42"}
    body = {"choices": [{"index": 0, "message": said, "finish_reason": "tool_calls"}]}

    found = react(talk(PIZZA), [*talk(PIZZA), said, result], earlier={"body": body})

    assert found is not None
    assert (found.implied, found.reason) == (Implied.NONE, "not_spoken")


def test_other_instructions_make_another_prompt() -> None:
    """Developers try system prompts on one question; the answers are not to blame."""
    assert react(talk(PIZZA, system="Be brief."), talk(PIZZA, system="Be long.")) is None


def test_prompts_that_have_nothing_in_common_are_not_judged() -> None:
    """The word "wrong" in another talk is about another answer."""
    assert react(talk(PIZZA), talk("Hi", "Hello!", "That's wrong.")) is None


def test_the_demos_clock_may_run_faster() -> None:
    """Gaps are arguments: a demonstration plays an hour in a minute."""
    first, second = sketched("c1", talk(PIZZA)), sketched("c2", talk(PIZZA), at=1.01)

    usual, fast = judge(first, second), judge(first, second, rules=Rules(min_gap_seconds=0.0))

    assert verdict(usual) == (Implied.NONE, None)
    assert verdict(fast) == (Implied.REJECTED, RetryKind.REGENERATE)


def test_a_prompt_sent_before_the_answer_ended_is_no_reaction_to_it() -> None:
    """Even where no gap is asked for: nobody judged what they had not read."""
    first, second = sketched("c1", talk(PIZZA), took=10), sketched("c2", talk(PIZZA), at=5)

    found = judge(first, second, rules=Rules(min_gap_seconds=0.0))

    assert verdict(found) == (Implied.NONE, None)


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


TURNS = st.sampled_from(
    [PIZZA, "That's wrong", "Thanks", "another", "How can I make pizza at home", "Why?", ""]
)
SKETCHES = st.builds(
    lambda name, turns, at, took, outcome: sketched(
        name, talk(*turns), at=at, took=took, outcome=outcome
    ),
    name=st.sampled_from(["c1", "c2", "c3"]),
    turns=st.lists(TURNS, min_size=1, max_size=3),
    at=st.floats(0, 1000),
    took=st.floats(0, 30),
    outcome=st.sampled_from(Outcome),
)


@given(SKETCHES, SKETCHES)
def test_a_judgement_is_always_one_that_labels_understand(first: Sketch, second: Sketch) -> None:
    """Whatever two prompts hold, kinds have priors, and nothing implied is nothing made."""
    found = judge(first, second)

    if found is None:
        return
    assert (found.kind is not None) == (found.implied is Implied.REJECTED)
    assert found.confidence == (
        PRIORS[found.kind] if found.kind else (0.75 if found.implied is Implied.ACCEPTED else 0.5)
    )
    assert (event(first, second, found) is None) == (found.implied is Implied.NONE)
    assert 0 <= found.similarity <= 1
