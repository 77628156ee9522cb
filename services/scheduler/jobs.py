"""What the clock calls: start runs that are due, and see the others through.

Every decision is written by compare-and-set under the leader's epoch before it is acted on, and
acting twice is acting once: a scheduler may die after any line of this, and the next goes on.
"""

import secrets
from base64 import b32encode
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec
import structlog

from feedbackloop.errors import RunError, StaleEpoch, UnavailableError
from feedbackloop.events import Alias, RunId
from feedbackloop.labels.tally import Counts
from feedbackloop.training.planner import Limits
from feedbackloop.training.port import Launcher, Lease, Runs, StepStatus
from feedbackloop.training.run import FINAL, Run, RunState
from feedbackloop.training.schedule import Due, Situation, is_due
from services import telemetry
from services.scheduler.follower import Follower
from services.scheduler.journal import Journal, run_events
from services.scheduler.publisher import Publisher
from services.scheduler.rollout import Rollouts

log = structlog.get_logger()

_AFTER = {
    RunState.SNAPSHOT: RunState.TRAIN,
    RunState.TRAIN: RunState.EVALUATE,
    RunState.EVALUATE: RunState.CANARY,
}
_RECENT = 20
"""Ended runs that a new leader looks at for what a crash left undone."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How the scheduler decides, from settings.

    Attributes:
        aliases: Whose runs it starts.
        owner: This process, among those that may lead.
        lease_seconds: How long it leads without renewing.
        limits: How much data is enough.
        rest_seconds: Least time between the starts of two runs of an alias.
        max_attempts: How often a step is started before its run ends failed.
        automatic: Whether runs start by themselves.
    """

    aliases: tuple[Alias, ...]
    owner: str
    lease_seconds: float
    limits: Limits
    rest_seconds: float
    max_attempts: int
    automatic: bool


class Jobs:
    """One scheduler. Everything that must outlive it is in the state database."""

    def __init__(  # noqa: PLR0913  # one for each thing outside
        self,
        plan: Plan,
        *,
        runs: Runs,
        launcher: Launcher,
        follower: Follower,
        publisher: Publisher,
        rollouts: Rollouts,
        journal: Journal,
        now: Callable[[], datetime],
    ) -> None:
        self.plan = plan
        self._runs = runs
        self._launcher = launcher
        self.follower = follower
        self.publisher = publisher
        self._rollouts = rollouts
        self._journal = journal
        self._now = now
        self._swept = 0
        self.lease: Lease | None = None
        """Held while this scheduler leads."""

    async def tick(self) -> None:
        """Do everything that is due; called again and again, never twice at once."""
        self.lease = await self._runs.acquire(
            self.plan.owner, now=self._now(), seconds=self.plan.lease_seconds
        )
        telemetry.IS_LEADER.set(self.lease is not None)
        await self.follower.catch_up()
        if self.lease is None:
            return
        await self.publisher.publish_all()
        for alias in self.plan.aliases:
            await self._look_after(alias, self.lease)
        self._swept = self.lease.epoch

    async def resign(self) -> None:
        """Let the next scheduler lead at once; this one does nothing from now on."""
        if self.lease is not None:
            lease, self.lease = self.lease, None
            await self._runs.resign(lease)

    async def start(
        self, alias: Alias, *, slot: str, recipe: Mapping[str, object], why: str
    ) -> Run:
        """Start a run, or return the one that was started for this slot.

        Raises:
            StaleEpoch: If this scheduler does not lead.
        """
        if self.lease is None:
            raise StaleEpoch("this scheduler does not lead: ask the one that does")
        now = self._now()
        counts = self.follower.counts(alias)
        run = Run(
            run=_run_id(now),
            alias=alias,
            slot=slot,
            state=RunState.SNAPSHOT,
            attempt=0,
            version=0,
            epoch=self.lease.epoch,
            reason=why,
            recipe=dict(recipe),
            created_at=now,
            changed_at=now,
            facts={
                "start": {"counts": msgspec.to_builtins(counts), "until": now.isoformat()},
                "times": {RunState.SNAPSHOT.value: now.isoformat()},
                "reasons": {RunState.SNAPSHOT.value: why},
            },
        )
        created = await self._runs.create(run)
        if created.run == run.run:
            log.info("run_started", run=run.run, alias=alias, why=why)
            await self._tell([created])
        return created

    async def cancel(self, run: Run, *, by: str) -> Run:
        """End a run; its step is stopped.

        Raises:
            StaleEpoch: If it changed meanwhile, or this scheduler does not lead.
            ValueError: If it has ended already.
        """
        if self.lease is None:
            raise StaleEpoch("this scheduler does not lead: ask the one that does")
        if run.state in FINAL:
            raise ValueError(f"{run.run} has ended already: {run.state}")
        cancelled = await self._move(run, RunState.CANCELLED, f"cancelled by {by}", self.lease)
        await self._clear_away([cancelled], self.lease)
        return cancelled

    def enough(self) -> Counts:
        """Return counts with which any method can be planned: for checking a recipe's fields."""
        pairs = max(self.plan.limits.min_pairs, 2)
        rows = max(self.plan.limits.min_minority, 2)
        return Counts(desirable=rows, undesirable=rows, pairs=pairs)

    async def due(self, alias: Alias) -> Due:
        """Say whether a run of an alias is due, and why or why not."""
        runs = await self._runs.list(alias, limit=_RECENT)
        under_way = await self._runs.unfinished(alias)
        return is_due(
            Situation(
                fresh=_fresh(self.follower.counts(alias), runs),
                last_started_at=runs[0].created_at if runs else None,
                under_way=under_way[0].run if under_way else None,
                automatic=self.plan.automatic,
            ),
            self.plan.limits,
            rest_seconds=self.plan.rest_seconds,
            now=self._now(),
        )

    async def _look_after(self, alias: Alias, lease: Lease) -> None:
        counts = self.follower.counts(alias)
        for kind in ("desirable", "undesirable", "pairs"):
            telemetry.LABELS.labels(alias=alias, kind=kind).set(getattr(counts, kind))
        for run in await self._runs.unfinished(alias):
            await self._advance_safely(run, lease)
        runs = await self._runs.list(alias, limit=_RECENT)
        await self._tell(runs)
        if self._swept != lease.epoch:
            await self._clear_away([run for run in runs if run.state in FINAL], lease)
        due = await self.due(alias)
        if due.due:
            slot = f"after-{runs[0].run if runs else 'nothing'}"
            await self.start(alias, slot=slot, recipe={}, why=due.reason)

    async def _clear_away(self, ended: Sequence[Run], lease: Lease) -> None:
        """Stop the steps and take back the canaries of runs that have ended: twice is once."""
        for run in ended:
            step = _last_step(run)
            if run.attempt > 0 and step is not None:
                await self._launcher.stop(run.run, step, attempt=run.attempt)
            if "canary" in run.facts.get("times", {}):
                document = await self.publisher.document(run.alias)
                await self._rollouts.abandon(run, document, lease_epoch=lease.epoch)

    async def _advance_safely(self, run: Run, lease: Lease) -> None:
        try:
            await self._advance(run, lease)
        except (StaleEpoch, UnavailableError) as error:
            log.warning("run_waits", run=run.run, state=run.state, error=str(error))
        except RunError as error:
            await self._clear_away(
                [await self._move(run, RunState.FAILED, str(error), lease)], lease
            )

    async def _advance(self, run: Run, lease: Lease) -> None:
        if run.state is RunState.CANARY:
            await self._roll_out(run, lease)
            return
        if run.attempt == 0:
            await self._attempt(run, lease, run.reason)
            return
        status = await self._launcher.status(run.run, run.state, attempt=run.attempt)
        match status.state:
            case "done":
                await self._finish_step(run, status, lease)
            case "failed":
                await self._fail_step(run, status, lease)
            case "missing":
                # Written down and not started: a scheduler died in between.
                await self._launcher.start(run.run, run.state, attempt=run.attempt)
            case _:
                pass

    async def _attempt(self, run: Run, lease: Lease, reason: str) -> None:
        """Write the next attempt down, then start it."""
        begun = await self._write(run, lease, attempt=run.attempt + 1, reason=reason)
        await self._launcher.start(begun.run, begun.state, attempt=begun.attempt)

    async def _finish_step(self, run: Run, status: StepStatus, lease: Lease) -> None:
        result = status.result or {}
        refused = result.get("refused")
        reason = str(result.get("reason") or f"{run.state} is done")
        after = RunState.REFUSED if refused else _AFTER[run.state]
        if run.state is RunState.EVALUATE:
            verdict = "refused" if refused else "passed"
            telemetry.GATE_VERDICTS.labels(alias=run.alias, verdict=verdict).inc()
        moved = await self._move(run, after, reason, lease, result=result)
        if moved.state in _AFTER:
            await self._attempt(moved, lease, reason)

    async def _fail_step(self, run: Run, status: StepStatus, lease: Lease) -> None:
        reason = f"{run.state}: {status.reason or 'failed without a reason'}"
        if status.retryable and run.attempt < self.plan.max_attempts:
            log.warning("step_tried_again", run=run.run, step=run.state, why=status.reason)
            await self._attempt(run, lease, reason)
            return
        await self._move(run, RunState.FAILED, reason, lease)

    async def _roll_out(self, run: Run, lease: Lease) -> None:
        outcome = await self._rollouts.look(run, lease_epoch=lease.epoch)
        facts = None if outcome.rollout is None else msgspec.to_builtins(outcome.rollout)
        if outcome.state is not RunState.CANARY:
            await self._move(run, outcome.state, outcome.reason, lease, result=facts)
        elif (facts, outcome.reason) != (run.facts.get("canary"), run.reason):
            kept = run.facts if facts is None else {**run.facts, "canary": facts}
            await self._write(run, lease, reason=outcome.reason, facts=kept)

    async def _move(
        self,
        run: Run,
        state: RunState,
        reason: str,
        lease: Lease,
        *,
        result: Mapping[str, object] | None = None,
    ) -> Run:
        """Write a change of state down, and what the step that ended said."""
        facts = dict(run.facts)
        if result is not None:
            facts[run.state.value] = dict(result)
        facts["times"] = {**facts.get("times", {}), state.value: self._now().isoformat()}
        facts["reasons"] = {**facts.get("reasons", {}), state.value: reason}
        # A run that has ended keeps its last attempt: somebody may still have to stop it.
        attempt = run.attempt if state in FINAL else 0
        moved = await self._write(
            run, lease, state=state, attempt=attempt, reason=reason, facts=facts
        )
        log.info("run_moved", run=run.run, before=run.state, after=state, why=reason)
        if state in FINAL:
            telemetry.RUNS.labels(alias=run.alias, state=state.value).inc()
        await self._tell([moved])
        return moved

    async def _write(self, run: Run, lease: Lease, **changed: object) -> Run:
        after = msgspec.structs.replace(run, epoch=lease.epoch, changed_at=self._now(), **changed)
        return await self._runs.replace(run, after)

    async def _tell(self, runs: Sequence[Run]) -> None:
        """Tell the log what became of runs, as far as it does not hold it."""
        for run in runs:
            await self._journal.tell(run_events(run, by=self.plan.owner))


def _last_step(run: Run) -> RunState | None:
    """Return the step that is a process and that a run was in last."""
    states = [RunState(state) for state in run.facts.get("times", {})]
    return next((state for state in reversed(states) if state in _AFTER), None)


def _fresh(counts: Counts, runs: Sequence[Run]) -> Counts:
    """Subtract what the last run that learned from a snapshot of its own had already seen."""
    for run in runs:
        if run.state in FINAL and not _has_learned(run):
            continue
        if "snapshot" in run.recipe:
            continue
        seen = msgspec.convert(run.facts["start"]["counts"], Counts)
        return Counts(
            desirable=max(0, counts.desirable - seen.desirable),
            undesirable=max(0, counts.undesirable - seen.undesirable),
            pairs=max(0, counts.pairs - seen.pairs),
        )
    return counts


def _has_learned(run: Run) -> bool:
    """Say whether training began: what was too little for one run still counts for the next."""
    return RunState.TRAIN.value in run.facts.get("times", {})


def _run_id(now: datetime) -> RunId:
    tail = b32encode(secrets.token_bytes(4)).decode("ascii").lower()[:6]
    return RunId(f"run-{now:%Y-%m-%d}-{tail}")
