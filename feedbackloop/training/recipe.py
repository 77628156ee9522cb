"""What to train: method, LoRA shape and hyperparameters. Numbers from docs/training.md."""

from enum import StrEnum

import msgspec


class Method(StrEnum):
    """How preferences become a loss."""

    KTO = "kto"
    DPO = "dpo"


class LoraShape(msgspec.Struct, frozen=True, kw_only=True):
    """The adapter's form. One rank for all rounds, so that serving needs one setting.

    Attributes:
        rank: One of vLLM's ranks: 1, 8, 16, 32, 64, 128, 256, 320, 512.
        alpha: Scale: the update is multiplied by ``alpha / rank``.
        dropout: Share of adapter inputs dropped in training, in [0, 1).
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Everything beside the data and the base that a training run depends on.

    Attributes:
        method: KTO or DPO.
        lora: The adapter's form.
        learning_rate: Peak of the cosine schedule.
        beta: Pull towards the reference; higher stays closer.
        epochs: Passes over the rows; each in another order.
        batch_size: Rows in one optimiser step.
        micro_batch_size: Rows in one forward pass; for KTO the batch that estimates the KL.
        nll_weight: Weight of the NLL term on chosen completions, beside DPO's 1.
        warmup_share: Share of the steps in which the learning rate rises, in [0, 1).
        max_length: Longest prompt and completion together, in tokens; longer rows are left out.
        max_grad_norm: Gradient norm above which gradients are scaled down.
        seed: Of the row order and the adapter's initial weights.
    """

    method: Method
    lora: LoraShape = LoraShape()
    learning_rate: float = 1e-5
    beta: float = 0.2
    epochs: int = 1
    batch_size: int = 32
    micro_batch_size: int = 32
    nll_weight: float = 0.0
    warmup_share: float = 0.05
    max_length: int = 2048
    max_grad_norm: float = 1.0
    seed: int = 0
