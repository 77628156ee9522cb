"""The last step of a run: its adapter meets traffic, and is promoted or taken back."""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
import structlog

from feedbackloop.errors import RunError
from feedbackloop.events import BASE
from feedbackloop.promotion import changes
from feedbackloop.promotion.canary import Action, Decision, Progress, Rule, decide, mature
from feedbackloop.promotion.changes import Change, Refused
from feedbackloop.promotion.release import Probe, Release, ReleaseDocument
from feedbackloop.training.run import Run, RunState
from services.scheduler.follower import Follower
from services.scheduler.publisher import Publisher
from services.scheduler.sidecars import SidecarReport, Sidecars

log = structlog.get_logger()
BY = "scheduler"


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rollout stands: the run's facts about its canary step.

    Attributes:
        release: Name of the release that is being tried.
        staged_at: When it was staged at share 0.
        began_at: When it first had traffic; None before.
        step_at: When its share last changed; None before it had traffic.
        promoted_at: When it was promoted; None before.
        evidence: The last decision's numbers.
        convergence_seconds: From the promotion until every sidecar followed; None before.
    """

    release: str
    staged_at: datetime
    began_at: datetime | None = None
    step_at: datetime | None = None
    promoted_at: datetime | None = None
    evidence: dict[str, object] = {}
    convergence_seconds: float | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What to write of a run after one look at its rollout.

    Attributes:
        state: Where the run goes; ``canary`` again if it stays.
        reason: In plain words.
        rollout: The new facts; None if nothing was staged.
    """

    state: RunState
    reason: str
    rollout: Rollout | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How rollouts go.

    Attributes:
        enabled: False promotes as soon as every sidecar has proven the release.
        rule: What it takes to move.
        maturity_seconds: As for ``canary.mature``.
        stage_seconds: How long sidecars may take to prove a release.
    """

    enabled: bool
    rule: Rule
    maturity_seconds: float
    stage_seconds: float = 600.0


class Rollouts:
    """Sees rollouts through, one look at a time; everything it knows is in the run's facts."""

    def __init__(
        self,
        publisher: Publisher,
        sidecars: Sidecars,
        follower: Follower,
        policy: Policy,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._publisher = publisher
        self._sidecars = sidecars
        self._follower = follower
        self._policy = policy
        self._now = now

    async def look(self, run: Run, *, lease_epoch: int) -> Outcome:
        """Take the next step of a run's rollout, if it is time for one."""
        document = await self._publisher.document(run.alias)
        if document.stable.run == run.run:
            return await self._settle(run, document)
        if document.canary is None or document.canary.run != run.run:
            if "canary" in run.facts:
                return Outcome(
                    state=RunState.REFUSED, reason=f"taken back by {document.by}: {document.why}"
                )
            return await self._stage(run, document, lease_epoch)
        if document.canary_share == 0:
            return await self._prove(run, document, lease_epoch)
        return await self._decide(run, document, lease_epoch)

    async def _stage(self, run: Run, document: ReleaseDocument, lease_epoch: int) -> Outcome:
        """Let every sidecar load and prove the release, and nobody see it."""
        obstacle = self._obstacle(run, document)
        if obstacle is not None:
            return obstacle
        digest, probes = candidate(run)

        def move(document: ReleaseDocument) -> Change:
            release = changes.next_release(document, digest=digest, run=run.run, probes=probes)
            salt = secrets.token_hex(8)
            return changes.stage(document, release, salt=salt, by=BY, why=f"{run.run} passed")

        after = await self._publisher.change(run.alias, move, lease_epoch=lease_epoch)
        if isinstance(after, Refused):
            return Outcome(state=RunState.REFUSED, reason=after.reason)
        name = after.canary.name if after.canary is not None else ""
        return Outcome(
            state=RunState.CANARY,
            reason=f"{name} is staged",
            rollout=Rollout(release=name, staged_at=self._now()),
        )

    def _obstacle(self, run: Run, document: ReleaseDocument) -> Outcome | None:
        """Say why a run that passed the gate cannot be tried now, or not any more."""
        if document.canary is not None:
            reason = f"waits: {document.canary.name} is being tried"
            return Outcome(state=RunState.CANARY, reason=reason)
        inputs = run.facts.get("evaluate", {}).get("inputs")
        judged = str(inputs.get("incumbent")) if isinstance(inputs, dict) else None
        stable = document.stable
        if judged is None or judged == (stable.digest or BASE):
            return None
        return Outcome(
            state=RunState.REFUSED,
            reason=f"the gate compared it with {judged[:12]}, and {stable.name} is stable now:"
            " start another run",
        )

    async def abandon(self, run: Run, document: ReleaseDocument, *, lease_epoch: int) -> None:
        """Take back the canary of a run that has ended: cancelled, or failed in between."""
        if document.canary is None or document.canary.run != run.run:
            return
        why = f"its run is {run.state}: {run.reason}"
        await self._publisher.change(
            run.alias,
            lambda current: changes.take_back(current, quarantine=False, by=BY, why=why),
            lease_epoch=lease_epoch,
        )

    async def _prove(self, run: Run, document: ReleaseDocument, lease_epoch: int) -> Outcome:
        """Wait until every sidecar has proven the release; then give it its first traffic."""
        release = _canary(document)
        rollout = self._known(run, release)
        reports = await self._sidecars.reports()
        failures = [f for f in (r.failure(run.alias, release.name) for r in reports) if f]
        waited = (self._now() - rollout.staged_at).total_seconds()
        if failures or waited > self._policy.stage_seconds:
            why = "; ".join(failures) or _unproven(reports, run, release)
            return await self._take_back(run, rollout, why, lease_epoch, quarantine=False)
        if not reports or not all(r.has_proven(run.alias, release.name) for r in reports):
            return Outcome(
                state=RunState.CANARY, reason=f"{release.name} is being proven", rollout=rollout
            )
        if not self._policy.enabled:
            why = "passed the gate; canaries are switched off"
            return await self._promote(run, rollout, why, lease_epoch)
        return await self._widen(run, rollout, self._policy.rule.shares[0], lease_epoch)

    async def _decide(self, run: Run, document: ReleaseDocument, lease_epoch: int) -> Outcome:
        """Look at the evidence, and move if it allows."""
        rollout = self._known(run, _canary(document))
        now = self._now()
        began = rollout.began_at or now
        decision = decide(
            mature(
                self._follower.observations(run.alias, since=began),
                now=now,
                maturity_seconds=self._policy.maturity_seconds,
            ),
            answers=self._follower.answers(run.alias, since=began),
            rule=self._policy.rule,
            progress=Progress(
                share=document.canary_share,
                step_seconds=(now - (rollout.step_at or now)).total_seconds(),
                age_seconds=(now - began).total_seconds(),
            ),
        )
        rollout = msgspec.structs.replace(
            rollout, began_at=began, evidence=msgspec.to_builtins(decision.evidence)
        )
        return await self._act(run, rollout, decision, lease_epoch)

    async def _act(
        self, run: Run, rollout: Rollout, decision: Decision, lease_epoch: int
    ) -> Outcome:
        match decision.action:
            case Action.HOLD:
                return Outcome(state=RunState.CANARY, reason=decision.reason, rollout=rollout)
            case Action.WIDEN if decision.share is not None:
                return await self._widen(run, rollout, decision.share, lease_epoch)
            case Action.PROMOTE:
                return await self._promote(run, rollout, decision.reason, lease_epoch)
            case action:
                return await self._take_back(
                    run,
                    rollout,
                    decision.reason,
                    lease_epoch,
                    quarantine=action is Action.ROLLBACK,
                )

    async def _widen(self, run: Run, rollout: Rollout, share: float, lease_epoch: int) -> Outcome:
        after = await self._publisher.change(
            run.alias,
            lambda document: changes.widen(document, share=share, by=BY),
            lease_epoch=lease_epoch,
        )
        if isinstance(after, Refused):
            return Outcome(state=RunState.CANARY, reason=after.reason, rollout=rollout)
        now = self._now()
        rollout = msgspec.structs.replace(rollout, began_at=rollout.began_at or now, step_at=now)
        return Outcome(state=RunState.CANARY, reason=after.why, rollout=rollout)

    async def _promote(self, run: Run, rollout: Rollout, why: str, lease_epoch: int) -> Outcome:
        after = await self._publisher.change(
            run.alias,
            lambda document: changes.promote(document, by=BY, why=why),
            lease_epoch=lease_epoch,
        )
        if isinstance(after, Refused):
            return Outcome(state=RunState.CANARY, reason=after.reason, rollout=rollout)
        rollout = msgspec.structs.replace(rollout, promoted_at=self._now())
        return Outcome(state=RunState.CANARY, reason=f"promoted: {why}", rollout=rollout)

    async def _settle(self, run: Run, document: ReleaseDocument) -> Outcome:
        """Wait until every sidecar follows the promotion; the run ends with that."""
        rollout = self._known(run, document.stable)
        reports = [report for report in await self._sidecars.reports() if report.reachable]
        followed = all(
            r.serves(run.alias, epoch=document.epoch, stable=document.stable.name) for r in reports
        )
        if not reports or not followed:
            return Outcome(state=RunState.CANARY, reason=run.reason, rollout=rollout)
        promoted = rollout.promoted_at
        seconds = (self._now() - promoted).total_seconds() if promoted is not None else None
        rollout = msgspec.structs.replace(rollout, convergence_seconds=seconds)
        return Outcome(
            state=RunState.PROMOTED,
            reason=f"{document.stable.name} is stable: {document.why}",
            rollout=rollout,
        )

    async def _take_back(
        self, run: Run, rollout: Rollout, why: str, lease_epoch: int, *, quarantine: bool
    ) -> Outcome:
        after = await self._publisher.change(
            run.alias,
            lambda document: changes.take_back(document, quarantine=quarantine, by=BY, why=why),
            lease_epoch=lease_epoch,
        )
        if isinstance(after, Refused):
            log.warning("take_back_refused", run=run.run, why=after.reason)
        return Outcome(state=RunState.REFUSED, reason=why, rollout=rollout)

    def _known(self, run: Run, release: Release) -> Rollout:
        """Read the run's facts; begin them anew if a crash came before they were written."""
        facts = run.facts.get("canary")
        if facts is None:
            return Rollout(release=release.name, staged_at=self._now())
        return msgspec.convert(facts, Rollout)


def candidate(run: Run) -> tuple[str, tuple[Probe, ...]]:
    """Return the adapter's digest and the gate's probes, from the facts of earlier steps.

    Raises:
        RunError: If the steps did not say them.
    """
    try:
        digest = str(run.facts["train"]["digest"])
        probes = run.facts["evaluate"].get("probes", ())
        return digest, msgspec.convert(probes, tuple[Probe, ...])
    except (KeyError, msgspec.ValidationError) as error:
        raise RunError(f"the steps of {run.run} left no adapter or no probes: {error}") from error


def _canary(document: ReleaseDocument) -> Release:
    assert document.canary is not None  # noqa: S101  # looked at by the caller
    return document.canary


def _unproven(reports: Sequence[SidecarReport], run: Run, release: Release) -> str:
    names = [r.sidecar for r in reports if not r.has_proven(run.alias, release.name)]
    return f"not proven in time by {', '.join(names) or 'any sidecar'}"
