"""Whole turns of the loop: votes go in, and what people are answered by changes, or does not.

The scheduler, the steps, the snapshots, the adapters, the gate and the sidecar's converger are
the real ones. Training, scoring and vLLM are played, and so is time.
"""

from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from feedbackloop.dataset.filesystem import FolderSnapshots
from feedbackloop.dataset.snapshot import Options
from feedbackloop.errors import FeedbackLoopError
from feedbackloop.evaluation.finding import Rules
from feedbackloop.events import BASE, ReleaseChanged, ReleaseName, RunChanged, RunId
from feedbackloop.log.memory import MemoryEventLog
from feedbackloop.loop import (
    Bench,
    Facts,
    Planning,
    Terms,
    judge_candidate,
    take_snapshot,
    train_candidate,
)
from feedbackloop.promotion import changes
from feedbackloop.promotion.filesystem import FolderAdapters
from feedbackloop.promotion.release import decode
from feedbackloop.serving.memory import MemoryPolicyServer
from feedbackloop.training.artefact import digest
from feedbackloop.training.planner import Limits
from feedbackloop.training.port import StepStatus
from feedbackloop.training.run import Run, RunState
from services.scheduler.sidecars import SidecarReport
from services.scheduler.traces import Traces
from services.sidecar import converger
from services.sidecar.converger import Converger
from services.sidecar.router import Router
from tests.builders import ALIAS, TENANT, voted
from tests.fakes import FakeTrainer, WishfulEvaluator
from tests.services.scheduler.world import World

_SECRET = b"0" * 32
_TURN = 14


class Steps:
    """Runs the steps of runs where it stands: a launcher whose processes end at once."""

    def __init__(self, world: World, folder: Path, *, liked: str) -> None:
        self.snapshots = FolderSnapshots(folder / "snapshots")
        self.adapters = FolderAdapters(folder / "adapters", digest=digest)
        self._world = world
        self._folder = folder
        self._evaluator = WishfulEvaluator(liked=liked, says="w1")
        self._done: dict[tuple[RunId, RunState, int], StepStatus] = {}

    async def start(self, run: RunId, step: RunState, *, attempt: int) -> None:
        if (run, step, attempt) in self._done:
            return
        known = await self._world.runs.get(run)
        assert known is not None
        work: dict[RunState, Callable[[Run], Coroutine[None, None, Facts]]] = {
            RunState.SNAPSHOT: self._snapshot,
            RunState.TRAIN: self._train,
            RunState.EVALUATE: self._evaluate,
        }
        try:
            status = StepStatus(state="done", result=await work[step](known))
        except FeedbackLoopError as error:
            status = StepStatus(state="failed", reason=str(error))
        self._done[run, step, attempt] = status

    async def status(self, run: RunId, step: RunState, *, attempt: int) -> StepStatus:
        return self._done.get((run, step, attempt), StepStatus(state="missing"))

    async def stop(self, run: RunId, step: RunState, *, attempt: int) -> None:
        pass

    async def _snapshot(self, run: Run) -> Facts:
        return await take_snapshot(
            run,
            event_log=MemoryEventLog(None, self._world.store),
            snapshots=self.snapshots,
            options=Options(
                alias=ALIAS,
                until=run.created_at,
                window_seconds=30 * 86_400,
                watermark_seconds=600,
                min_confidence=0.6,
                max_rows_per_user=20,
                max_ratio=2.0,
                holdout_share=0.5,
            ),
            holdouts={TENANT: _SECRET},
            planning=Planning(
                limits=Limits(min_pairs=1000, min_minority=20, max_rank=16), configured={}
            ),
        )

    async def _train(self, run: Run) -> Facts:
        return train_candidate(
            run,
            trainer=FakeTrainer(),
            snapshots=self.snapshots,
            adapters=self.adapters,
            bench=Bench(base="tiny", out=self._folder / run.run, progress=lambda _done, _of: None),
        )

    async def _evaluate(self, run: Run) -> Facts:
        return judge_candidate(
            run,
            evaluator=self._evaluator,
            snapshots=self.snapshots,
            adapters=self.adapters,
            terms=Terms(incumbent="", suites=(), rules=Rules(draws=200), max_rows=400),
        )


class Sidecar:
    """A sidecar's converger and router before a vLLM that says what the gate saw."""

    def __init__(self, world: World, adapters: FolderAdapters, folder: Path) -> None:
        self.router = Router({ALIAS: "base"})
        self.server = MemoryPolicyServer()
        self._world = world
        self._converger = Converger(
            converger.Terms(capacity=3, tolerance=0.1, converge_seconds=1, reprove_seconds=300),
            topic=world.topic,
            server=self.server,
            adapters=adapters,
            router=self.router,
            bases={ALIAS: "base"},
            kept=folder / "documents.jsonl",
        )

    async def follow(self) -> None:
        """Converge once, on a vLLM that applies adapters as it should."""
        for raw in (await self._world.topic.latest()).values():
            document = decode(raw)
            for release in (document.stable, document.canary):
                for probe in release.probes if release is not None else ():
                    self.server.logps["base", probe.completion] = probe.base_logp
                    if release is not None:
                        self.server.logps[release.name, probe.completion] = probe.logp
        await self._converger.converge()

    async def reports(self) -> Sequence[SidecarReport]:
        said = {"sidecar": "sidecar-0", "aliases": self._converger.report()}
        return [msgspec.convert(said, SidecarReport)]

    def answers(self) -> ReleaseName:
        """Return the release that answers most people."""
        return self.router.table[ALIAS].stable.release


class House:
    """Everything on one machine, one moment at a time."""

    def __init__(self, folder: Path, *, liked: str = "w1") -> None:
        self.world = World()
        self.steps = Steps(self.world, folder, liked=liked)
        self.world.steps = self.steps
        self.sidecar = Sidecar(self.world, self.steps.adapters, folder)
        self.world.reports = self.sidecar

    async def turn(self, *, dies: bool = False) -> Run:
        """Let time pass until a run that is due has ended; return it."""
        jobs = self.world.scheduler()
        for n in range(_TURN):
            if dies:
                self.world.time += timedelta(seconds=61)
                jobs = self.world.scheduler(f"process-{n}")
            await jobs.tick()
            await self.sidecar.follow()
            self.world.time += timedelta(seconds=15)
        return await self.world.only_run()


@pytest.mark.parametrize("dies", [False, True])
async def test_people_vote_and_are_answered_by_a_better_adapter(
    tmp_path: Path, *, dies: bool
) -> None:
    """The whole house is for this; and a scheduler that dies at every turn does not stop it."""
    house = House(tmp_path)
    await house.world.say(voted(200))

    run = await house.turn(dies=dies)

    assert run.state is RunState.PROMOTED, run.reason
    document = await house.world.document()
    assert house.sidecar.answers() == document.stable.name != BASE
    assert document.stable.digest in house.steps.adapters.digests()
    assert document.stable.probes
    assert run.facts["canary"]["convergence_seconds"] is not None


async def test_a_candidate_that_people_would_not_like_is_never_loaded(tmp_path: Path) -> None:
    """Its training looked fine; its verdict says in words why nobody met it."""
    house = House(tmp_path, liked="w2")
    await house.world.say(voted(200))

    run = await house.turn()

    assert run.state is RunState.REFUSED
    assert run.reason == run.facts["evaluate"]["reason"]
    assert run.facts["evaluate"]["outcome"] in {"fail", "insufficient"}
    assert house.sidecar.answers() == BASE
    assert house.sidecar.server.calls == []


async def test_a_rollback_reaches_what_answers_and_the_adapter_never_comes_back(
    tmp_path: Path,
) -> None:
    """An operator sees what no measure saw."""
    house = House(tmp_path)
    await house.world.say(voted(200))
    await house.turn()
    jobs = house.world.scheduler()
    await jobs.tick()
    assert jobs.lease is not None

    after = await jobs.publisher.change(
        ALIAS,
        lambda document: changes.rollback(document, by="ann", why="it is rude"),
        lease_epoch=jobs.lease.epoch,
    )
    await house.sidecar.follow()

    assert not isinstance(after, changes.Refused)
    assert house.sidecar.answers() == BASE
    assert len(after.quarantined) == 1


async def test_a_vote_is_followed_to_the_adapter_that_it_made(tmp_path: Path) -> None:
    """Promise 7: from a completion to its signals, label, snapshot, run and release."""
    house = House(tmp_path)
    await house.world.say(voted(200))
    run = await house.turn()
    jobs = house.world.scheduler()
    await jobs.tick()
    snapshot = house.steps.snapshots.get(str(run.facts["snapshot"]["digest"]))

    traces = Traces(jobs.follower.gathering, house.steps.snapshots, house.world.runs)
    trace = await traces.of(snapshot.kto[0].completion_id)

    assert trace is not None
    assert trace["runs"] == [{"run": run.run, "state": "promoted"}]
    assert trace["releases"] == [(await house.world.document()).stable.name]


async def test_everything_that_happened_is_in_the_log(tmp_path: Path) -> None:
    """Whoever reads the log alone can tell the story."""
    house = House(tmp_path)
    await house.world.say(voted(200))

    await house.turn()

    events = await house.world.logged()
    moves = [(one.before, one.after) for one in events if isinstance(one, RunChanged)]
    assert moves == [
        ("none", "snapshot"),
        ("snapshot", "train"),
        ("train", "evaluate"),
        ("evaluate", "canary"),
        ("canary", "promoted"),
    ]
    assert all(one.why for one in events if isinstance(one, RunChanged | ReleaseChanged))
