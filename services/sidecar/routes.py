"""Feedback, models, and what operators and the scheduler ask."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from feedbackloop.capture.elsewhere import Told
from feedbackloop.capture.votes import SIGNALS, Vote
from feedbackloop.errors import RequestError
from services import telemetry
from services.sidecar.body import peer, read_headers, read_json
from services.sidecar.elsewhere import Elsewhere, Stored
from services.sidecar.entrance import Admitted, no_model
from services.sidecar.feedback import MAX_ITEMS, Accepted, Asking, Feedback, is_batch
from services.sidecar.parts import Parts
from services.sidecar.readiness import Readiness

_VOTE_BYTES = 2**20
_PAGE_BYTES = 2**16  # of a page without a key: a long correction, and no more
_OK = 200

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


def _batch_of(item: dict[str, Any]) -> dict[str, Any]:
    items = {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": item}
    return {"type": "object", "required": ["items"], "properties": {"items": items}}


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

_FEEDBACK = (401, 403, 404, 410, 422, 429, 503)
_MEANINGS = {
    400: "The body is no JSON.",
    401: "No API key, or an unknown one.",
    403: "The key lacks the scope, the completion is another user's, or the id is forged.",
    404: "There is no such completion or model.",
    410: "The completion is too old.",
    413: "The body is too large.",
    415: "Another content type than application/json.",
    422: "A field is wrong; `param` names it.",
    429: "Too many calls: `Retry-After` says when to come back.",
    503: "Not stored: repeat the call after `Retry-After` seconds.",
}


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": _ERROR}}
    return {code: {"description": _MEANINGS[code], "content": content} for code in codes}


def _documented(schema: dict[str, Any], *codes: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": schema}}
    return {202: {"description": "Stored.", "content": content}, **_errors(*codes)}


def _json(content: object, status: int = _OK, admitted: Admitted | None = None) -> Response:
    return _raw(msgspec.json.encode(content), status, admitted)


def _results(results: Sequence[bytes], admitted: Admitted) -> Response:
    return _raw(b'{"results":[' + b",".join(results) + b"]}", _OK, admitted)


def _raw(body: bytes, status: int, admitted: Admitted | None) -> Response:
    reply = Response(body, status_code=status, media_type="application/json")
    if admitted is not None:
        reply.raw_headers += admitted.headers()
    return reply


async def _body(request: Request, limit: int) -> bytes:
    return await read_json(read_headers(request.scope), request.receive, limit)


def _head(request: Request) -> tuple[dict[str, str], str]:
    """Return a request's headers, of a repeated one the last, and its connection's other end."""
    return read_headers(request.scope), peer(request.scope)


def feedback_routes(parts: Parts) -> APIRouter:
    """Make the routes by which people say what they think."""
    router = APIRouter(prefix="/v1/feedback", tags=["feedback"])
    feedback = Feedback(parts)

    def asking(request: Request, once: str, user: str) -> Asking:
        admitted = parts.entrance.admit_feedback(*_head(request))
        return Asking(admitted=admitted, client_key=once, user=user)

    @router.post(
        "",
        status_code=202,
        responses=_documented(_schema(Accepted), *_FEEDBACK, 400, 413, 415),
        openapi_extra=_json_body(_schema(Vote)),
    )
    async def give(request: Request, once: Once = "", user: User = "") -> Response:
        """Say something about a completion, with ``id`` of its reply as the only reference."""
        who = asking(request, once, user)
        body = await _body(request, _VOTE_BYTES if who.has_key else _PAGE_BYTES)
        return _json(await feedback.give(who, body), 202, who.admitted)

    @router.post(
        "/batch",
        responses=_errors(400, 401, 403, 413, 415, 422, 429),
        openapi_extra=_json_body(_batch_of(_schema(Vote))),
    )
    async def give_all(request: Request, once: Once = "", user: User = "") -> Response:
        """Say many things at once; each has its own result, in order."""
        admitted = parts.entrance.admit(*_head(request), "feedback")
        body = await _body(request, parts.max_body_bytes)
        who = Asking(admitted=admitted, client_key=once, user=user)
        return _results(await feedback.give_all(who, body), admitted)

    @router.delete(
        "/{completion_id}",
        status_code=202,
        responses=_documented(_schema(Accepted), *_FEEDBACK),
    )
    async def withdraw(
        request: Request,
        completion_id: str,
        signal: Annotated[
            str, Query(description="What to take back.", json_schema_extra={"enum": list(SIGNALS)})
        ] = "thumb",
        once: Once = "",
        user: User = "",
    ) -> Response:
        """Take back what was said: as if it had not been given."""
        who = asking(request, once, user)
        return _json(await feedback.withdraw(who, completion_id, signal), 202, who.admitted)

    return router


def recording_routes(parts: Parts) -> APIRouter:
    """Make the route by which completions that were served elsewhere come in."""
    router = APIRouter(tags=["completions"])
    elsewhere = Elsewhere(parts)
    told = _schema(Told)

    @router.post(
        "/v1/completions:record",
        status_code=202,
        responses=_documented(_schema(Stored), 400, 401, 403, 404, 413, 415, 422, 429, 503),
        openapi_extra=_json_body({"oneOf": [told, _batch_of(told)]}),
    )
    async def record(request: Request, once: Once = "", user: User = "") -> Response:
        """Record what was served elsewhere, one completion or many; answer with its id here."""
        admitted = parts.entrance.admit(*_head(request), "completions")
        body = await _body(request, parts.max_body_bytes)
        if is_batch(body):
            results = await elsewhere.record_all(admitted, body, once, user)
            return _results(results, admitted)
        return _json(await elsewhere.record(admitted, body, once, user), 202, admitted)

    return router


def model_routes(parts: Parts) -> APIRouter:
    """Make the routes that list what clients may ask for: aliases, never releases."""
    router = APIRouter(prefix="/v1/models", tags=["models"])

    def model(alias: str) -> dict[str, object]:
        return {"id": alias, "object": "model", "created": 0, "owned_by": "feedbackloop"}

    def visible(request: Request) -> tuple[Sequence[str], Admitted]:
        admitted = parts.entrance.admit(*_head(request), "completions")
        tenant = admitted.caller.tenant
        return parts.entrance.visible(tenant, parts.router.aliases()), admitted

    @router.get("", responses=_errors(401, 403, 429))
    async def models(request: Request) -> Response:
        """List the models."""
        aliases, admitted = visible(request)
        listed = [model(alias) for alias in aliases]
        return _json({"object": "list", "data": listed}, admitted=admitted)

    @router.get("/{alias:path}", responses=_errors(401, 403, 404, 429))
    async def one(request: Request, alias: str) -> Response:
        """Describe one model."""
        aliases, admitted = visible(request)
        if alias not in aliases:
            raise no_model(alias)
        return _json(model(alias), admitted=admitted)

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
    async def drain(request: Request) -> Response:
        """Ask for no more traffic; what runs goes on."""
        parts.entrance.admit(*_head(request), "admin")
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
