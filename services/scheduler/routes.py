"""The scheduler's API: runs, releases, snapshots, traces, health and metrics."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Body, Depends, FastAPI, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

import feedbackloop
from feedbackloop.dataset.port import Snapshots
from feedbackloop.errors import RequestError, StaleEpoch
from feedbackloop.events import Alias, RunId
from feedbackloop.promotion import changes
from feedbackloop.promotion.changes import Change, Refused
from feedbackloop.promotion.release import ReleaseDocument
from feedbackloop.training.planner import plan as plan_recipe
from feedbackloop.training.port import Launcher, Runs
from feedbackloop.training.run import FINAL, Run
from services.apikeys import ApiKeys
from services.scheduler.jobs import Jobs
from services.scheduler.refusals import DOCUMENTED, explain_refusals, missing
from services.scheduler.traces import Traces
from services.sections.section import AliasName

_MOVES: dict[str, Callable[..., Change]] = {
    "promote": changes.promote,
    "rollback": changes.rollback,
    "freeze": changes.freeze,
    "unfreeze": changes.unfreeze,
}
_SAME_AS = "same-as:"


class RunRequest(BaseModel):
    """What to start."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    alias: AliasName
    """Whose adapter to make."""

    recipe: dict[str, str | int | float] = Field(default_factory=dict)
    """Fields that differ from what the planner would choose: ``method``, ``learning_rate``, ..."""

    window: Annotated[str, Field(pattern=rf"^{_SAME_AS}run-.+$")] | None = None
    """``same-as:RUN``: train on the rows of an earlier run, instead of a new snapshot."""

    snapshot: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Digest of the snapshot to train on: another way to say ``window``."""

    why: Annotated[str, Field(min_length=1, max_length=500)] = "started by hand"
    """For those who read of it later."""


class MoveRequest(BaseModel):
    """Who asks for a move, and why."""

    model_config = ConfigDict(extra="forbid")

    by: Annotated[str, Field(min_length=1, max_length=100)] = "operator"
    why: Annotated[str, Field(max_length=500)] = ""


_Move = Annotated[MoveRequest, Body(default_factory=MoveRequest)]


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the API speaks for."""

    jobs: Jobs
    runs: Runs
    launcher: Launcher
    snapshots: Snapshots
    traces: Traces
    keys: ApiKeys
    configured: dict[str, dict[str, Any]]


def make_app(parts: Parts) -> FastAPI:
    """Make the application."""

    def admin(request: Request) -> None:
        parts.keys.caller(request.headers.get("authorization", ""), "admin")

    app = FastAPI(
        title="feedbackloop scheduler",
        version=feedbackloop.__version__,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(_health(parts))
    for make in (_runs, _plans, _starting, _releases, _lineage):
        app.include_router(
            make(parts), prefix="/api", responses=DOCUMENTED, dependencies=[Depends(admin)]
        )
    explain_refusals(app)
    return app


def _health(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the event loop turns."""
        return {"status": "ok"}

    @router.get("/readyz", responses={503: DOCUMENTED[503]})
    async def readyz() -> dict[str, Any]:
        """Say whether runs can be seen through, and who leads."""
        await parts.runs.list(limit=1)
        return {"status": "ready", "leader": parts.jobs.lease is not None}

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return the metrics in Prometheus' text format."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


def _runs(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["runs"])

    @router.get("/runs")
    async def list_runs(
        alias: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> list[dict[str, Any]]:
        """List runs, newest first."""
        found = await parts.runs.list(Alias(alias) if alias is not None else None, limit=limit)
        return [msgspec.to_builtins(run) for run in found]

    @router.get("/runs/{run}")
    async def show_run(run: str) -> dict[str, Any]:
        """Show a run with everything that its steps said, and how its present step is doing."""
        found = await _run(parts, run)
        shown: dict[str, Any] = msgspec.to_builtins(found)
        if found.attempt > 0 and found.state not in FINAL:
            status = await parts.launcher.status(found.run, found.state, attempt=found.attempt)
            shown["progress"] = status.progress
        return shown

    @router.post("/runs/{run}/cancel")
    async def cancel_run(run: str, request: _Move) -> dict[str, Any]:
        """End a run: its step is stopped, its canary is taken back."""
        found = await _run(parts, run)
        try:
            cancelled = await parts.jobs.cancel(found, by=request.by)
        except ValueError as error:
            raise RequestError(str(error), status=409) from error
        return dict(msgspec.to_builtins(cancelled))

    return router


def _plans(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["runs"])

    @router.get("/plan/{alias}")
    async def due(alias: str) -> dict[str, Any]:
        """Say whether a run is due, what it would train now, and why."""
        known = _alias(parts, alias)
        due = await parts.jobs.due(known)
        counts = parts.jobs.follower.counts(known)
        limits = parts.jobs.plan.limits
        planned = plan_recipe(counts, limits, configured=parts.configured, asked={})
        shown: dict[str, Any] = msgspec.to_builtins(due)
        return shown | {
            "counts": msgspec.to_builtins(counts),
            "recipe": msgspec.to_builtins(planned.recipe),
            "why": planned.why,
        }

    return router


def _starting(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["runs"])

    @router.post("/runs", status_code=201)
    async def start_run(request: RunRequest) -> dict[str, Any]:
        """Start a run now, whether or not one is due."""
        alias = _alias(parts, request.alias)
        recipe: dict[str, Any] = dict(request.recipe)
        # Before a run is made of it: a misspelt field must not wait for the snapshot step.
        enough = parts.jobs.enough()
        plan_recipe(enough, parts.jobs.plan.limits, configured=parts.configured, asked=recipe)
        snapshot = await _given_snapshot(parts, request)
        if snapshot is not None:
            recipe["snapshot"] = snapshot
        slot = f"manual-{secrets.token_hex(8)}"
        run = await parts.jobs.start(alias, slot=slot, recipe=recipe, why=request.why)
        return dict(msgspec.to_builtins(run))

    return router


def _releases(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["releases"])

    @router.get("/releases")
    async def list_releases() -> list[dict[str, Any]]:
        """List the release document of every alias."""
        aliases = parts.jobs.plan.aliases
        return [_shown(await parts.jobs.publisher.document(alias)) for alias in aliases]

    @router.get("/releases/{alias}")
    async def show_release(alias: str) -> list[dict[str, Any]]:
        """List the documents of an alias, newest first; none before the first change."""
        return [_shown(one) for one in await parts.jobs.publisher.history(_alias(parts, alias))]

    @router.post("/releases/{alias}/{move}")
    async def move_release(
        alias: str, move: Literal["promote", "rollback", "freeze", "unfreeze"], request: _Move
    ) -> dict[str, Any]:
        """Promote the canary, roll back to the previous release, freeze or unfreeze."""
        known = _alias(parts, alias)
        lease = parts.jobs.lease
        if lease is None:
            raise StaleEpoch("this scheduler does not lead: ask the one that does")
        after = await parts.jobs.publisher.change(
            known,
            lambda document: _MOVES[move](document, by=request.by, why=request.why),
            lease_epoch=lease.epoch,
        )
        if isinstance(after, Refused):
            raise RequestError(after.reason, status=409)
        return _shown(after)

    return router


def _lineage(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["lineage"])

    @router.get("/datasets")
    async def list_datasets() -> list[dict[str, Any]]:
        """List the snapshots with their manifests."""
        return await asyncio.to_thread(_manifests, parts.snapshots)

    @router.get("/traces/{completion_id}")
    async def trace(completion_id: str) -> dict[str, Any]:
        """Follow a completion to its signals, label, snapshots, runs and releases."""
        found = await parts.traces.of(completion_id)
        if found is None:
            raise missing("completion_id", completion_id)
        return found

    return router


def _alias(parts: Parts, alias: str) -> Alias:
    if alias not in parts.jobs.plan.aliases:
        raise missing("alias", alias)
    return Alias(alias)


async def _run(parts: Parts, run: str) -> Run:
    found = await parts.runs.get(RunId(run))
    if found is None:
        raise missing("run", run)
    return found


async def _given_snapshot(parts: Parts, request: RunRequest) -> str | None:
    """Return the digest of the snapshot that a request names, if it names one.

    Raises:
        RequestError: If it names two, or a run that has none.
        RunError: If there is no such snapshot.
    """
    digest = request.snapshot
    if request.window is not None:
        if digest is not None:
            raise RequestError("give window or snapshot, not both", status=422, param="window")
        run = await _run(parts, request.window.removeprefix(_SAME_AS))
        if "snapshot" not in run.facts:
            raise RequestError(f"{run.run} has no snapshot", status=409, param="window")
        digest = str(run.facts["snapshot"]["digest"])
    if digest is not None:
        await asyncio.to_thread(parts.snapshots.manifest, digest)
    return digest


def _manifests(snapshots: Snapshots) -> list[dict[str, Any]]:
    return [
        {"digest": digest, "manifest": msgspec.to_builtins(snapshots.manifest(digest))}
        for digest in snapshots.digests()
    ]


def _shown(document: ReleaseDocument) -> dict[str, Any]:
    """Leave out the probes: they are for machines, and long."""
    shown: dict[str, Any] = msgspec.to_builtins(document)
    for name in ("stable", "canary", "previous"):
        if shown.get(name):
            shown[name].pop("probes", None)
    return shown
