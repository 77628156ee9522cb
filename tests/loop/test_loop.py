"""The steps of a run, over an embedded log and parts that need no GPU."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feedbackloop.dataset.filesystem import FolderSnapshots
from feedbackloop.dataset.snapshot import Options
from feedbackloop.errors import RunError
from feedbackloop.evaluation.finding import Rules
from feedbackloop.events import AnyEvent, RunId
from feedbackloop.log.memory import MemoryEventLog
from feedbackloop.loop import (
    Bench,
    Planning,
    Terms,
    judge_candidate,
    take_snapshot,
    train_candidate,
)
from feedbackloop.promotion.filesystem import FolderAdapters
from feedbackloop.training.artefact import digest
from feedbackloop.training.planner import Limits
from feedbackloop.training.run import Run, RunState
from tests.builders import ALIAS, NOON, TENANT, voted
from tests.fakes import FakeTrainer, WishfulEvaluator

PLANNING = Planning(limits=Limits(min_pairs=500, min_minority=20, max_rank=16), configured={})
OPTIONS = Options(
    alias=ALIAS,
    until=NOON + timedelta(days=1),
    window_seconds=30 * 86_400,
    watermark_seconds=600,
    min_confidence=0.6,
    max_rows_per_user=20,
    max_ratio=2.0,
    holdout_share=0.5,
)
SECRET = b"0" * 32


def a_run(**changes: Any) -> Run:
    values: dict[str, Any] = {
        "run": RunId("run-2026-03-05-aaaaaa"),
        "alias": ALIAS,
        "slot": "first",
        "state": RunState.SNAPSHOT,
        "attempt": 1,
        "version": 1,
        "epoch": 1,
        "reason": "",
        "recipe": {},
        "created_at": OPTIONS.until,
        "changed_at": OPTIONS.until,
        "facts": {},
    }
    return Run(**values | changes)


async def snapshot_of(
    events: Sequence[AnyEvent], store: FolderSnapshots, run: Run | None = None
) -> dict[str, Any]:
    log = MemoryEventLog("sidecar-0")
    if events:
        await log.append(events)
    return await take_snapshot(
        run or a_run(),
        event_log=log,
        snapshots=store,
        options=OPTIONS,
        holdouts={TENANT: SECRET},
        planning=PLANNING,
    )


async def test_a_snapshot_says_what_to_train_and_why(tmp_path: Path) -> None:
    """Everything the next steps need is in the facts, and small enough for a database."""
    store = FolderSnapshots(tmp_path)

    facts = await snapshot_of(voted(120), store)

    assert store.digests() == [facts["digest"]]
    assert facts["recipe"]["method"] == "kto"
    assert "suffice" in facts["reason"]
    assert "refused" not in facts
    assert len(msgspec.json.encode(facts)) < 10_000


async def test_the_same_log_gives_the_same_facts(tmp_path: Path) -> None:
    """A step that was killed and tried again must not choose another snapshot."""
    first = await snapshot_of(voted(120), FolderSnapshots(tmp_path))

    again = await snapshot_of(voted(120) * 2, FolderSnapshots(tmp_path))

    assert again == first


@pytest.mark.parametrize("people", [0, 10])
async def test_too_little_to_train_refuses_the_run_in_good_order(
    tmp_path: Path, people: int
) -> None:
    """Nothing broke: the run ends with the numbers, and nobody is called at night."""
    facts = await snapshot_of(voted(people), FolderSnapshots(tmp_path))

    assert facts["refused"] is True
    assert facts["reason"].startswith("Nothing to train")


async def test_a_run_may_train_on_an_earlier_snapshot(tmp_path: Path) -> None:
    """To compare two recipes, the rows have to be the same."""
    store = FolderSnapshots(tmp_path)
    earlier = await snapshot_of(voted(120), store)
    run = a_run(recipe={"snapshot": earlier["digest"], "beta": 0.4})

    facts = await snapshot_of([], store, run)

    assert facts["digest"] == earlier["digest"]
    assert facts["recipe"]["beta"] == 0.4


async def test_an_unknown_snapshot_ends_the_run(tmp_path: Path) -> None:
    """Training on another one in its place would be worse."""
    with pytest.raises(RunError, match="cannot be read"):
        await snapshot_of([], FolderSnapshots(tmp_path), a_run(recipe={"snapshot": "f" * 64}))


def a_bench(tmp_path: Path) -> Bench:
    return Bench(base="tiny", out=tmp_path / "adapter", progress=lambda _done, _of: None)


async def test_a_candidate_is_trained_on_the_snapshots_rows_and_stored(tmp_path: Path) -> None:
    """The digest in the facts is all that later steps know of the adapter."""
    store = FolderSnapshots(tmp_path / "snapshots")
    adapters = FolderAdapters(tmp_path / "adapters", digest=digest)
    before = await snapshot_of(voted(120), store)
    trainer = FakeTrainer()

    facts = train_candidate(
        a_run(facts={"snapshot": before}),
        trainer=trainer,
        snapshots=store,
        adapters=adapters,
        bench=a_bench(tmp_path),
    )

    assert adapters.digests() == [facts["digest"]]
    assert len(trainer.rows) == before["rows"]["desirable"] + before["rows"]["undesirable"]
    assert set(trainer.rows[0]) >= {"prompt", "completion", "label", "weight"}
    assert "KTO on" in facts["reason"]


async def test_a_run_without_a_recipe_cannot_train(tmp_path: Path) -> None:
    """The scheduler refused it, unless it has a bug."""
    store = FolderSnapshots(tmp_path / "snapshots")
    before = await snapshot_of([], store)

    with pytest.raises(RunError, match="has no recipe"):
        train_candidate(
            a_run(facts={"snapshot": before}),
            trainer=FakeTrainer(),
            snapshots=store,
            adapters=FolderAdapters(tmp_path / "adapters", digest=digest),
            bench=a_bench(tmp_path),
        )


@pytest.mark.parametrize(("better", "refused"), [(True, None), (False, True)])
async def test_a_candidate_passes_only_if_it_pleases_held_out_people(
    tmp_path: Path, *, better: bool, refused: bool | None
) -> None:
    """The verdict decides whether anyone meets it, and its reason is what people read."""
    store = FolderSnapshots(tmp_path / "snapshots")
    adapters = FolderAdapters(tmp_path / "adapters", digest=digest)
    before = await snapshot_of(voted(200), store)
    run = a_run(facts={"snapshot": before})
    made = train_candidate(
        run,
        trainer=FakeTrainer(),
        snapshots=store,
        adapters=adapters,
        bench=a_bench(tmp_path),
    )

    facts = judge_candidate(
        msgspec.structs.replace(run, facts={"snapshot": before, "train": made}),
        evaluator=WishfulEvaluator(liked="w1" if better else "w2"),
        snapshots=store,
        adapters=adapters,
        terms=Terms(incumbent="", suites=(), rules=Rules(draws=200), max_rows=400),
    )

    assert facts.get("refused") is refused
    assert facts["inputs"]["candidate"] == made["digest"]
    assert facts["inputs"]["incumbent"] == "base"
    assert facts["reason"]
