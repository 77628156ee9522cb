"""The trainer on TRL 1.16 and PEFT: KTO and DPO on a fresh LoRA, with the base as reference.

Only TRL's stable trainers are used. What they get wrong in silence is described, with the test
that holds each, in docs/training.md.
"""

import hashlib
import json
import logging
import math
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import msgspec
import torch
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils.logging import disable_progress_bar
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from feedbackloop.errors import RunError, TrainingDiverged
from feedbackloop.events import JsonObject
from feedbackloop.training.artefact import CONFIG, WEIGHTS, canonical_config, parse_config
from feedbackloop.training.batches import Order, plan_order
from feedbackloop.training.intake import COMPLETIONS, Admitted, Row, admit
from feedbackloop.training.port import TrainingReport
from feedbackloop.training.recipe import Method, Recipe

_COMPLETE = "complete"
_INPUTS = "inputs.sha256"
_CHECKPOINTING_PARAMETERS = 10**9
"""A base of this size or more recomputes activations; a smaller one has memory for them."""


class TrlTrainer:
    """Trains in this process, on one GPU in bfloat16, or on the CPU in float32.

    Args:
        clock: Seconds since any moment; only differences are used.
        threads: CPU threads; 0 leaves the choice to torch.
        checkpoint_steps: Optimiser steps between two checkpoints.
    """

    def __init__(
        self, *, clock: Callable[[], float], threads: int = 0, checkpoint_steps: int = 50
    ) -> None:
        self._clock = clock
        self._threads = threads
        self._checkpoint_steps = checkpoint_steps

    def train(
        self,
        recipe: Recipe,
        *,
        base: str,
        rows: Sequence[Row],
        out: Path,
        progress: Callable[[int, int], None],
    ) -> TrainingReport:
        began = self._clock()
        _settle(self._threads)
        prepared = prepare(recipe, base=base, rows=rows)
        partial = _partial(out, recipe, prepared)
        trainer = build(recipe, prepared, partial, save_steps=self._checkpoint_steps)
        trainer.add_callback(_Watch(progress))
        checkpoint = _newest_checkpoint(partial)
        started = self._clock()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        ended = self._clock()
        _save(trainer.model, base=base, out=out, partial=partial)
        return TrainingReport(
            method=recipe.method.value,
            rows=len(prepared.admitted.rows),
            steps=trainer.state.global_step,
            seconds=ended - started,
            setup_seconds=started - began,
            tokens=sum(prepared.admitted.facts[row].tokens for row in prepared.order.rows()),
            left_out=prepared.admitted.left_out,
            resumed_at=int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0,
            **_figures(trainer.state.log_history, recipe.method),
        )


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that can be trained on, and the order in which they are."""

    base: str
    tokenizer: Any
    admitted: Admitted
    order: Order


class _WeightedKto(KTOTrainer):  # type: ignore[misc]  # TRL is untyped
    """KTO whose rows each have a weight: TRL has one for each label only.

    Its loss multiplies by the two attributes, so a tensor of the rows' weights in their place
    weighs each row. All weights 1 is TRL's own loss.
    """

    desirable_weight: Any
    undesirable_weight: Any

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "weight" not in self._signature_columns:
            self._signature_columns.append("weight")

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:  # noqa: ANN401, FBT001  # TRL's signature
        weight = inputs.pop("weight")
        desirable = inputs["label"].to(torch.bool)
        plain = self.desirable_weight, self.undesirable_weight
        self.desirable_weight, self.undesirable_weight = weight[desirable], weight[~desirable]
        try:
            return super()._compute_loss(model, inputs, return_outputs)
        finally:
            self.desirable_weight, self.undesirable_weight = plain


class _WithWeights:
    """A collator that carries the rows' weights beside what TRL's own makes of them."""

    def __init__(self, collate: Callable[[list[Row]], dict[str, Any]]) -> None:
        self._collate = collate

    def __call__(self, rows: list[Row]) -> dict[str, Any]:
        weights = torch.tensor([row["weight"] for row in rows], dtype=torch.float32)
        return {**self._collate(rows), "weight": weights}


class _Watch(TrainerCallback):  # type: ignore[misc]  # transformers is skipped by mypy
    """Tell of progress, stop a training that has become senseless, and close checkpoints."""

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self._progress = progress

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        del args, control
        self._progress(state.global_step, state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: object,
    ) -> None:
        del args, control
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise TrainingDiverged(f"the loss of step {state.global_step} is {loss}")

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        del control
        # A kill while a checkpoint is written leaves one that cannot be resumed from.
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


def _settle(threads: int) -> None:
    """Take threads, and keep libraries from writing progress bars and hints into the log."""
    if threads:
        torch.set_num_threads(threads)
    datasets.disable_progress_bars()
    disable_progress_bar()
    for library in ("trl", "transformers", "accelerate", "peft", "datasets"):
        logging.getLogger(library).setLevel(logging.ERROR)


def _load(base: str) -> Any:  # noqa: ANN401  # transformers is skipped by mypy
    """Load the base; without a dtype transformers would follow the file, TRL take float32."""
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    return AutoModelForCausalLM.from_pretrained(base, dtype=dtype)


def prepare(recipe: Recipe, *, base: str, rows: Sequence[Row]) -> Prepared:
    """Leave out what cannot be trained on, count it, and plan the order of the rest.

    Raises:
        RunError: If a row is malformed, or too few are left.
    """
    tokenizer = AutoTokenizer.from_pretrained(base)

    def count_tokens(messages: list[JsonObject]) -> int:
        return len(
            tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]
        )

    admitted = admit(rows, recipe, count_tokens=count_tokens)
    order = plan_order(
        admitted.facts, batch_size=recipe.micro_batch_size, epochs=recipe.epochs, seed=recipe.seed
    )
    if not order.rows():
        raise RunError(
            f"{len(admitted.rows)} of {len(rows)} rows can be trained on, and they make no batch"
            f" of two prompts; left out: {admitted.left_out}"
        )
    return Prepared(base=base, tokenizer=tokenizer, admitted=admitted, order=order)


def _dataset(prepared: Prepared, method: Method) -> datasets.Dataset:
    """Lay the rows out in their order, every epoch of them."""
    columns: dict[str, list[object]] = {name: [] for name in ("prompt", *COMPLETIONS[method])}
    if method is Method.KTO:
        columns |= {"label": [], "weight": []}
    for number in prepared.order.rows():
        row = prepared.admitted.rows[number]
        for name, values in columns.items():
            values.append(float(row.get(name, 1.0)) if name == "weight" else _plain(row[name]))
    return datasets.Dataset.from_dict(columns)


def _plain(value: object) -> object:
    """Give Arrow lists, where rows hold tuples of messages."""
    return list(value) if isinstance(value, tuple) else value


def _arguments(
    recipe: Recipe, prepared: Prepared, partial: Path, *, save_steps: int
) -> KTOConfig | DPOConfig:
    """Say it in TRL's words."""
    on_gpu = torch.cuda.is_available()
    size = prepared.order.batch_size
    common: dict[str, Any] = {
        "output_dir": str(partial),
        "num_train_epochs": 1,  # all epochs are laid out as rows
        "train_sampling_strategy": "sequential",
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": max(1, recipe.batch_size // size),
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": _warmup(recipe, prepared),
        "max_grad_norm": recipe.max_grad_norm,
        "beta": recipe.beta,
        "max_length": recipe.max_length,
        "precompute_ref_log_probs": True,
        "precompute_ref_batch_size": size,
        "disable_dropout": recipe.lora.dropout == 0,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "bf16": on_gpu,
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "gradient_checkpointing": False,  # decided when the base is known
        "save_strategy": "steps",
        "save_steps": save_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would show a NaN as the mean so far
        "report_to": "none",
        "disable_tqdm": True,
    }
    if recipe.method is Method.KTO:
        return KTOConfig(**common)
    losses, loss_weights = ["sigmoid"], [1.0]
    if recipe.nll_weight:
        losses, loss_weights = ["sigmoid", "sft"], [1.0, recipe.nll_weight]
    return DPOConfig(**common, loss_type=losses, loss_weights=loss_weights)


def _warmup(recipe: Recipe, prepared: Prepared) -> int:
    """Count the steps in which the learning rate rises."""
    rows = len(prepared.order.rows())
    return math.ceil(recipe.warmup_share * rows / max(recipe.batch_size, prepared.order.batch_size))


def build(recipe: Recipe, prepared: Prepared, partial: Path, *, save_steps: int) -> Any:  # noqa: ANN401  # TRL is untyped
    """Build TRL's trainer: a plain model with a config of LoRA makes the base the reference."""
    model = _load(prepared.base)
    arguments = _arguments(recipe, prepared, partial, save_steps=save_steps)
    arguments.gradient_checkpointing = model.num_parameters() >= _CHECKPOINTING_PARAMETERS
    lora = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    kind = _WeightedKto if recipe.method is Method.KTO else DPOTrainer
    with warnings.catch_warnings():
        # TRL and its libraries deprecate each other's arguments; we pin the versions we tested.
        warnings.simplefilter("ignore", FutureWarning)
        trainer = kind(
            model=model,
            args=arguments,
            train_dataset=_dataset(prepared, recipe.method),
            processing_class=prepared.tokenizer,
            peft_config=lora,
        )
    trainer.remove_callback(PrinterCallback)
    if recipe.method is Method.KTO:
        trainer.data_collator = _WithWeights(trainer.data_collator)
    return trainer


def _partial(out: Path, recipe: Recipe, prepared: Prepared) -> Path:
    """Find what a killed attempt left; what was made from anything else is removed."""
    inputs = hashlib.sha256(msgspec.json.encode(recipe, order="deterministic"))
    inputs.update(prepared.base.encode())
    for number in prepared.order.rows():
        inputs.update(
            json.dumps(prepared.admitted.rows[number], sort_keys=True, default=list).encode()
        )
    partial = out.with_name(out.name + ".partial")
    mark = partial / _INPUTS
    if not mark.exists() or mark.read_text() != inputs.hexdigest():
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        mark.write_text(inputs.hexdigest())
    return partial


def _newest_checkpoint(partial: Path) -> Path | None:
    """Find the last checkpoint that was written to its end, and remove broken ones."""
    found = list(partial.glob("checkpoint-*"))
    for broken in (path for path in found if not (path / _COMPLETE).exists()):
        shutil.rmtree(broken)
    whole = [path for path in found if path.exists()]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _save(model: Any, *, base: str, out: Path, partial: Path) -> None:  # noqa: ANN401  # as above
    """Write the two files of the adapter, and let the folder appear at once.

    Raises:
        TrainingDiverged: If the adapter changes nothing, or holds what is no number.
    """
    factors = {name: value for name, value in model.named_parameters() if "lora_" in name}
    if not all(torch.isfinite(value).all() for value in factors.values()):
        raise TrainingDiverged("the adapter holds infinities or NaN")
    if not any(value.any() for name, value in factors.items() if "lora_B" in name):
        raise TrainingDiverged("the adapter is all zeros after training")
    written, finished = partial / "written", partial / "finished"
    for folder in (written, finished):
        shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(written)
    finished.mkdir()
    config = parse_config((written / CONFIG).read_bytes()) | {"base_model_name_or_path": base}
    (finished / CONFIG).write_bytes(canonical_config(config))
    (written / WEIGHTS).rename(finished / WEIGHTS)
    for name in (CONFIG, WEIGHTS):
        _sync(finished / name)
    shutil.rmtree(out, ignore_errors=True)
    finished.rename(out)
    shutil.rmtree(partial)


def _sync(path: Path) -> None:
    """Bring a file to the disk before a name promises it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _figures(history: Sequence[Mapping[str, float]], method: Method) -> dict[str, Any]:
    """Take the report's figures from what was logged of each step."""
    steps = [entry for entry in history if "loss" in entry]
    tenth = max(1, len(steps) // 10)
    margins = [entry["rewards/margins"] for entry in steps if "rewards/margins" in entry]
    kls = [entry["kl"] for entry in steps if "kl" in entry]
    return {
        "first_loss": _mean([entry["loss"] for entry in steps[:tenth]]),
        "last_loss": _mean([entry["loss"] for entry in steps[-tenth:]]),
        "reward_margin": _mean(margins[-tenth:]) if margins else None,
        "kl_share": (
            _mean([float(kl > 0) for kl in kls]) if kls and method is Method.KTO else None
        ),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
