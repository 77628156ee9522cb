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
        ("How do I make a lasagne at home?", Implied.NONE, "new_request"),
        ("How do I make a pizza at home step by step?", Implied.NONE, "constraint"),
        ("When was pizza first made at home?", Implied.NONE, "new_request"),
        ("And how do I make a pizza at home?", Implied.NONE, "new_request"),
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
    crowds = {
        "crowd": [Crowd(askers=201), Crowd(times=6)],
        "machine": [Crowd(pace=31)],
    }

    found = {
        reason: [judge(first, second, crowd=crowd) for crowd in some]
        for reason, some in crowds.items()
    }

    assert all(one and one.reason == reason for reason, some in found.items() for one in some)


def test_the_pace_of_a_machine_can_be_allowed() -> None:
    """A replay of old traffic runs faster than people do."""
    first, second = sketched("c1", talk(PIZZA)), sketched("c2", talk(PIZZA), at=20)

    found = judge(first, second, crowd=Crowd(pace=1000), rules=Rules(max_per_minute=0))

    assert verdict(found) == (Implied.REJECTED, RetryKind.REGENERATE)


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


def test_a_clock_in_the_instructions_does_not_hide_a_retry() -> None:
    """Many apps write the time into the system prompt, and so change it every minute."""
    morning, later = "Be brief. It is 10:07 now.", "Be brief. It is 10:08 now."
    wrong = talk(PIZZA, "Buy one.", "That's wrong.", system=later)

    again = react(talk(PIZZA, system=morning), talk(PIZZA, system=later))
    objection = react(talk(PIZZA, system=morning), wrong)

    assert verdict(again) == (Implied.REJECTED, RetryKind.REGENERATE)
    assert verdict(objection) == (Implied.REJECTED, RetryKind.CORRECTION)


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


REACTIONS = st.builds(
    lambda turns, after, changed: (turns, after, changed),
    turns=st.sampled_from(
        [
            (PIZZA,),
            (PIZZA + " Without an oven.",),
            ("How can I make pizza at home?",),
            (PIZZA, "Buy one.", "How can I make pizza at home?"),
            (PIZZA, "Buy one.", "That's wrong."),
            (PIZZA, "Buy one.", "Thanks!"),
            (PIZZA, "Buy one.", "Explain the tides"),
        ]
    ),
    after=st.floats(0, 1000),
    changed=st.sampled_from([{}, *(EXCLUDED[name] for name in sorted(EXCLUDED))]),
)


@given(REACTIONS, st.floats(0, 1), st.floats(0, 1))
def test_a_stricter_threshold_never_finds_more(
    reaction: tuple[tuple[str, ...], float, dict[str, Any]], one: float, other: float
) -> None:
    """Operators turn thresholds up to get fewer rejections, and must get fewer."""
    turns, after, changed = reaction
    loose, strict = sorted((one, other))
    first, second = asked(turns, after, changed)

    lax, firm = (
        judge(first, second, rules=Rules(rephrase_similarity=limit, edit_similarity=limit))
        for limit in (loose, strict)
    )

    assert (lax is None) == (firm is None)
    if firm is not None and firm.kind in (RetryKind.EDIT, RetryKind.REPHRASE):
        assert lax is not None
        assert lax.implied is Implied.REJECTED


@given(REACTIONS, st.floats(0, 500), st.floats(0, 500))
def test_a_shorter_wait_never_finds_more(
    reaction: tuple[tuple[str, ...], float, dict[str, Any]], one: float, other: float
) -> None:
    """The two limits on time close from both sides."""
    turns, after, changed = reaction
    short, long = sorted((one, other))
    first, second = asked(turns, after, changed)

    narrow = judge(first, second, rules=Rules(max_gap_seconds=short, min_gap_seconds=1))
    wide = judge(first, second, rules=Rules(max_gap_seconds=long, min_gap_seconds=0))

    if narrow is not None and narrow.implied is not Implied.NONE:
        assert wide is not None
        assert wide.implied is narrow.implied


@given(REACTIONS)
def test_judging_is_a_function_of_the_two_completions(
    reaction: tuple[tuple[str, ...], float, dict[str, Any]],
) -> None:
    """A replica, a replay and next month's labelling must say the same."""
    turns, after, changed = reaction
    first, second = asked(turns, after, changed)

    found, again = judge(first, second), judge(first, second)

    assert found == again
    assert judge(first, second, crowd=Crowd(askers=1, times=1, pace=1)) == found


@given(REACTIONS, st.sampled_from(sorted(EXCLUDED.keys() - {"same_answer"})))
def test_no_words_and_no_likeness_outrank_an_exclusion(
    reaction: tuple[tuple[str, ...], float, dict[str, Any]], reason: str
) -> None:
    """An exclusion is a fact about the requests; what the words say is our guess."""
    turns, after, _ = reaction
    first, second = asked(turns, after, EXCLUDED[reason])

    found = judge(first, second)

    assert found is None or found.implied is Implied.NONE


def asked(turns: tuple[str, ...], after: float, changed: dict[str, Any]) -> tuple[Sketch, Sketch]:
    """A question, and so many seconds later a talk that may react to its answer."""
    changed = dict(changed)
    earlier, answer = changed.pop("earlier", {}), changed.pop("answer", "Buy one.")
    after = min(after, changed.pop("after", after))
    return (
        sketched("c1", talk(PIZZA), answer, **earlier),
        sketched("c2", talk(*turns), at=1.0 + after, **changed),
    )
