"""What operators and the scheduler ask of a sidecar, on a listener of its own."""

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from feedbackloop.errors import RequestError
from services import telemetry
from services.sidecar.documented import Schema, answers
from services.sidecar.parts import Parts
from services.sidecar.readiness import Readiness
from services.sidecar.routes import head, json

_OK = 200
_OBJECT: Schema = {"type": "object"}
_READY: Schema = {
    "type": "object",
    "required": ["ready", "reasons", "notes"],
    "properties": {
        "ready": {"type": "boolean"},
        "reasons": {"type": "array", "items": {"type": "string"}},
        "notes": {"type": "array", "items": {"type": "string"}},
    },
}


def admin_routes(parts: Parts) -> APIRouter:
    """Make the routes of the admin listener. Reading is free there; changing needs the scope."""
    router = APIRouter(tags=["admin"])

    @router.get("/healthz", responses=answers(_OK, _OBJECT))
    async def healthz() -> Response:
        """Say that the process is alive."""
        return json({"status": "ok"})

    @router.get("/readyz", responses={**answers(_OK, _READY), **answers(503, _READY)})
    async def readyz() -> Response:
        """Say whether traffic is welcome, and why not."""
        return _ready(parts.readiness, votes=parts.recorder.votes_fail)

    @router.get(
        "/metrics", response_class=Response, responses={_OK: {"content": {"text/plain": {}}}}
    )
    async def metrics() -> Response:
        """Show our metrics, and vLLM's."""
        telemetry.show_routes(
            parts.router.counts(), {a: r.epoch for a, r in parts.router.table.items()}
        )
        own = generate_latest()
        return Response(own + await _vllm_metrics(parts), media_type=CONTENT_TYPE_LATEST)

    @router.get("/v1/releases", responses=answers(_OK, _OBJECT))
    async def releases() -> Response:
        """Show by alias what is served and how far each release is."""
        return json({"sidecar": parts.name, "aliases": parts.convergence.report()})

    @router.post("/v1/drain", responses=answers(_OK, _OBJECT, 401, 403, 503))
    async def drain(request: Request) -> Response:
        """Ask for no more traffic; what runs goes on."""
        parts.entrance.admit(*head(request), "admin")
        parts.readiness.draining = True
        return json({"draining": True, "in_flight": sum(parts.router.counts().values())})

    return router


def _ready(readiness: Readiness, *, votes: bool) -> Response:
    reasons = list(readiness.reasons())
    notes = [*readiness.notes(), *(["the last vote could not be stored"] if votes else [])]
    status = 503 if reasons else _OK
    return json({"ready": not reasons, "reasons": reasons, "notes": notes}, status)


async def _vllm_metrics(parts: Parts) -> bytes:
    """Fetch vLLM's own metrics; those of its Python would collide with ours."""
    try:
        answer = await parts.server.get("/metrics")
    except RequestError:
        return b""
    if answer.status != _OK:
        return b""
    lines = answer.body.splitlines(keepends=True)
    own = (b"vllm:", b"# HELP vllm:", b"# TYPE vllm:")
    return b"".join(line for line in lines if line.startswith(own))
