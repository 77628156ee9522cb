"""What TRL does with our rows: each test is a trap of docs/training.md."""

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from feedbackloop.errors import RunError, TrainingDiverged
from feedbackloop.training.artefact import CONFIG, WEIGHTS
from feedbackloop.training.planner import build_recipe
from feedbackloop.training.port import TrainingReport
from feedbackloop.training.recipe import Method, Recipe
from feedbackloop.training.safetensors import checked_digest, read_adapter
from feedbackloop.training.trl import TrlTrainer, build, prepare
from tests.tiny import WORDS, make_base


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The suite shares its machine, and bit-equal sums need one order of adding."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_base(tmp_path_factory.mktemp("base")))


def said(role: str, *words: str) -> list[dict[str, str]]:
    return [{"role": role, "content": " ".join(words)}]


def kto_rows(count: int, **changes: object) -> list[dict[str, Any]]:
    chance = random.Random(1)
    rows = []
    for number in range(count):
        label = number % 2 == 0
        rows.append(
            {
                "prompt": said("user", *chance.sample(WORDS, 3), WORDS[number % 40]),
                "completion": said("assistant", "w1" if label else "w2", *chance.sample(WORDS, 2)),
                "label": label,
                "weight": 1.0,
            }
            | changes
        )
    return rows


def dpo_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "prompt": said("user", WORDS[number % 40], WORDS[number // 40]),
            "chosen": said("assistant", "w1", "w3"),
            "rejected": said("assistant", "w2", "w4"),
        }
        for number in range(count)
    ]


def a_recipe(method: Method, **changes: object) -> Recipe:
    small: dict[str, object] = {
        "rank": 8,
        "learning_rate": 1e-2,
        "batch_size": 4,
        "micro_batch_size": 4,
        "max_length": 32,
        "warmup_share": 0,
    }
    return build_recipe(method, small | changes, max_rank=16)


def trained(
    base: str,
    out: Path,
    recipe: Recipe,
    rows: list[dict[str, Any]],
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> TrainingReport:
    trainer = TrlTrainer(clock=iter(range(9)).__next__, threads=1, checkpoint_steps=2)
    return trainer.train(recipe, base=base, rows=rows, out=out, progress=progress)


def test_the_reference_of_dpo_is_the_base(base: str, tmp_path: Path) -> None:
    """With any other reference the rewards do not start equal, and rounds drift apart."""
    report = trained(base, tmp_path / "a", a_recipe(Method.DPO, nll_weight=0), dpo_rows(8))

    assert report.first_loss == pytest.approx(math.log(2), abs=1e-4)


def test_the_reference_of_kto_is_the_base(base: str, tmp_path: Path) -> None:
    """At the start policy and reference agree: every row's loss is 1 - sigmoid(0)."""
    report = trained(base, tmp_path / "a", a_recipe(Method.KTO), kto_rows(8))

    assert report.first_loss == pytest.approx(0.5, abs=1e-4)


def test_an_nll_term_adds_to_dpos_loss(base: str, tmp_path: Path) -> None:
    """It is what keeps the chosen completions likely; left out in silence, capability goes."""
    report = trained(base, tmp_path / "a", a_recipe(Method.DPO, nll_weight=1.0), dpo_rows(8))

    # A random model gives each of the 45 words about the same probability.
    assert report.first_loss == pytest.approx(math.log(2) + math.log(45), rel=0.1)


def test_training_moves_the_policy_towards_what_people_chose(base: str, tmp_path: Path) -> None:
    """A trainer that runs, saves and changes nothing of use is the most expensive kind."""
    report = trained(base, tmp_path / "a", a_recipe(Method.DPO, epochs=4), dpo_rows(16))

    assert report.last_loss < report.first_loss - 0.3
    assert report.reward_margin is not None
    assert report.reward_margin > 0.5


@pytest.mark.parametrize("method", list(Method))
def test_the_folder_holds_two_files_that_break_no_rule(
    base: str, tmp_path: Path, method: Method
) -> None:
    """No pickled arguments, no second adapter called ref: what is there is what is served."""
    rows = kto_rows(8) if method is Method.KTO else dpo_rows(8)
    trained(base, tmp_path / "adapter", a_recipe(method), rows)

    facts = read_adapter(tmp_path / "adapter")

    files = [(tmp_path / "adapter" / name).read_bytes() for name in (CONFIG, WEIGHTS)]
    assert checked_digest(*files, max_rank=16) == facts.digest
    assert facts.config["base_model_name_or_path"] == base
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_a_rows_weight_scales_its_loss(base: str, tmp_path: Path, weight: float) -> None:
    """A label that is surely right counts more than a guess; TRL knows no weight of a row."""
    report = trained(base, tmp_path / "a", a_recipe(Method.KTO), kto_rows(8, weight=weight))

    assert report.first_loss == pytest.approx(0.5 * weight, abs=1e-4)


def test_a_row_without_a_weight_weighs_one(base: str, tmp_path: Path) -> None:
    """Rows that another tool wrote have TRL's columns and no more."""
    rows, recipe = kto_rows(16), a_recipe(Method.KTO)
    unweighted = [{key: row[key] for key in row if key != "weight"} for row in rows]

    ours = trained(base, tmp_path / "ours", recipe, rows)
    theirs = trained(base, tmp_path / "theirs", recipe, unweighted)

    assert ours.last_loss == theirs.last_loss


def test_rows_that_make_no_batch_end_the_run_with_the_numbers(base: str, tmp_path: Path) -> None:
    """An adapter trained on nothing must not reach the gate."""
    with pytest.raises(RunError, match=r"0 of 8 rows .*'too_long': 8"):
        trained(base, tmp_path / "a", a_recipe(Method.KTO, max_length=2), kto_rows(8))


@pytest.mark.parametrize("method", list(Method))
def test_an_attempt_killed_half_way_ends_as_if_it_had_not_been(
    base: str, tmp_path: Path, method: Method
) -> None:
    """Same rows, same order, same bytes: a crash must not make another adapter."""
    rows = kto_rows(24) if method is Method.KTO else dpo_rows(24)
    recipe = a_recipe(method, warmup_share=0.2)
    trained(base, tmp_path / "whole", recipe, rows)

    def die_at_five(done: int, _all: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(base, tmp_path / "killed", recipe, rows, die_at_five)
    (tmp_path / "killed.partial" / "checkpoint-5").mkdir()  # torn while it was written
    report = trained(base, tmp_path / "killed", recipe, rows)

    assert (report.resumed_at, report.steps) == (4, 6)
    whole, killed = (read_adapter(tmp_path / name) for name in ("whole", "killed"))
    assert whole.digest == killed.digest


def test_a_checkpoint_of_other_rows_is_not_resumed_from(base: str, tmp_path: Path) -> None:
    """Erased rows must leave with the erasure, not survive in a checkpoint."""

    def die(_done: int, _all: int) -> None:
        if _done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(base, tmp_path / "a", a_recipe(Method.DPO), dpo_rows(24), die)

    report = trained(base, tmp_path / "a", a_recipe(Method.DPO), dpo_rows(20))

    assert report.resumed_at == 0


def test_a_loss_that_is_no_number_ends_the_run(base: str, tmp_path: Path) -> None:
    """transformers logs the mean so far in its place: nobody would notice before the gate."""
    recipe = a_recipe(Method.DPO, learning_rate=0.99, max_grad_norm=1e30, beta=1e30, epochs=2)

    with pytest.raises(TrainingDiverged):
        trained(base, tmp_path / "a", recipe, dpo_rows(24))


def test_an_adapter_that_stayed_zero_ends_the_run(base: str, tmp_path: Path) -> None:
    """It would answer as the base, and the canary would measure nothing for a week."""
    with pytest.raises(TrainingDiverged, match="zeros"):
        trained(base, tmp_path / "a", a_recipe(Method.KTO), kto_rows(8, weight=0.0))


def test_progress_counts_up_to_all_steps(base: str, tmp_path: Path) -> None:
    """`feedbackloop run show` draws it."""
    seen: list[tuple[int, int]] = []

    trained(base, tmp_path / "a", a_recipe(Method.KTO), kto_rows(12), lambda *at: seen.append(at))

    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_completion_is_never_paired_with_its_own_prompt(base: str, tmp_path: Path) -> None:
    """KTO's estimate of the KL needs a mismatch; TRL takes whichever row came before."""
    rows = kto_rows(8)
    twice = [row | {"label": not row["label"]} for row in rows]
    recipe = a_recipe(Method.KTO, epochs=2)
    prepared = prepare(recipe, base=base, rows=rows + twice)
    trainer = build(recipe, prepared, tmp_path, save_steps=9)

    laid_out: list[Mapping[str, Any]] = list(trainer.train_dataset)

    for start in range(0, len(laid_out), 4):
        batch = laid_out[start : start + 4]
        for number, row in enumerate(batch):
            before = batch[number - 1]
            assert row["KL_completion_ids"] == before["completion_ids"]
            assert json.dumps(row["prompt"]) != json.dumps(before["prompt"])


def test_row_weights_agree_with_trls_weights_of_labels(base: str, tmp_path: Path) -> None:
    """Rows are sorted by label within the loss: a weight must not land on a neighbour."""
    recipe = a_recipe(Method.KTO)
    trainer = build(recipe, prepare(recipe, base=base, rows=kto_rows(8)), tmp_path, save_steps=9)
    for name, value in trainer.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value)
    collated = trainer.data_collator(list(trainer.train_dataset)[:4])
    batch = {name: value.to(trainer.model.device) for name, value in collated.items()}
    batch["weight"] = torch.where(batch["label"], 2.0, 3.0)
    plain = {name: value for name, value in batch.items() if name != "weight"}

    ours = trainer.compute_loss(trainer.model, batch)
    trainer.desirable_weight, trainer.undesirable_weight = 2.0, 3.0
    theirs = super(type(trainer), trainer)._compute_loss(trainer.model, plain, False)  # noqa: FBT003  # TRL's signature

    assert ours == theirs
