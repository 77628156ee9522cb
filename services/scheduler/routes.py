"""The scheduler's API: runs, releases, snapshots, traces, health and metrics."""

import secrets
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

import feedbackloop
from feedbackloop.dataset.port import Snapshots
from feedbackloop.errors import (
    FeedbackLoopError,
    RunError,
    SettingsError,
    StaleEpoch,
    UnavailableError,
)
from feedbackloop.events import Alias, RunId
from feedbackloop.promotion import changes
from feedbackloop.promotion.changes import Change, Refused
from feedbackloop.promotion.release import ReleaseDocument
from feedbackloop.training.planner import plan as plan_recipe
from feedbackloop.training.port import Launcher, Runs
from feedbackloop.training.run import Run
from services.scheduler.jobs import Jobs
from services.scheduler.publisher import Publisher
from services.scheduler.traces import Traces

_MOVES: dict[str, Callable[..., Change]] = {
    "promote": changes.promote,
    "rollback": changes.rollback,
    "freeze": changes.freeze,
    "unfreeze": changes.unfreeze,
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    404: {"description": "No such run, alias, snapshot or completion."},
    409: {"description": "Not possible now; the message says why."},
    422: {"description": "A field is wrong; `param` names it."},
    503: {"description": "The state database is away, or this scheduler does not lead."},
}


class RunRequest(BaseModel):
    """What to start."""

    model_config = ConfigDict(extra="forbid")

    alias: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
    """Whose adapter to make."""

    recipe: dict[str, str | int | float] = Field(default_factory=dict)
    """Fields that differ from what the planner would choose: ``method``, ``learning_rate``, ..."""

    snapshot: str | None = None
    """Digest of an earlier snapshot to train on, instead of a new one."""

    why: Annotated[str, Field(min_length=1, max_length=500)] = "started by hand"
    """For those who read of it later."""


class MoveRequest(BaseModel):
    """Who asks for a move, and why."""

    model_config = ConfigDict(extra="forbid")

    by: Annotated[str, Field(min_length=1, max_length=100)] = "operator"
    why: Annotated[str, Field(max_length=500)] = ""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the API speaks for."""

    jobs: Jobs
    runs: Runs
    launcher: Launcher
    publisher: Publisher
    snapshots: Snapshots
    traces: Traces
    configured: dict[str, dict[str, Any]]


def make_app(parts: Parts) -> FastAPI:
    """Make the application."""
    app = FastAPI(title="feedbackloop scheduler", version=feedbackloop.__version__, redoc_url=None)
    app.include_router(_health(parts))
    app.include_router(_runs(parts), prefix="/api", responses=_ERRORS)
    app.include_router(_starting(parts), prefix="/api", responses=_ERRORS)
    app.include_router(_releases(parts), prefix="/api", responses=_ERRORS)
    app.include_router(_lineage(parts), prefix="/api", responses=_ERRORS)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(FeedbackLoopError, _ours)
    app.add_exception_handler(HTTPException, _http)
    return app


def _health(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the event loop turns."""
        return {"status": "ok"}

    @router.get("/readyz", responses={503: {"description": "The state database is away."}})
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
        shown = dict(msgspec.to_builtins(found))
        if found.attempt > 0:
            status = await parts.launcher.status(found.run, found.state, attempt=found.attempt)
            shown["progress"] = status.progress
        return shown

    @router.post("/runs/{run}/cancel")
    async def cancel_run(run: str, request: MoveRequest) -> dict[str, Any]:
        """End a run."""
        found = await _run(parts, run)
        try:
            return dict(msgspec.to_builtins(await parts.jobs.cancel(found, by=request.by)))
        except ValueError as error:
            raise HTTPException(409, str(error)) from error

    @router.get("/plan/{alias}")
    async def due(alias: str) -> dict[str, Any]:
        """Say whether a run is due, and why or why not."""
        return dict(msgspec.to_builtins(await parts.jobs.due(Alias(alias))))

    return router


def _starting(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["runs"])

    @router.post("/runs", status_code=201)
    async def start_run(request: RunRequest) -> dict[str, Any]:
        """Start a run now, whether or not one is due."""
        if request.alias not in parts.jobs.plan.aliases:
            raise HTTPException(404, f"alias: there is no {request.alias}")
        recipe: dict[str, Any] = dict(request.recipe)
        _check_recipe(parts, recipe)
        if request.snapshot is not None:
            parts.snapshots.manifest(request.snapshot)
            recipe["snapshot"] = request.snapshot
        run = await parts.jobs.start(
            Alias(request.alias),
            slot=f"manual-{secrets.token_hex(8)}",
            recipe=recipe,
            why=request.why,
        )
        return dict(msgspec.to_builtins(run))

    return router


def _releases(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["releases"])

    @router.get("/releases")
    async def list_releases() -> list[dict[str, Any]]:
        """List the release document of every alias."""
        aliases = parts.jobs.plan.aliases
        documents = [await parts.publisher.document(alias) for alias in aliases]
        return [_shown(document) for document in documents]

    @router.get("/releases/{alias}")
    async def show_release(alias: str) -> list[dict[str, Any]]:
        """List the documents of an alias, newest first."""
        return [_shown(one) for one in await parts.publisher.history(Alias(alias))]

    @router.post("/releases/{alias}/{move}")
    async def move_release(
        alias: str,
        move: Annotated[str, Path(pattern="^(promote|rollback|freeze|unfreeze)$")],
        request: Annotated[MoveRequest, Body(default_factory=MoveRequest)],
    ) -> dict[str, Any]:
        """Promote the canary, roll back to the previous release, freeze or unfreeze."""
        lease = parts.jobs.lease
        if lease is None:
            raise StaleEpoch("this scheduler does not lead: ask the one that does")
        after = await parts.publisher.change(
            Alias(alias),
            lambda document: _MOVES[move](document, by=request.by, why=request.why),
            lease_epoch=lease.epoch,
        )
        if isinstance(after, Refused):
            raise HTTPException(409, after.reason)
        return _shown(after)

    return router


def _lineage(parts: Parts) -> APIRouter:
    router = APIRouter(tags=["lineage"])

    @router.get("/datasets")
    async def list_datasets() -> list[dict[str, Any]]:
        """List the snapshots with their manifests."""
        store = parts.snapshots
        return [
            {"digest": digest, "manifest": msgspec.to_builtins(store.manifest(digest))}
            for digest in store.digests()
        ]

    @router.get("/traces/{completion_id}")
    async def trace(completion_id: str) -> dict[str, Any]:
        """Follow a completion to its signals, label, snapshots, runs and releases."""
        found = await parts.traces.of(completion_id)
        if found is None:
            raise HTTPException(404, f"completion_id: {completion_id} is not in the log")
        return found

    return router


def _check_recipe(parts: Parts, recipe: dict[str, Any]) -> None:
    """Refuse a recipe that no run could be planned with, before a run is made of it."""
    counts = parts.jobs.enough()
    plan_recipe(counts, parts.jobs.plan.limits, configured=parts.configured, asked=recipe)


async def _run(parts: Parts, run: str) -> Run:
    found = await parts.runs.get(RunId(run))
    if found is None:
        raise HTTPException(404, f"run: there is no {run}")
    return found


def _shown(document: ReleaseDocument) -> dict[str, Any]:
    """Leave out the probes: they are for machines, and long."""
    shown: dict[str, Any] = msgspec.to_builtins(document)
    for name in ("stable", "canary", "previous"):
        if shown.get(name):
            shown[name].pop("probes", None)
    return shown


def _error(status: int, message: str, param: str | None = None) -> JSONResponse:
    body = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return JSONResponse({"error": body}, status_code=status)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # as registered
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    return _error(422, f"{param}: {first['msg']}", param)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    match error:
        case SettingsError():
            return _error(422, str(error), "recipe")
        case RunError():
            return _error(404, str(error))
        case UnavailableError() | StaleEpoch():
            return _error(503, str(error))
        case _:
            return _error(409, str(error))


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # as registered
    message = str(error.detail)
    param, colon, _rest = message.partition(": ")
    return _error(error.status_code, message, param if colon and " " not in param else None)
