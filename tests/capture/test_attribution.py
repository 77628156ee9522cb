from datetime import timedelta
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.attribution import Attribution, implied
from feedbackloop.capture.retries import Rules
from feedbackloop.events import CompletionServed, Outcome, OutcomeReported, PromptRetried, RetryKind
from tests.capture.talks import ANN, BOB, served, talk

PIZZA = "How do I make a pizza at home?"
Fact = PromptRetried | OutcomeReported


def live(*completions: CompletionServed, rules: Rules | None = None) -> list[Fact]:
    """What the sidecar finds, served one by one."""
    attribution = Attribution(rules=rules) if rules else Attribution()
    found = (attribution.add(completion) for completion in completions)
    return [fact for fact in found if fact is not None]


def blamed(facts: list[Fact]) -> list[tuple[str, str]]:
    """Which completion each prompt reacts to: the earlier, the later."""
    return [(f.completion_id, f.retry_id) for f in facts if isinstance(f, PromptRetried)]


def test_each_try_is_about_the_one_before() -> None:
    """Three tries are two rejections; the last one may have been right."""
    facts = live(*(served(f"c{n}", talk(PIZZA), at=10 * n) for n in range(3)))

    assert blamed(facts) == [("c0", "c1"), ("c1", "c2")]


def test_regenerating_in_a_longer_talk_blames_the_answer_and_not_the_one_before() -> None:
    """The prompt continues an older answer too; that one was fine."""
    before = served("c1", talk("Hi"), "Hello!")
    first = served("c2", talk("Hi", "Hello!", PIZZA), at=10)
    again = served("c3", talk("Hi", "Hello!", PIZZA), at=20)

    facts = live(before, first, again)

    assert blamed(facts) == [("c2", "c3")]


def test_who_asks_again_what_was_not_answered_means_the_answer_before() -> None:
    """The sidecar died while the person asked a second time; there is no answer to blame."""
    first = served("c1", talk(PIZZA))
    lost = msgspec.structs.replace(
        served("c2", talk(PIZZA), at=10, took=0), replies=(), outcome=Outcome.CRASHED, status=0
    )
    again = served("c3", talk(PIZZA), at=20)

    assert blamed(live(first, lost, again)) == [("c1", "c2"), ("c1", "c3")]
    assert blamed(live(lost, again)) == []


def test_an_edit_blames_the_answer_that_it_replaces() -> None:
    """The edited turn follows the older answer as well."""
    before = served("c1", talk("Hi"), "Hello!")
    first = served("c2", talk("Hi", "Hello!", PIZZA), at=10)
    edited = served("c3", talk("Hi", "Hello!", PIZZA + " Without an oven."), at=20)

    facts = live(before, first, edited)

    assert blamed(facts) == [("c2", "c3")]
    assert [fact.kind for fact in facts if isinstance(fact, PromptRetried)] == [RetryKind.EDIT]


def test_a_new_question_at_the_same_place_may_still_object_to_the_answer_before() -> None:
    """They deleted their follow-up and wrote what they thought."""
    before = served("c1", talk("Hi"), "Go away!")
    first = served("c2", talk("Hi", "Go away!", PIZZA), at=10)
    objection = served("c3", talk("Hi", "Go away!", "That's wrong. Be polite."), at=20)

    facts = live(before, first, objection)

    assert blamed(facts) == [("c1", "c3")]


def test_talks_side_by_side_are_kept_apart() -> None:
    """One person has two tabs open and asks the first question again."""
    facts = live(
        served("c1", talk(PIZZA)),
        served("c2", talk("Explain the tides"), at=5),
        served("c3", talk(PIZZA), at=20),
    )

    assert blamed(facts) == [("c1", "c3")]


def test_the_same_words_of_two_people_are_two_questions() -> None:
    """Everybody begins with "Hi"."""
    facts = live(served("c1", talk("Hi"), user=ANN), served("c2", talk("Hi"), user=BOB, at=20))

    assert facts == []


def test_a_load_test_teaches_next_to_nothing() -> None:
    """A thousand identical prompts under one key are a machine's."""
    facts = live(*(served(f"c{n:02d}", talk(PIZZA), at=5 * n) for n in range(40)))

    assert len(facts) < 6


def test_a_prompt_of_very_many_people_teaches_nothing() -> None:
    """The example button of a public demo is pressed for fun."""
    people = [served(f"c{n}", talk(PIZZA), user=f"{n:032x}", at=n) for n in range(4)]
    again = served("again", talk(PIZZA), user=f"{0:032x}", at=30)

    few, many = live(*people, again), live(*people, again, rules=Rules(max_askers=3))

    assert blamed(few) == [("c0", "again")]
    assert many == []


def test_a_machine_is_known_by_its_pace() -> None:
    """A batch job under one key sends like prompts for hours, and nobody reads the answers."""
    jobs = [f"Classify the mood of ticket number {n}" for n in range(60)]

    facts = live(
        *(served(f"c{n:02d}", talk(job), at=1.5 * n, took=0.1) for n, job in enumerate(jobs))
    )

    assert facts == []


def test_what_is_seen_twice_is_one_fact() -> None:
    """After a crash the forwarder repeats itself, and must find what it found before."""
    first, second = served("c1", talk(PIZZA)), served("c2", talk(PIZZA), at=20)

    facts = live(first, second, first, second)

    assert len(facts) == 2
    assert facts[0] == facts[1]


def test_memory_is_bounded() -> None:
    """A sidecar runs for months."""
    attribution = Attribution(capacity_bytes=40_000)
    for number in range(100):
        attribution.add(served(f"c{number}", talk(f"What is {number}?"), at=number))

    forgotten = attribution.add(served("old", talk("What is 0?"), at=200))
    remembered = attribution.add(served("new", talk("What is 99?"), at=201))

    assert forgotten is None
    assert remembered is not None


PROMPTS = [
    talk(PIZZA),
    talk("How can I make pizza at home?"),
    talk("Hi"),
    talk("Hi", "An answer.", "That's wrong"),
    talk("Hi", "An answer.", "Thanks!"),
    talk("Hi", "An answer.", "Why?"),
    talk("Hi", "An answer.", "Why? Tell me."),
    talk(PIZZA, "An answer.", "How can I make pizza at home?"),
]
HISTORIES = st.lists(
    st.tuples(
        st.integers(0, len(PROMPTS) - 1),
        st.sampled_from([ANN, BOB]),
        st.integers(0, 60),
        st.integers(1, 5),
    ),
    max_size=12,
).map(
    lambda rows: [
        served(f"c{n:02d}", PROMPTS[prompt], user=who, at=at, took=took)
        for n, (prompt, who, at, took) in enumerate(rows)
    ]
)


@given(HISTORIES, st.randoms(use_true_random=False))
def test_labelling_finds_what_the_sidecar_found(
    history: list[CompletionServed], random: Random
) -> None:
    """One looks at each answer as it ends, the other at the whole log in any order."""
    in_order = sorted(history, key=lambda one: (one.ended_at, one.completion_id))
    random.shuffle(history)

    assert implied(history) == live(*in_order)


@given(HISTORIES)
def test_a_fact_is_about_an_answer_that_had_ended(history: list[CompletionServed]) -> None:
    """Nobody can be unhappy with what they have not read."""
    known = {completion.completion_id: completion for completion in history}

    for fact in implied(history):
        if isinstance(fact, PromptRetried):
            first, second = known[fact.completion_id], known[fact.retry_id]
            assert second.accepted_at - first.ended_at >= timedelta(seconds=1)
            assert (first.user, first.tenant) == (second.user, second.tenant)


@pytest.mark.parametrize("messages", [[], [{"role": "system", "content": "x"}]])
def test_a_prompt_without_a_turn_says_nothing(messages: list[dict[str, str]]) -> None:
    """vLLM refuses some of these; their records come by all the same."""
    facts = live(served("c1", list(messages)), served("c2", list(messages), at=20))

    assert facts == []
