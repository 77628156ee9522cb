"""What the loop asks of a trainer, of a launcher of steps, and of the table of runs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec

from feedbackloop.events import Alias, RunId
from feedbackloop.training.recipe import Recipe
from feedbackloop.training.run import Run, RunState


class TrainingReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one training did.

    Attributes:
        method: KTO or DPO.
        rows: Training rows after the trainer's own filters.
        steps: Optimiser steps.
        seconds: Wall time of training, set-up apart.
        setup_seconds: Wall time before the first step.
        first_loss: Mean loss of the first tenth of the steps.
        last_loss: Mean loss of the last tenth of the steps.
        reward_margin: Mean implicit reward of desirable or chosen less the other, at the end.
        kl_share: KTO: share of logged steps whose KL estimate was above 0.
        tokens: Tokens of training rows, prompts included, all epochs.
        left_out: Rows that were not trained on, by reason.
        resumed_at: The step that a killed attempt's checkpoint let this one begin at; the times
            are of this attempt alone.
    """

    method: str
    rows: int
    steps: int
    seconds: float
    setup_seconds: float
    first_loss: float
    last_loss: float
    reward_margin: float | None
    kl_share: float | None
    tokens: int
    left_out: dict[str, int] = {}
    resumed_at: int = 0


class Trainer(Protocol):
    """Makes an adapter. Blocking: it runs in a process of its own."""

    def train(
        self,
        recipe: Recipe,
        *,
        base: str,
        rows: Sequence[Mapping[str, object]],
        out: Path,
        progress: Callable[[int, int], None],
    ) -> TrainingReport:
        """Train a fresh adapter on ``base``, with the base as reference.

        Args:
            recipe: What to train.
            base: Folder or hub id of the base.
            rows: ``prompt`` (list of messages), ``completion`` (list of one message), ``label``
                and ``weight`` for KTO; ``prompt``, ``chosen``, ``rejected`` for DPO.
            out: Folder to make; on return it holds ``adapter_model.safetensors`` and
                ``adapter_config.json`` and nothing else. A checkpoint of an attempt that was
                killed may lie in ``out`` with the suffix ``.partial``, and is resumed from.
            progress: Called with steps done and steps in all.

        Raises:
            TrainingDiverged: If the loss is not finite or the adapter stayed all zeros.
            RunError: If the rows cannot be trained on; the message says why.
        """
        ...


class StepStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a launcher knows of a step's attempt.

    Attributes:
        state: ``running``, ``done``, ``failed``, or ``missing`` if nothing is known of it.
        result: What the step wrote as its result, if it is done.
        reason: Why it failed, in plain words.
        retryable: Whether another attempt could help (killed, out of memory), if it failed.
        progress: Share done, in [0, 1], if the step says so.
    """

    state: str
    result: dict[str, object] | None = None
    reason: str | None = None
    retryable: bool = False
    progress: float | None = None


class Launcher(Protocol):
    """Runs the steps of runs as processes that outlive the scheduler.

    The name of an attempt is (run, step, attempt): starting it twice starts it once.
    """

    async def start(self, run: RunId, step: RunState, *, attempt: int) -> None:
        """Start the attempt, or adopt it if it exists already."""
        ...

    async def status(self, run: RunId, step: RunState, *, attempt: int) -> StepStatus:
        """Say how the attempt is doing."""
        ...

    async def stop(self, run: RunId, step: RunState, *, attempt: int) -> None:
        """End the attempt if it runs; no error if it does not."""
        ...


class Attempt(Protocol):
    """What one attempt at a step says about itself, as the step's own process sees it."""

    @property
    def folder(self) -> Path:
        """Where the attempt keeps its files."""
        ...

    def claim(self) -> AbstractContextManager[None]:
        """Wait until no other attempt works on this run; ours until left, or the process ends."""
        ...

    def inherit(self, name: str) -> None:
        """Take over what an earlier attempt at the step left under ``name``, if one did."""
        ...

    def advance(self, done: int, of: int) -> None:
        """Say how far it is."""
        ...

    def finish(self, facts: Mapping[str, object]) -> None:
        """Leave the step's facts as its result."""
        ...

    def fail(self, reason: str, *, retryable: bool) -> None:
        """Leave as the result why there are no facts."""
        ...


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Leadership for a while. Every change of state is made under its epoch."""

    owner: str
    epoch: int
    expires_at: datetime


class Runs(Protocol):
    """Runs and the leader's lease, in one database.

    Promises, held by ``tests/contracts/test_runs.py``: at most one unexpired lease; the epoch
    grows with each new holder; a change under a stale epoch or version moves nothing.
    An epoch is stale as soon as somebody else has taken the lease under a higher one.
    """

    async def acquire(self, owner: str, *, now: datetime, seconds: float) -> Lease | None:
        """Take or renew the lease; None if somebody else holds it."""
        ...

    async def resign(self, lease: Lease) -> None:
        """Let the next one lead at once; no effect if the lease is lost already."""
        ...

    async def create(self, run: Run) -> Run:
        """Insert ``run``, or return the run that has its (alias, slot) already.

        Raises:
            StaleEpoch: If the epoch of ``run`` is stale.
        """
        ...

    async def get(self, run: RunId) -> Run | None:
        """Return one run."""
        ...

    async def list(self, alias: Alias | None = None, *, limit: int = 100) -> Sequence[Run]:
        """Return runs, newest first."""
        ...

    async def unfinished(self, alias: Alias) -> Sequence[Run]:
        """Return every run of an alias that has not ended, oldest first."""
        ...

    async def replace(self, before: Run, after: Run) -> Run:
        """Write ``after`` over ``before`` and return it with its version grown.

        Raises:
            StaleEpoch: If the stored version is not ``before.version``, or ``after.epoch`` is
                stale.
            ValueError: If the move is not legal.
        """
        ...
