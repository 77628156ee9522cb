"""Feedback, models, and what operators and the scheduler ask."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from feedbackloop.capture.votes import SIGNALS, Vote
from feedbackloop.errors import RequestError
from services import telemetry
from services.sidecar.body import read_json
from services.sidecar.feedback import Accepted, Asking, Feedback
from services.sidecar.parts import Parts
from services.sidecar.readiness import Readiness

_VOTE_BYTES = 2**20
_OK = 200

Key = Annotated[str, Header(alias="Authorization", include_in_schema=False)]
Once = Annotated[
    str,
    Header(
        alias="Idempotency-Key", max_length=200, description="The same key is the same feedback."
    ),
]
User = Annotated[
    str, Header(alias="x-feedbackloop-user", max_length=200, description="Who says so.")
]


def _schema(kind: type[object]) -> dict[str, Any]:
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    name = schema["$ref"].rsplit("/", 1)[-1]
    return parts[name]  # type: ignore[no-any-return]  # msgspec types its schemas as Any


def _json_body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}

_MEANINGS = {
    400: "The body is no JSON.",
    401: "No API key, or an unknown one.",
    403: "The key lacks the scope, or the completion is another tenant's or user's.",
    404: "There is no such completion or model.",
    410: "The completion is too old.",
    413: "The body is too large.",
    415: "Another content type than application/json.",
    422: "A field is wrong; `param` names it.",
    503: "Not stored: repeat the call after `Retry-After` seconds.",
}


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": _ERROR}}
    return {code: {"description": _MEANINGS[code], "content": content} for code in codes}


def _documented(schema: dict[str, Any], *codes: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": schema}}
    return {202: {"description": "Stored.", "content": content}, **_errors(*codes)}


def _json(content: object, status: int = _OK) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json")


async def _body(request: Request, limit: int) -> bytes:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return await read_json(headers, request.receive, limit)


def feedback_routes(parts: Parts) -> APIRouter:
    """Make the routes by which people say what they think."""
    router = APIRouter(prefix="/v1/feedback", tags=["feedback"])
    feedback = Feedback(parts)

    @router.post(
        "",
        status_code=202,
        responses=_documented(_schema(Accepted), 400, 401, 403, 404, 410, 413, 415, 422, 503),
        openapi_extra=_json_body(_schema(Vote)),
    )
    async def give(request: Request, key: Key = "", once: Once = "", user: User = "") -> Response:
        """Say something about a completion, with ``id`` of its reply as the only reference."""
        caller = parts.keys.caller(key, "feedback")
        body = await _body(request, _VOTE_BYTES)
        asking = Asking(caller=caller, client_key=once, user=user)
        return _json(await feedback.give(asking, body), 202)

    @router.post(
        "/batch",
        responses=_errors(400, 401, 403, 413, 415, 422),
        openapi_extra=_json_body(
            {"type": "object", "required": ["items"], "properties": {"items": {"type": "array"}}}
        ),
    )
    async def give_all(
        request: Request, key: Key = "", once: Once = "", user: User = ""
    ) -> Response:
        """Say many things at once; each has its own result, in order."""
        caller = parts.keys.caller(key, "feedback")
        body = await _body(request, parts.max_body_bytes)
        asking = Asking(caller=caller, client_key=once, user=user)
        results = await feedback.give_all(asking, body)
        return Response(b'{"results":[' + b",".join(results) + b"]}", media_type="application/json")

    @router.delete(
        "/{completion_id}",
        status_code=202,
        responses=_documented(_schema(Accepted), 401, 403, 404, 410, 422, 503),
    )
    async def withdraw(
        completion_id: str,
        signal: Annotated[
            str, Query(description="What to take back.", json_schema_extra={"enum": list(SIGNALS)})
        ] = "thumb",
        key: Key = "",
        once: Once = "",
        user: User = "",
    ) -> Response:
        """Take back what was said: as if it had not been given."""
        caller = parts.keys.caller(key, "feedback")
        asking = Asking(caller=caller, client_key=once, user=user)
        return _json(await feedback.withdraw(asking, completion_id, signal), 202)

    return router


def model_routes(parts: Parts) -> APIRouter:
    """Make the routes that list what clients may ask for: aliases, never releases."""
    router = APIRouter(prefix="/v1/models", tags=["models"])

    def model(alias: str) -> dict[str, object]:
        return {"id": alias, "object": "model", "created": 0, "owned_by": "feedbackloop"}

    @router.get("", responses=_errors(401, 403))
    async def models(key: Key = "") -> Response:
        """List the models."""
        parts.keys.caller(key, "completions")
        listed = [model(alias) for alias in parts.router.aliases()]
        return _json({"object": "list", "data": listed})

    @router.get("/{alias:path}", responses=_errors(401, 403, 404))
    async def one(alias: str, key: Key = "") -> Response:
        """Describe one model."""
        parts.keys.caller(key, "completions")
        if alias not in parts.router.aliases():
            raise RequestError(
                f"the model {alias!r} does not exist",
                status=404,
                param="model",
                code="model_not_found",
            )
        return _json(model(alias))

    return router


def admin_routes(parts: Parts) -> APIRouter:
    """Make the routes of the admin listener. Reading is free there; changing needs the scope."""
    router = APIRouter(tags=["admin"])

    @router.get("/healthz")
    async def healthz() -> Response:
        """Say that the process is alive."""
        return _json({"status": "ok"})

    @router.get("/readyz", responses={503: {"description": "Not ready; says why."}})
    async def readyz() -> Response:
        """Say whether traffic is welcome, and why not."""
        return _ready(parts.readiness, votes=parts.recorder.votes_fail)

    @router.get("/metrics")
    async def metrics() -> Response:
        """Show our metrics, and vLLM's."""
        telemetry.show_routes(
            parts.router.counts(), {a: r.epoch for a, r in parts.router.table.items()}
        )
        own = generate_latest()
        return Response(own + await _vllm_metrics(parts), media_type=CONTENT_TYPE_LATEST)

    @router.get("/v1/releases")
    async def releases() -> Response:
        """Show by alias what is served and how far each release is."""
        return _json({"sidecar": parts.name, "aliases": parts.convergence.report()})

    @router.post("/v1/drain", responses=_errors(401, 403))
    async def drain(key: Key = "") -> Response:
        """Ask for no more traffic; what runs goes on."""
        parts.keys.caller(key, "admin")
        parts.readiness.draining = True
        return _json({"draining": True, "in_flight": sum(parts.router.counts().values())})

    return router


def _ready(readiness: Readiness, *, votes: bool) -> Response:
    reasons = list(readiness.reasons())
    notes = [*readiness.notes(), *(["the last vote could not be stored"] if votes else [])]
    status = 503 if reasons else _OK
    return _json({"ready": not reasons, "reasons": reasons, "notes": notes}, status)


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
