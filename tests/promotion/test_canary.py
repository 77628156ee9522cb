"""The canary's rule: who is counted, who is compared with whom, and what follows."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.events import Arm
from feedbackloop.promotion.canary import (
    Action,
    Answers,
    Decision,
    Observation,
    Progress,
    Rule,
    Unit,
    controls_per_canary,
    decide,
    differences,
    mature,
    sample_ratio,
)

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
RULE = Rule(shares=(0.1, 0.5), min_units=10, dwell_seconds=60, deadline_seconds=1_000)
LATE = Progress(share=0.1, step_seconds=100, age_seconds=500)


def seen(
    unit: str = "ann", *, arm: Arm = Arm.CANARY, bad: float = 0.0, minute: int = 0
) -> Observation:
    """Make an observation some minutes past noon."""
    return Observation(
        unit=unit,
        arm=arm,
        canary_share=0.5,
        undesirable=bad,
        ended_at=NOON + timedelta(minutes=minute),
    )


def matured(observations: Sequence[Observation], *, minute: int) -> Sequence[Unit]:
    """Take what matured by a minute past noon, with a maturity of ten minutes."""
    return mature(observations, now=NOON + timedelta(minutes=minute), maturity_seconds=600)


def unit(arm: Arm, outcome: float, *, share: float = 0.5) -> Unit:
    """Make a unit."""
    return Unit(arm=arm, canary_share=share, outcome=outcome)


def crowd(*, blocks: int, canary_bad: int, stable_bad: int, share: float = 0.1) -> list[Unit]:
    """Make blocks of a canary unit and nine controls; every n-th unit of an arm is bad."""
    units = []
    for index in range(blocks):
        units += [
            unit(Arm.STABLE, float((index * 9 + n) % stable_bad == 0), share=share)
            for n in range(9)
        ]
        units.append(unit(Arm.CANARY, float(index % canary_bad == 0), share=share))
    return units


def decided(
    units: Sequence[Unit], *, progress: Progress = LATE, answers: tuple[int, int] = (0, 0)
) -> Decision:
    """Decide on units; ``answers`` are failed ones of canary and stable, of a hundred each."""
    counts = {
        Arm.CANARY: Answers(total=100, failed=answers[0]),
        Arm.STABLE: Answers(total=100, failed=answers[1]),
    }
    return decide(units, answers=counts, rule=RULE, progress=progress)


def test_a_user_counts_once_however_often_they_vote() -> None:
    """Four labels of one angry person are one angry person, not four."""
    angry = [seen(bad=1.0), seen(minute=1), seen(bad=1.0, minute=2), seen(bad=1.0, minute=3)]

    assert matured(angry, minute=20) == [unit(Arm.CANARY, 1.0)]


def test_a_unit_counts_only_after_its_time() -> None:
    """A thumb down is fast and content is silent: counting early would blame the canary."""
    observations = [seen(bad=1.0)]

    assert not matured(observations, minute=19)
    assert len(matured(observations, minute=20)) == 1


def test_what_was_counted_never_changes() -> None:
    """A bet that is settled stays settled, whatever the person does later."""
    late_anger = [seen(), seen(bad=1.0, minute=11)]

    assert matured(late_anger, minute=60) == [unit(Arm.CANARY, 0.0)]


@given(st.permutations([seen(name, minute=m) for m, name in enumerate("abcdef")]))
def test_the_order_of_observations_does_not_matter(observations: list[Observation]) -> None:
    """The log's partitions may be read in any order."""
    ordered = sorted(observations, key=lambda entry: entry.ended_at)

    assert matured(observations, minute=60) == matured(ordered, minute=60)


@given(
    st.lists(
        st.builds(
            seen,
            st.sampled_from("abcd"),
            arm=st.sampled_from(Arm),
            bad=st.floats(0, 1),
            minute=st.integers(0, 60),
        )
    ),
    st.integers(0, 100),
    st.integers(0, 100),
)
def test_time_only_adds_units_at_the_end(
    observations: list[Observation], one: int, other: int
) -> None:
    """Evidence of yesterday must come out of today's recomputation unchanged."""
    before, after = sorted((one, other))

    # What ends later is not in the log yet when one looks earlier.
    known = [s for s in observations if s.ended_at <= NOON + timedelta(minutes=before)]
    early, late = matured(known, minute=before), matured(observations, minute=after)

    assert list(late[: len(early)]) == list(early)


@pytest.mark.parametrize(
    ("share", "controls"), [(0.05, 9), (0.1, 9), (0.25, 3), (0.3, 2), (0.5, 1), (0.9, 1)]
)
def test_the_share_says_how_many_controls_a_canary_unit_gets(share: float, controls: int) -> None:
    """More controls make a sharper difference, as long as traffic brings them."""
    assert controls_per_canary(share) == controls


def test_a_canary_unit_waits_for_its_controls() -> None:
    """At a quarter share three controls belong to one canary unit: 1 - (0 + 0 + 1) / 3."""
    units = [unit(Arm.CANARY, 1.0, share=0.25)] + [
        unit(Arm.STABLE, outcome, share=0.25) for outcome in (0.0, 0.0, 1.0, 0.0)
    ]

    assert list(differences(units)) == pytest.approx([2 / 3])


def test_a_new_step_starts_with_new_controls() -> None:
    """Controls of last week saw another week."""
    units = [unit(Arm.STABLE, 1.0, share=0.5), unit(Arm.CANARY, 1.0, share=0.6)]

    assert not differences(units)


@given(st.lists(st.tuples(st.sampled_from(Arm), st.floats(0, 1)), max_size=60))
def test_differences_stay_within_one(pairs: list[tuple[Arm, float]]) -> None:
    """The bets are fair only for bounded differences."""
    blocks = differences([unit(arm, outcome, share=0.3) for arm, outcome in pairs])

    assert all(-1 <= block <= 1 for block in blocks)
    assert len(blocks) <= sum(arm is Arm.CANARY for arm, _ in pairs)


def test_an_even_split_is_no_mismatch_and_a_lopsided_one_is() -> None:
    """Ten of a hundred at a share of 0.1 is as ordered; fifty of a hundred is broken."""
    fair = crowd(blocks=100, canary_bad=5, stable_bad=5)
    broken = [unit(arm, 0.0, share=0.1) for _ in range(50) for arm in Arm]

    assert sample_ratio(fair) < 1000 <= sample_ratio(broken)


def test_harm_rolls_back() -> None:
    """Half of the canary's people dissatisfied against a fifth is no accident after 100."""
    decision = decided(crowd(blocks=100, canary_bad=2, stable_bad=5))

    assert decision.action is Action.ROLLBACK
    assert "harm is shown: 50.0% of 100 canary units" in decision.reason


def test_proven_harmless_moves_to_the_next_step_and_from_the_last_to_stable() -> None:
    """The evidence carries over; only the step differs."""
    units = crowd(blocks=700, canary_bad=5, stable_bad=5)

    onward = decided(units)
    done = decided(units, progress=Progress(share=0.5, step_seconds=100, age_seconds=500))

    assert (onward.action, onward.share) == (Action.WIDEN, 0.5)
    assert (done.action, done.share) == (Action.PROMOTE, None)


def test_a_step_lasts_its_time_even_with_the_evidence_there() -> None:
    """A widening in the first seconds would be a prefill storm."""
    young = Progress(share=0.1, step_seconds=5, age_seconds=5)

    decision = decided(crowd(blocks=700, canary_bad=5, stable_bad=5), progress=young)

    assert (decision.action, decision.reason) == (Action.HOLD, "5 of 60 seconds on this step")


def test_too_little_evidence_holds_and_after_the_deadline_is_inconclusive() -> None:
    """'Not enough evidence' is an answer, and never promotes."""
    few = crowd(blocks=20, canary_bad=5, stable_bad=5)
    old = Progress(share=0.1, step_seconds=2_000, age_seconds=2_000)

    assert decided(few).action is Action.HOLD
    assert decided(few, progress=old).action is Action.INCONCLUSIVE
    assert decided([], progress=old).reason.startswith("deadline passed, and 0 canary units")


def test_silence_is_no_evidence() -> None:
    """Where nobody can vote or retry, nobody is dissatisfied: that proves nothing."""
    heard = crowd(blocks=700, canary_bad=10_000, stable_bad=10_000)
    silent = [unit(entry.arm, 0.0, share=0.1) for entry in heard]

    decision = decided(silent)

    assert decision.action is Action.HOLD
    assert "silence is no evidence" in decision.reason
    assert decided(heard).action is Action.WIDEN


def test_failed_answers_roll_back_without_any_vote() -> None:
    """A canary that answers with errors is gone before the first thumb."""
    decision = decided([], answers=(9, 2))

    assert decision.action is Action.ROLLBACK
    assert decision.reason.startswith("9 of 100 answers of the canary failed")


@pytest.mark.parametrize("answers", [(2, 0), (7, 2), (50, 50)])
def test_failures_that_the_stable_shares_do_not_trip_the_guardrail(
    answers: tuple[int, int],
) -> None:
    """An outage of the engine hits both arms, and says nothing about the canary."""
    assert decided([], answers=answers).action is Action.HOLD


def test_a_broken_assignment_neither_promotes_nor_blames() -> None:
    """When the arms hold different people their outcomes cannot be compared."""
    broken = [unit(arm, float(arm is Arm.CANARY), share=0.1) for _ in range(60) for arm in Arm]

    decision = decided(broken)

    assert decision.action is Action.HOLD
    assert "not assigned by the shares" in decision.reason


@given(
    st.lists(st.tuples(st.sampled_from(Arm), st.sampled_from([0.0, 1.0])), max_size=200),
    st.integers(0, 30),
)
def test_more_failures_never_help_a_canary(pairs: list[tuple[Arm, float]], failed: int) -> None:
    """Once the guardrail trips, no number of happy people undoes it."""
    units = [unit(arm, outcome) for arm, outcome in pairs]

    if decided(units, answers=(failed, 0)).action is Action.ROLLBACK:
        assert decided(units, answers=(failed + 1, 0)).action is Action.ROLLBACK
