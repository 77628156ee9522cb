"""What looks like a retry, and says nothing about the answer."""

import pytest

from feedbackloop.capture.retries import Crowd, Implied, Rules, judge
from feedbackloop.events import JsonObject, RetryKind
from tests.capture.asking_again import EXCLUDED, PIZZA, react, verdict
from tests.capture.talks import sketched, talk


@pytest.mark.parametrize("reason", EXCLUDED)
@pytest.mark.parametrize("turns", [(PIZZA,), (PIZZA, "Hello", "And then?")])
def test_an_exclusion_outranks_an_identical_prompt(reason: str, turns: tuple[str, ...]) -> None:
    """Each of these looks exactly like a retry and says nothing about the answer."""
    found = react(talk(*turns), talk(*turns), **EXCLUDED[reason])

    assert found is not None
    assert (found.implied, found.reason) == (Implied.NONE, reason)


@pytest.mark.parametrize("reason", sorted(EXCLUDED.keys() - {"same_answer", "not_read"}))
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
