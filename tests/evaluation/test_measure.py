"""Both policies are asked the same, and nothing is measured on fewer than was promised."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.dataset.rows import DpoRow, KtoRow, assistant
from feedbackloop.evaluation.measure import Scope, fingerprints, is_degenerate, measure, thin
from feedbackloop.evaluation.port import Generation
from feedbackloop.evaluation.suite import Expect, Header, Item, assemble
from feedbackloop.events import CompletionId
from tests.fakes import FakeEvaluator, FakePolicy

CANDIDATE, INCUMBENT = Path("candidate"), Path("incumbent")


def ask(text: str) -> tuple[dict[str, Any], ...]:
    return ({"role": "user", "content": text},)


def a_row(number: int = 0, *, text: str = "a b", unit: str = "ann", label: bool = True) -> KtoRow:
    return KtoRow(
        prompt=ask(f"question {number}"),
        completion=assistant(text),
        label=label,
        weight=1.0,
        confidence=1.0,
        completion_id=CompletionId(f"c{number}"),
        unit=unit,
        release="base",
        sources=("thumb",),
    )


def a_pair() -> DpoRow:
    return DpoRow(
        prompt=ask("question"),
        chosen=assistant("yes"),
        rejected=assistant("well maybe"),
        confidence=1.0,
        chosen_id=CompletionId("c1"),
        rejected_id=CompletionId("c2"),
        unit="ann",
        release="base",
        origin="retry",
    )


def likes(amount: float) -> FakePolicy:
    return FakePolicy(likes=lambda _prompt, _completion: amount)


def test_rows_are_scored_by_base_candidate_and_incumbent() -> None:
    """Two words at -1, -0.5 and -0.75 each; the end token counts among the tokens."""
    evaluator = FakeEvaluator({CANDIDATE: likes(-0.5), INCUMBENT: likes(-0.75)})

    found = measure(
        evaluator, candidate=CANDIDATE, incumbent=INCUMBENT, scope=Scope(rows=[a_row()])
    ).rows[0]

    assert (found.base_logp, found.candidate_logp, found.incumbent_logp) == (-2.0, -1.0, -1.5)
    assert found.tokens == 3


def test_a_pair_is_worth_the_difference_of_its_implicit_rewards() -> None:
    """Chosen gained 0.5 on one word, rejected 0.5 on each of two: 0.5 - 1.0."""
    evaluator = FakeEvaluator({CANDIDATE: likes(-0.5)})

    found = measure(evaluator, candidate=CANDIDATE, incumbent=None, scope=Scope(pairs=[a_pair()]))

    assert (found.pairs[0].candidate, found.pairs[0].incumbent) == (-0.5, 0.0)


def test_a_suites_items_are_checked_for_both() -> None:
    """The suite's own checks hold for every item."""
    header = Header(name="polite", items="f", checks=Expect(not_contains="fool"))
    items = [Item(id="a", prompt=ask("hi"), expect=Expect(contains="you"), group="talk")]
    evaluator = FakeEvaluator({CANDIDATE: FakePolicy(says=lambda _: "you fool")})

    found = measure(
        evaluator,
        candidate=CANDIDATE,
        incumbent=None,
        scope=Scope(suites=[assemble(header, items)]),
    )

    result = found.suites[0].items[0]
    assert (result.candidate.passed, result.incumbent.passed) == (False, True)


def test_the_base_is_asked_what_it_said_itself() -> None:
    """Drift: how much less the candidate likes the base's own words."""
    evaluator = FakeEvaluator({CANDIDATE: likes(-3.0)})

    found = measure(evaluator, candidate=CANDIDATE, incumbent=None, scope=Scope(rows=[a_row()]))

    # "you said question 0"
    assert found.drift[0].tokens == 4
    assert found.drift[0].candidate_logp - found.drift[0].base_logp == -8.0


def test_everybody_is_asked_about_before_anybody_twice() -> None:
    """One talkative person must not be what a candidate is judged on."""
    rows = [a_row(n, unit="ann") for n in range(20)] + [
        a_row(n + 20, unit=f"u{n}") for n in range(9)
    ]

    found = measure(
        FakeEvaluator(), candidate=CANDIDATE, incumbent=None, scope=Scope(rows=rows, max_prompts=10)
    )

    assert {one.unit for one in found.answers} == {"ann", *(f"u{n}" for n in range(9))}


def test_the_same_prompt_is_answered_once() -> None:
    """At temperature 0 a second answer says nothing new."""
    found = measure(
        FakeEvaluator(), candidate=CANDIDATE, incumbent=None, scope=Scope(rows=[a_row()] * 5)
    )

    assert len(found.answers) == 1
    assert len(found.rows) == 5


def test_probes_are_where_the_candidate_differs_most() -> None:
    """A replica that serves the base must not pass for the candidate."""
    evaluator = FakeEvaluator(
        {CANDIDATE: FakePolicy(likes=lambda prompt, _: -1.0 - int(prompt.split()[-1]))}
    )
    prompts = [ask(f"question {n}") for n in range(20)]
    said = evaluator.generate(prompts, adapter=CANDIDATE, max_tokens=9)

    probes = fingerprints(evaluator, prompts, said, candidate=CANDIDATE)

    assert [probe.prompt for probe in probes] == [prompts[n] for n in range(19, 11, -1)]
    # "you said question 19": four words at -20 each, and -1 under the base.
    assert (probes[0].logp, probes[0].base_logp, probes[0].tokens) == (-80.0, -4.0, 4)


def test_a_completion_that_a_template_would_trim_is_no_probe() -> None:
    """The replica would score other tokens, and refuse a good adapter."""
    said = [
        Generation(text=text, tokens=2, finished=True) for text in (" blank", "blank\n", "", "fine")
    ]

    probes = fingerprints(
        FakeEvaluator(), [ask(str(n)) for n in range(4)], said, candidate=CANDIDATE
    )

    assert [probe.completion for probe in probes] == ["fine"]


@pytest.mark.parametrize(
    ("said", "probed"),
    [
        ("one  two", "one  two"),
        ("word " * 40, ("word " * 16).strip()),
        ("\u8a9e" * 400, "\u8a9e" * 160),
        ("a" * 159 + " b", "a" * 159),
    ],
)
def test_a_probe_is_how_a_completion_begins(said: str, probed: str) -> None:
    """A replica scores it token by token: a page of it would keep vLLM busy for nothing."""
    generation = Generation(text=said.strip(), tokens=2, finished=True)

    (probe,) = fingerprints(FakeEvaluator(), [ask("q")], [generation], candidate=CANDIDATE)

    assert probe.completion == probed


@given(st.text(alphabet="ab ", max_size=30), st.booleans())
def test_what_is_empty_or_cut_off_is_degenerate(text: str, finished: bool) -> None:  # noqa: FBT001  # a parameter
    """Whatever else it says."""
    generation = Generation(text=text, tokens=3, finished=finished)

    assert is_degenerate(generation) or (finished and text.strip())


def test_going_round_in_circles_is_degenerate() -> None:
    """Four words said once more than four times, and not the refrain of a song."""
    circles = Generation(text="and so it goes " * 5, tokens=21, finished=True)
    refrain = Generation(text="and so it goes " * 4, tokens=17, finished=True)

    assert (is_degenerate(circles), is_degenerate(refrain)) == (True, False)


@given(st.integers(0, 30), st.integers(1, 30))
def test_thinning_keeps_the_order_and_the_same_rows(n: int, most: int) -> None:
    """A second look at the same snapshot must see the same rows."""
    rows = [a_row(number) for number in range(n)]

    kept = thin(rows, most)

    assert len(kept) == min(n, most)
    assert kept == [row for row in rows if row in kept]
    assert {row.completion_id for row in thin(rows[::-1], most)} == {
        row.completion_id for row in kept
    }
