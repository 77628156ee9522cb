"""One turn of the loop, step by step over ports: from the log's entries to a verdict.

Each step takes a run and returns its facts: a small JSON object that the scheduler keeps under
the step's name and the next steps read. ``reason`` is a sentence for people; ``refused`` is
there and true if the run ends here, in good order.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from feedbackloop.dataset.port import Snapshots
from feedbackloop.dataset.snapshot import Manifest, Options, Snapshot, build
from feedbackloop.dataset.split import Holdouts
from feedbackloop.errors import RecordError, RunError
from feedbackloop.evaluation.finding import Rules
from feedbackloop.evaluation.gate import judge
from feedbackloop.evaluation.measure import Scope, measure
from feedbackloop.evaluation.port import Evaluator
from feedbackloop.evaluation.suite import Suite
from feedbackloop.evaluation.verdict import Outcome, Verdict
from feedbackloop.labels.gather import Gathering
from feedbackloop.labels.tally import Counts
from feedbackloop.log.port import EventLog, Offset
from feedbackloop.promotion.port import Adapters
from feedbackloop.training.planner import Limits, Plan, plan
from feedbackloop.training.port import Trainer, TrainingReport
from feedbackloop.training.recipe import Method, Recipe
from feedbackloop.training.run import Run

Facts = dict[str, Any]

_GIVEN = "snapshot"
"""The field of a run's recipe that names a snapshot to train on instead of a new one."""


class Planning(msgspec.Struct, frozen=True, kw_only=True):
    """What the choice of a recipe depends on beside the data.

    Attributes:
        limits: How little is too little.
        configured: Fields that differ from the recipes' defaults, by method.
    """

    limits: Limits
    configured: Mapping[str, Mapping[str, object]]


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """Where and on what a training works.

    Attributes:
        base: Folder or hub id of the base.
        out: Folder to make; see ``Trainer.train``.
        progress: Called with steps done and steps in all.
    """

    base: str
    out: Path
    progress: Callable[[int, int], None]


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate is held to.

    Attributes:
        incumbent: Digest of the stable adapter; empty for the base.
        suites: Suites of the operator.
        rules: Margins and error probabilities.
        max_rows: Most held-out rows, and most pairs, that are scored.
        max_prompts: Most held-out prompts that both policies answer.
        max_tokens: Longest completion of a held-out prompt.
    """

    incumbent: str
    suites: Sequence[Suite]
    rules: Rules
    max_rows: int
    max_prompts: int = 200
    max_tokens: int = 256


async def take_snapshot(
    run: Run,
    *,
    event_log: EventLog,
    snapshots: Snapshots,
    options: Options,
    holdouts: Holdouts,
    planning: Planning,
) -> Facts:
    """Fix what a run trains on and is judged by, and choose its recipe.

    Args:
        run: Its recipe's ``snapshot``, if there, names one to use again.
        event_log: Read from its beginning.
        snapshots: Where it is stored.
        options: What it depends on beside the log.
        holdouts: Hold people out.
        planning: What the choice of the recipe depends on.

    Raises:
        LogUnavailable: If the log does not answer, or has lost its beginning.
        RunError: If the run names a snapshot that is not there.
        SettingsError: If a recipe names a field that does not exist.
    """
    given = run.recipe.get(_GIVEN)
    unreadable = 0
    if given is None:
        gathering, unreadable = await _read(event_log)
        snapshot = build(gathering, options, holdouts=holdouts)
        digest, manifest = snapshots.put(snapshot), snapshot.manifest
    else:
        digest = str(given)
        manifest = snapshots.manifest(digest)
    planned = plan(
        _counts(manifest),
        planning.limits,
        configured=planning.configured,
        asked={field: value for field, value in run.recipe.items() if field != _GIVEN},
    )
    return _snapshot_facts(digest, manifest, planned) | {"unreadable": unreadable}


def train_candidate(
    run: Run, *, trainer: Trainer, snapshots: Snapshots, adapters: Adapters, bench: Bench
) -> Facts:
    """Train the planned recipe on the run's snapshot, and store the adapter.

    Raises:
        RunError: If the rows cannot be trained on, the training diverged, or the adapter breaks
            a rule.
    """
    before = run.facts["snapshot"]
    if before.get("recipe") is None:
        raise RunError(f"{run.run} has no recipe: {before.get('reason')}")
    recipe = msgspec.convert(before["recipe"], Recipe)
    snapshot = snapshots.get(str(before["digest"]))
    report = trainer.train(
        recipe,
        base=bench.base,
        rows=_rows(snapshot, recipe.method),
        out=bench.out,
        progress=bench.progress,
    )
    digest = adapters.put(bench.out)
    return {
        "digest": digest,
        "report": msgspec.to_builtins(report),
        "reason": _trained(report, digest),
    }


def judge_candidate(
    run: Run, *, evaluator: Evaluator, snapshots: Snapshots, adapters: Adapters, terms: Terms
) -> Facts:
    """Hold the run's adapter against the incumbent, on people whom it was not trained on.

    Raises:
        RunError: If snapshot or adapter are missing, or were changed.
    """
    candidate = str(run.facts["train"]["digest"])
    digest = str(run.facts["snapshot"]["digest"])
    snapshot = snapshots.get(digest)
    measured = measure(
        evaluator,
        candidate=adapters.path(candidate),
        incumbent=adapters.path(terms.incumbent) if terms.incumbent else None,
        scope=Scope(
            rows=snapshot.held_out_kto,
            pairs=snapshot.held_out_dpo,
            suites=terms.suites,
            max_rows=terms.max_rows,
            max_prompts=terms.max_prompts,
            max_tokens=terms.max_tokens,
        ),
    )
    inputs = {"candidate": candidate, "incumbent": terms.incumbent or "base", "snapshot": digest}
    return _verdict_facts(judge(measured, terms.rules, inputs=inputs))


async def _read(event_log: EventLog) -> tuple[Gathering, int]:
    """Gather every partition from its beginning; count the records that cannot be read."""
    gathering, unreadable = Gathering(), 0
    for partition in await event_log.partitions():
        async for entry in event_log.read(after=Offset(partition, -1)):
            if isinstance(entry.event, RecordError):
                unreadable += 1
            else:
                gathering.add(entry.event)
    return gathering, unreadable


def _counts(manifest: Manifest) -> Counts:
    return Counts(
        desirable=manifest.rows["desirable"],
        undesirable=manifest.rows["undesirable"],
        pairs=manifest.rows["pairs"],
    )


def _snapshot_facts(digest: str, manifest: Manifest, planned: Plan) -> Facts:
    facts: Facts = {
        "digest": digest,
        "reason": planned.why,
        "recipe": None if planned.recipe is None else msgspec.to_builtins(planned.recipe),
        "until": manifest.options.until.isoformat(),
        "rows": manifest.rows,
        "held_out": manifest.held_out,
        "left_out": manifest.left_out,
        "completeness": msgspec.to_builtins(manifest.completeness),
    }
    return facts if planned.recipe is not None else facts | {"refused": True}


def _rows(snapshot: Snapshot, method: Method) -> list[dict[str, Any]]:
    rows = snapshot.kto if method is Method.KTO else snapshot.dpo
    return [msgspec.structs.asdict(row) for row in rows]


def _trained(report: TrainingReport, digest: str) -> str:
    left_out = sum(report.left_out.values())
    return (
        f"{report.method.upper()} on {report.rows} rows ({left_out} left out):"
        f" {report.steps} steps in {report.seconds:.0f} s, loss {report.first_loss:.3f} to"
        f" {report.last_loss:.3f}, adapter {digest[:12]}"
    )


def _verdict_facts(verdict: Verdict) -> Facts:
    facts: Facts = msgspec.to_builtins(verdict)
    return facts if verdict.outcome is Outcome.PASS else facts | {"refused": True}
