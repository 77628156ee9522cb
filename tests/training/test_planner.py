"""Which method fits, and with which recipe."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.errors import SettingsError
from feedbackloop.labels.tally import Counts
from feedbackloop.training.planner import DEFAULTS, Limits, Plan, plan
from feedbackloop.training.recipe import LoraShape, Method

LIMITS = Limits(min_pairs=500, min_minority=300, max_rank=16)


def planned(
    counts: tuple[int, int, int],
    *,
    configured: Mapping[str, Mapping[str, object]] | None = None,
    asked: Mapping[str, object] | None = None,
) -> Plan:
    desirable, undesirable, pairs = counts
    return plan(
        Counts(desirable=desirable, undesirable=undesirable, pairs=pairs),
        LIMITS,
        configured=configured or {},
        asked=asked or {},
    )


@pytest.mark.parametrize(
    ("counts", "method"),
    [
        ((300, 300, 500), Method.DPO),
        ((0, 0, 500), Method.DPO),
        ((300, 900, 499), Method.KTO),
        ((900, 299, 499), None),
        ((0, 0, 0), None),
    ],
)
def test_pairs_come_first_and_the_rarer_label_decides(
    counts: tuple[int, int, int], method: Method | None
) -> None:
    """Pairs cost the least capability, and 10,000 thumbs down without one up teach nothing."""
    result = planned(counts)

    assert (result.recipe and result.recipe.method) == method


@given(*[st.integers(0, 2_000)] * 3)
def test_more_data_never_takes_a_plan_away(desirable: int, undesirable: int, pairs: int) -> None:
    """A team that collects more must not see its runs stop."""
    before = planned((desirable, undesirable, pairs))

    after = planned((desirable + 1, undesirable + 1, pairs + 1))

    assert before.recipe is None or after.recipe is not None


@given(*[st.integers(0, 2_000)] * 3)
def test_the_reason_names_the_numbers(desirable: int, undesirable: int, pairs: int) -> None:
    """Whoever asks why nothing is trained must see how far they are."""
    result = planned((desirable, undesirable, pairs))

    assert f"{pairs} pairs" in result.why


def test_a_run_may_ask_for_a_method() -> None:
    """An operator who tries a method out need not wait for the thresholds."""
    result = planned((2, 2, 900), asked={"method": "kto"})

    assert result.recipe == DEFAULTS[Method.KTO]
    assert "asks for it" in result.why


@pytest.mark.parametrize(
    ("counts", "method"), [((5, 0, 9), "kto"), ((5, 5, 1), "dpo"), ((0, 0, 0), "dpo")]
)
def test_a_method_without_rows_trains_nothing(counts: tuple[int, int, int], method: str) -> None:
    """One label alone, or one pair, cannot make a batch."""
    assert planned(counts, asked={"method": method}).recipe is None


def test_a_run_outranks_the_settings_and_they_outrank_the_defaults() -> None:
    """The nearest voice wins; what it does not mention stays."""
    result = planned(
        (0, 0, 500),
        configured={"dpo": {"beta": 0.5, "epochs": 2.0, "rank": 8}},
        asked={"beta": 0.3},
    )

    assert result.recipe is not None
    assert (result.recipe.beta, result.recipe.epochs) == (0.3, 2)
    assert result.recipe.lora == LoraShape(rank=8)


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"learnin_rate": 1e-4}, "learnin_rate"),
        ({"method": "ppo"}, "ppo"),
        ({"epochs": 1.5}, "epochs"),
        ({"epochs": "two"}, "epochs"),
        ({"rank": 12}, "rank"),
        ({"rank": 64}, "server"),
        ({"alpha": 0}, "alpha"),
        ({"dropout": 1}, "dropout"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"beta": 0}, "beta"),
        ({"micro_batch_size": 1}, "micro_batch_size"),
        ({"batch_size": 33}, "batch_size"),
        ({"nll_weight": -1}, "nll_weight"),
        ({"warmup_share": 1}, "warmup_share"),
        ({"max_length": 1}, "max_length"),
        ({"max_grad_norm": 0}, "max_grad_norm"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_field_that_is_unknown_or_out_of_range_is_named(
    asked: Mapping[str, object], word: str
) -> None:
    """A misspelt field that trained with the default would look like one that did not help."""
    with pytest.raises(SettingsError, match=word):
        planned((0, 0, 0), asked=asked)


def test_a_misspelt_method_in_the_settings_is_named() -> None:
    """Its fields would otherwise wait for ever for a method that never comes."""
    with pytest.raises(SettingsError, match="kt0"):
        planned((0, 0, 0), configured={"kt0": {}})
