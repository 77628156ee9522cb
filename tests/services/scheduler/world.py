"""A scheduler in a world of fakes: time, steps and sidecars do what the test says."""

import inspect
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from feedbackloop.errors import RecordError
from feedbackloop.events import AnyEvent, RunId, UserId
from feedbackloop.labels.tally import Tally
from feedbackloop.log.memory import MemoryEventLog, MemoryReleaseTopic
from feedbackloop.log.port import Offset
from feedbackloop.promotion.canary import Rule
from feedbackloop.promotion.memory import MemoryReleases
from feedbackloop.promotion.release import ReleaseDocument, decode
from feedbackloop.training.memory import MemoryRuns
from feedbackloop.training.planner import Limits
from feedbackloop.training.port import Launcher, Runs, StepStatus
from feedbackloop.training.run import Run, RunState
from services.scheduler.follower import Follower
from services.scheduler.jobs import Jobs, Plan
from services.scheduler.journal import Journal
from services.scheduler.publisher import Publisher
from services.scheduler.rollout import Policy, Rollouts
from services.scheduler.sidecars import AliasReport, ReleaseReport, SidecarReport, Sidecars
from tests.builders import ALIAS, NOON, a_completion, a_retry, a_thumb

DIGEST = "ab" * 32
RESULTS: dict[RunState, dict[str, object]] = {
    RunState.SNAPSHOT: {"digest": "cd" * 32, "reason": "40 rows"},
    RunState.TRAIN: {"digest": DIGEST, "reason": "trained"},
    RunState.EVALUATE: {"reason": "passed", "probes": []},
}


class FakeLauncher:
    """Steps that are done as soon as they are started, unless told otherwise."""

    def __init__(self) -> None:
        self.started: list[tuple[RunId, RunState, int]] = []
        self.stopped: list[tuple[RunId, RunState, int]] = []
        self.says: dict[RunState, list[StepStatus]] = {}

    async def start(self, run: RunId, step: RunState, *, attempt: int) -> None:
        if (run, step, attempt) not in self.started:
            self.started.append((run, step, attempt))

    async def status(self, run: RunId, step: RunState, *, attempt: int) -> StepStatus:
        if (run, step, attempt) not in self.started:
            return StepStatus(state="missing")
        told = self.says.get(step)
        if told:
            return told.pop(0)
        return StepStatus(state="done", result=RESULTS[step])

    async def stop(self, run: RunId, step: RunState, *, attempt: int) -> None:
        self.stopped.append((run, step, attempt))


class FakeSidecars:
    """One sidecar that follows the topic at once, unless told to fail."""

    def __init__(self, topic: MemoryReleaseTopic) -> None:
        self._topic = topic
        self.failing: str | None = None

    async def reports(self) -> Sequence[SidecarReport]:
        aliases = {}
        for alias, raw in (await self._topic.latest()).items():
            document = decode(raw)
            state = ReleaseReport(state="proven")
            if self.failing is not None:
                state = ReleaseReport(state="failed", reason=self.failing)
            canary = document.canary
            aliases[alias] = AliasReport(
                epoch=document.epoch,
                stable=document.stable.name,
                canary=canary.name if canary is not None else None,
                canary_share=document.canary_share,
                releases={} if canary is None else {canary.name: state},
            )
        return [SidecarReport(sidecar="sidecar-0", aliases=aliases)]


class Died(BaseException):
    """The process was killed: nothing in it may catch this."""


class Fuse:
    """Kills a scheduler at its n-th step towards the outside: before a call or after it."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def burn(self) -> None:
        if self.left <= 0:
            raise Died
        self.left -= 1


class Mortal:
    """Something outside, reached by a process that its fuse may kill around every call."""

    def __init__(self, inner: object, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if not inspect.iscoroutinefunction(attribute):
            return attribute

        async def call(*args: Any, **named: Any) -> Any:
            self._fuse.burn()
            result = await attribute(*args, **named)
            self._fuse.burn()
            return result

        return call


class World:
    """Everything that outlives a scheduler, and the way to make one."""

    def __init__(self, *, canary: bool = False) -> None:
        self.time = NOON + timedelta(hours=1)
        self.runs: Runs = MemoryRuns()
        self.launcher = FakeLauncher()
        self.steps: Launcher = self.launcher
        """What schedulers start steps with; a test may put another launcher here."""
        self.releases = MemoryReleases()
        self.topic = MemoryReleaseTopic()
        self.store: dict[str, list[bytes]] = {}
        self.sidecars = FakeSidecars(self.topic)
        self.reports: Sidecars = self.sidecars
        """Whom schedulers ask what is served; a test may put others here."""
        self.canary = canary

    def now(self) -> datetime:
        return self.time

    def scheduler(self, owner: str = "one", *, fuse: Fuse | None = None) -> Jobs:
        """Make a scheduler as a new process would: with nothing but what is kept outside."""

        def reach(inner: object) -> Any:
            return inner if fuse is None else Mortal(inner, fuse)

        log = reach(MemoryEventLog("scheduler", self.store))
        tally = Tally(
            watermark=timedelta(minutes=10), counted=lambda _: True, usable=lambda _: True
        )
        journal = Journal(log)
        follower = Follower(log, tally, journal, now=self.now)
        publisher = Publisher(reach(self.releases), reach(self.topic), journal, now=self.now)
        rule = Rule(shares=(0.5,), dwell_seconds=0, min_units=20, margin=0.2)
        policy = Policy(enabled=self.canary, rule=rule, maturity_seconds=0)
        return Jobs(
            Plan(
                aliases=(ALIAS,),
                owner=owner,
                lease_seconds=60,
                limits=Limits(min_pairs=1000, min_minority=20, max_rank=16),
                rest_seconds=3600,
                max_attempts=3,
                automatic=True,
            ),
            runs=reach(self.runs),
            launcher=reach(self.steps),
            follower=follower,
            publisher=publisher,
            rollouts=Rollouts(publisher, reach(self.reports), follower, policy, now=self.now),
            journal=journal,
            now=self.now,
        )

    async def say(self, events: Sequence[AnyEvent]) -> None:
        """Let a sidecar log events."""
        await MemoryEventLog("sidecar-0", self.store).append(events)

    async def people_vote(self, count: int = 20) -> None:
        """Let as many people like a completion as dislike one."""
        for n in range(count):
            good, bad, who = f"good{n}", f"bad{n}", UserId(f"user-{n}")
            await self.say([a_completion(good, user=who), a_thumb(good, user=who)])
            await self.say([a_completion(bad, user=who), a_retry(bad, f"again{n}", user=who)])

    async def only_run(self) -> Run:
        """Return the one run that there is."""
        (run,) = await self.runs.list(ALIAS)
        return run

    async def document(self) -> ReleaseDocument:
        """Return the release document in force."""
        return await self.releases.get(ALIAS)

    async def logged(self) -> list[AnyEvent]:
        """Return the scheduler's own events, in the order of the log."""
        log = MemoryEventLog(None, self.store)
        entries = [entry async for entry in log.read(after=Offset("scheduler", -1))]
        return [one.event for one in entries if not isinstance(one.event, RecordError)]
