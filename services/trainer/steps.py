"""The steps of a run that are processes: settings and ports in, facts out."""

import asyncio
import time
from typing import assert_never

from feedbackloop.dataset.snapshot import Options
from feedbackloop.errors import RunError, SettingsError
from feedbackloop.evaluation.finding import Rules
from feedbackloop.loop import (
    Bench,
    Facts,
    Planning,
    Terms,
    judge_candidate,
    take_snapshot,
    train_candidate,
)
from feedbackloop.training.planner import Limits
from feedbackloop.training.port import Attempt
from feedbackloop.training.run import Run, RunState
from services import keyring, wiring
from services.settings import Settings

ADAPTER = "adapter"
PARTIAL = "adapter.partial"


def perform(settings: Settings, run: Run, step: RunState, attempt: Attempt) -> Facts:
    """Do one step of a run and return its facts.

    Raises:
        FeedbackLoopError: As the step's function in ``loop.py`` says.
        RunError: If the step is none that is a process.
    """
    began = time.perf_counter()
    match step:
        case RunState.SNAPSHOT:
            facts = asyncio.run(_snapshot(settings, run))
        case RunState.TRAIN:
            facts = _train(settings, run, attempt)
        case RunState.EVALUATE:
            facts = asyncio.run(_evaluate(settings, run))
        case RunState.CANARY | RunState.PROMOTED | RunState.REFUSED:
            raise RunError(f"{step} is no step of the trainer's")
        case RunState.FAILED | RunState.CANCELLED:
            raise RunError(f"{step} is no step of the trainer's")
        case _:
            assert_never(step)
    return facts | {"seconds": round(time.perf_counter() - began, 3)}


async def _snapshot(settings: Settings, run: Run) -> Facts:
    dataset = settings.dataset
    event_log = wiring.open_log(settings, partition=None)
    try:
        return await take_snapshot(
            run,
            event_log=event_log,
            snapshots=wiring.open_snapshots(settings),
            options=Options(
                alias=run.alias,
                # Not now: another attempt has to find the same rows.
                until=run.created_at,
                window_seconds=dataset.window_seconds,
                watermark_seconds=settings.labels.watermark_seconds,
                min_confidence=settings.labels.min_confidence,
                max_rows_per_user=dataset.max_rows_per_user,
                max_ratio=dataset.max_ratio,
                holdout_share=dataset.holdout_share,
                retries=settings.retries.rules(),
                untrained=dataset.untrained_placeholders,
            ),
            holdouts=keyring.holdouts(keyring.load(settings.home)),
            planning=Planning(limits=_limits(settings), configured=_configured(settings)),
        )
    finally:
        await event_log.close()


def _train(settings: Settings, run: Run, attempt: Attempt) -> Facts:
    attempt.inherit(PARTIAL)
    return train_candidate(
        run,
        trainer=wiring.open_trainer(settings),
        snapshots=wiring.open_snapshots(settings),
        adapters=wiring.open_adapters(settings),
        bench=Bench(base=_base(settings), out=attempt.folder / ADAPTER, progress=attempt.advance),
    )


async def _evaluate(settings: Settings, run: Run) -> Facts:
    gate = settings.gate
    document = await wiring.open_releases(settings).get(run.alias)
    return judge_candidate(
        run,
        evaluator=wiring.open_evaluator(settings),
        snapshots=wiring.open_snapshots(settings),
        adapters=wiring.open_adapters(settings),
        terms=Terms(
            incumbent=document.stable.digest,
            suites=wiring.load_suites(settings),
            rules=Rules(
                alpha=gate.alpha,
                preference_margin=gate.preference_margin,
                perplexity_margin=gate.perplexity_margin,
                length_margin=gate.length_margin,
                degenerate_margin=gate.degenerate_margin,
                drift_nats=gate.drift_nats,
                min_clusters=gate.min_units,
            ),
            max_rows=gate.max_holdout_rows,
            max_prompts=gate.max_prompts,
            max_tokens=gate.max_tokens,
        ),
    )


def _base(settings: Settings) -> str:
    base = settings.training.base or settings.vllm.model
    if not base:
        raise SettingsError("FEEDBACKLOOP_VLLM__MODEL names no base to train on")
    return base


def _limits(settings: Settings) -> Limits:
    return Limits(
        min_pairs=settings.training.min_pairs,
        min_minority=settings.training.min_minority_labels,
        max_rank=settings.vllm.max_lora_rank,
    )


def _configured(settings: Settings) -> dict[str, dict[str, object]]:
    return {method: dict(recipe) for method, recipe in settings.training.recipes.items()}
