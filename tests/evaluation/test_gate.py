"""The gate says pass only when that is proven, and says by which numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop.dataset.rows import KtoRow, assistant
from feedbackloop.evaluation.finding import Rules
from feedbackloop.evaluation.gate import judge
from feedbackloop.evaluation.measure import (
    Answered,
    Measurements,
    Said,
    Scope,
    ScoredPair,
    SuiteResult,
    measure,
)
from feedbackloop.evaluation.suite import Expect, Header, Item, Suite, assemble
from feedbackloop.evaluation.verdict import Check, Outcome, Verdict, decode, encode
from feedbackloop.events import CompletionId
from tests.fakes import FakeEvaluator, FakePolicy

CANDIDATE, INCUMBENT = Path("candidate"), Path("incumbent")
RULES = Rules(draws=400)


def held_out(people: int, *, seed: int = 0) -> list[KtoRow]:
    """Two completions of each person, one in ten of whose labels is wrong."""
    chance = Random(seed)
    return [
        KtoRow(
            prompt=({"role": "user", "content": f"question {person}"},),
            completion=assistant("short and kind" if kind else "long and cold"),
            label=kind != (chance.random() < 0.1),
            weight=1.0,
            confidence=0.9,
            completion_id=CompletionId(f"{person}-{kind}"),
            unit=f"u{person}",
            release="base",
            sources=("thumb",),
        )
        for person in range(people)
        for kind in (True, False)
    ]


def sums(n: int, *, margin: float = 0.05) -> Suite:
    """Ask for a word that every policy knows, in two tasks."""
    items = [
        Item(
            id=f"i{place}",
            prompt=({"role": "user", "content": f"item {place}"},),
            expect=Expect(contains="said"),
            group="easy" if place % 2 else "hard",
        )
        for place in range(n)
    ]
    return assemble(Header(name="sums", items="f", margin=margin), items)


def likes(prompt: str, completion: str) -> float:
    """Prefer what people preferred, and leave everything else alone."""
    del prompt
    return -0.9 if "kind" in completion else -1.1 if "cold" in completion else -1.0


def dislikes(prompt: str, completion: str) -> float:
    return -2.0 - likes(prompt, completion)


def forgets(share: float) -> Callable[[str], str]:
    """Fail this share of the suite's items."""

    def says(prompt: str) -> str:
        number = int(prompt.rsplit(maxsplit=1)[-1])
        lost = prompt.startswith("item") and (number * 37) % 100 < share * 100
        return "I do not know" if lost else f"you said {prompt}"

    return says


def verdict_on(
    candidate: FakePolicy,
    *,
    incumbent: FakePolicy | None = None,
    people: int = 60,
    suites: Sequence[Suite] = (),
    rules: Rules = RULES,
) -> Verdict:
    policies: dict[Path | None, FakePolicy] = {CANDIDATE: candidate}
    if incumbent is not None:
        policies[INCUMBENT] = incumbent
    measured = measure(
        FakeEvaluator(policies),
        candidate=CANDIDATE,
        incumbent=None if incumbent is None else INCUMBENT,
        scope=Scope(rows=held_out(people), suites=suites),
    )
    return judge(measured, rules, inputs={"candidate": "c0ffee"})


def named(verdict: Verdict, name: str) -> Check:
    return next(check for check in verdict.checks if check.name == name)


def test_what_people_prefer_and_nothing_else_changed_passes() -> None:
    """This is what the loop is for."""
    verdict = verdict_on(FakePolicy(likes=likes), suites=[sums(200)])

    assert verdict.outcome is Outcome.PASS
    assert verdict.reason.startswith("preference.labels: candidate 0.9")
    assert verdict.reason.endswith("is proven.")


def test_the_same_policy_twice_loses_nothing_and_gains_nothing() -> None:
    """An A/A comparison that finds a winner or a loser means that the gate is broken."""
    verdict = verdict_on(FakePolicy(), suites=[sums(200)])

    others = {check.outcome for check in verdict.checks if "preference" not in check.name}
    assert others == {Outcome.PASS}
    assert verdict.outcome is Outcome.INSUFFICIENT
    assert "not proven to be better" in verdict.reason


def test_the_same_policy_twice_may_pass_where_no_gain_is_asked_for() -> None:
    """A refreshed adapter need only be no worse: a margin above 0 says so."""
    rules = Rules(draws=400, preference_margin=0.05)
    policy = FakePolicy(likes=likes)

    verdict = verdict_on(policy, incumbent=policy, suites=[sums(200)], rules=rules)

    assert verdict.outcome is Outcome.PASS


def test_an_incumbent_that_is_as_good_must_be_beaten() -> None:
    """Better than the base is not enough once something better than it serves."""
    verdict = verdict_on(FakePolicy(likes=likes), incumbent=FakePolicy(likes=likes))

    assert verdict.outcome is Outcome.INSUFFICIENT
    assert named(verdict, "preference.labels").incumbent > 0.8


def test_liking_what_people_disliked_fails() -> None:
    """The labels may have been poisoned, or read the wrong way round."""
    verdict = verdict_on(FakePolicy(likes=dislikes))

    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason.startswith("preference.labels: candidate 0.0")


def test_a_capability_loss_of_ten_points_fails_however_much_it_pleases() -> None:
    """The usual failure of training on feedback: more pleasing, and worse elsewhere."""
    verdict = verdict_on(FakePolicy(likes=likes, says=forgets(0.10)), suites=[sums(400)])

    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason.startswith("suite.sums: candidate 0.900, incumbent 1.000, gain -0.100")
    groups = {one.group: (one.n, one.incumbent) for one in named(verdict, "suite.sums").groups}
    assert groups == {"easy": (200, 1.0), "hard": (200, 1.0)}


def test_all_that_failed_is_named() -> None:
    """Whoever asks why a round did not ship must not learn of one flaw at a time."""
    verdict = verdict_on(FakePolicy(likes=dislikes, says=forgets(0.10)), suites=[sums(400)])

    assert verdict.reason.startswith("preference.labels: ")
    assert verdict.reason.endswith(" The same verdict: suite.sums.")


def test_a_suite_that_does_not_block_only_reports() -> None:
    """A new suite is watched for a while before it decides."""
    suite = sums(400)
    header = msgspec.structs.replace(suite.header, blocking=False)

    verdict = verdict_on(
        FakePolicy(likes=likes, says=forgets(0.10)), suites=[assemble(header, suite.items)]
    )

    assert verdict.outcome is Outcome.PASS
    assert named(verdict, "suite.sums").outcome is Outcome.FAIL


@pytest.mark.parametrize("items", [5, 30])
def test_a_small_suite_is_insufficient_even_if_nothing_failed(items: int) -> None:
    """That 30 of 30 passed does not rule out a loss of five points."""
    verdict = verdict_on(FakePolicy(likes=likes), suites=[sums(items)])

    check = named(verdict, "suite.sums")
    assert verdict.outcome is check.outcome is Outcome.INSUFFICIENT
    assert check.smallest_detectable is not None
    assert check.smallest_detectable > check.margin


@pytest.mark.parametrize(
    ("says", "check"),
    [
        (lambda prompt: f"you said {prompt} " * 2, "length"),
        (lambda _: "yes", "length"),
        (lambda _: "", "degenerate"),
        (lambda _: "and on and on " * 6, "degenerate"),
    ],
)
def test_bad_habits_fail(says: Callable[[str], str], check: str) -> None:
    """Twice as long, a third as long, silent, going round in circles."""
    verdict = verdict_on(FakePolicy(likes=likes, says=says))

    assert verdict.outcome is Outcome.FAIL
    assert named(verdict, check).outcome is Outcome.FAIL


def test_forgetting_what_people_liked_fails() -> None:
    """It ranks them well, and finds all of them unlikely: perplexity e^1.5 against e^1."""

    def unlearned(prompt: str, completion: str) -> float:
        return likes(prompt, completion) * 2.0

    verdict = verdict_on(FakePolicy(likes=unlearned))

    assert named(verdict, "perplexity").outcome is Outcome.FAIL
    assert verdict.outcome is Outcome.FAIL


def test_leaving_the_base_far_behind_fails() -> None:
    """Whatever it says now, it is another model than the one that was vetted."""

    def gone(prompt: str, completion: str) -> float:
        return -5.0 if completion.startswith("you said") else likes(prompt, completion)

    verdict = verdict_on(FakePolicy(likes=gone))

    assert verdict.outcome is Outcome.FAIL
    assert named(verdict, "drift").candidate == pytest.approx(4.0)


def test_a_broken_folder_fails_whatever_it_says() -> None:
    """Nothing else about it can be trusted."""
    verdict = judge(Measurements(), RULES, problems=["config: rank is 4096, at most 16"])

    assert verdict.outcome is Outcome.FAIL
    assert "rank is 4096" in verdict.reason


def test_nothing_measured_is_insufficient() -> None:
    """No held-out people yet: the candidate waits, and is not waved through."""
    verdict = judge(Measurements(), RULES)

    assert verdict.outcome is Outcome.INSUFFICIENT
    assert "on 0 from 0 users: fewer than the 20 users" in verdict.reason


def test_few_people_prove_nothing_however_much_they_agree() -> None:
    """Ten enthusiasts are not the people."""
    assert verdict_on(FakePolicy(likes=likes), people=10).outcome is Outcome.INSUFFICIENT


def pairs(right: int, wrong: int) -> tuple[ScoredPair, ...]:
    return tuple(
        ScoredPair(unit=f"p{place}", candidate=1.0 if place < right else -1.0, incumbent=0.0)
        for place in range(right + wrong)
    )


def preference(*, right: int, wrong: int) -> dict[str, tuple[Outcome, bool]]:
    verdict = judge(Measurements(pairs=pairs(right, wrong)), RULES)
    return {check.name: (check.outcome, check.blocking) for check in verdict.checks[1:2]}


def test_pairs_alone_can_prove_a_gain() -> None:
    """Retries make pairs even where nobody ever votes."""
    assert preference(right=45, wrong=15) == {"preference.pairs": (Outcome.PASS, True)}
    assert preference(right=33, wrong=27) == {"preference.pairs": (Outcome.INSUFFICIENT, True)}
    assert preference(right=15, wrong=45) == {"preference.pairs": (Outcome.FAIL, True)}


def test_a_loss_in_pairs_outweighs_a_gain_in_labels() -> None:
    """They measure one thing; if they contradict each other, something is wrong."""
    measured = measure(
        FakeEvaluator({CANDIDATE: FakePolicy(likes=likes)}),
        candidate=CANDIDATE,
        incumbent=None,
        scope=Scope(rows=held_out(60)),
    )

    verdict = judge(msgspec.structs.replace(measured, pairs=pairs(10, 50)), RULES)

    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason.startswith("preference.pairs")


def test_a_verdict_survives_its_journey_as_json() -> None:
    """It is stored with the run, shown to people, and read again by the next process."""
    for verdict in (verdict_on(FakePolicy(likes=likes)), judge(Measurements(), RULES)):
        assert decode(encode(verdict)) == verdict


def test_a_verdict_names_what_went_in() -> None:
    """Whoever doubts it can compute it again."""
    suite = sums(30)

    verdict = verdict_on(FakePolicy(likes=likes), suites=[suite])

    assert verdict.inputs == {"candidate": "c0ffee", "suite.sums": suite.digest}


def test_the_same_measurements_give_the_same_verdict() -> None:
    """Chance enters by a seed."""
    once = verdict_on(FakePolicy(likes=likes))

    assert encode(verdict_on(FakePolicy(likes=likes))) == encode(once)


answers = st.builds(
    lambda ours, theirs, n: Answered(
        id=str(n),
        unit=str(n),
        group="",
        candidate=Said(tokens=3, degenerate=False, passed=ours),
        incumbent=Said(tokens=3, degenerate=False, passed=theirs),
    ),
    st.booleans(),
    st.booleans(),
    st.integers(0, 10_000),
)


@settings(max_examples=30)
@given(st.lists(answers, max_size=60, unique_by=lambda one: one.id), st.randoms())
def test_the_order_of_items_does_not_matter(items: list[Answered], random: Random) -> None:
    """A suite may be sorted without its verdict changing."""

    def suite_check(members: list[Answered]) -> Check:
        result = SuiteResult(
            name="x", digest="", margin=0.1, alpha=None, blocking=True, items=tuple(members)
        )
        return named(judge(Measurements(suites=(result,)), RULES), "suite.x")

    shuffled = random.sample(items, len(items))

    assert suite_check(shuffled) == suite_check(items)
