"""What operators and the scheduler ask of a sidecar, on a listener of its own."""

from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from feedbackloop.capture.fields import UNREADABLE, explain
from feedbackloop.errors import RequestError
from feedbackloop.promotion.release import ReleaseDocument, decode
from services import telemetry
from services.sidecar import documented
from services.sidecar.body import read_headers, read_json
from services.sidecar.documented import Schema, answers
from services.sidecar.parts import Parts
from services.sidecar.readiness import Readiness
from services.sidecar.routes import head, json

_OK = 200
_OBJECT: Schema = {"type": "object"}
_FOLLOWED: Schema = {
    "type": "object",
    "required": ["alias", "epoch"],
    "properties": {"alias": {"type": "string"}, "epoch": {"type": "integer"}},
}
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
        return _ready(parts.readiness, parts.recorder.notes())

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

    @router.post("/v1/drain", responses=answers(_OK, _OBJECT, 401, 403, 503))
    async def drain(request: Request) -> Response:
        """Ask for no more traffic; what runs goes on."""
        parts.entrance.admit(*head(request), "admin")
        parts.readiness.draining = True
        return json({"draining": True, "in_flight": sum(parts.router.counts().values())})

    return router


def release_routes(parts: Parts) -> APIRouter:
    """Make the routes by which releases are seen, and changed when all else is away."""
    router = APIRouter(tags=["releases"])

    @router.get("/v1/releases", responses=answers(_OK, _OBJECT, 422))
    async def releases(
        *, full: Annotated[bool, Query(description="With the documents in force.")] = False
    ) -> Response:
        """Show by alias what is served and how far each release is."""
        shown = {"sidecar": parts.name, "aliases": parts.convergence.report()}
        if full:
            shown["documents"] = msgspec.to_builtins(parts.convergence.documents())
        return json(shown)

    @router.put(
        "/v1/releases",
        responses=answers(_OK, _FOLLOWED, 401, 403, 409, 413, 415, 422, 503),
        openapi_extra=documented.body(documented.schema(Signed)),
    )
    async def put_release(request: Request) -> Response:
        """Follow a signed release document, newer than the one in force."""
        parts.entrance.admit(*head(request), "admin")
        raw = await read_json(read_headers(request.scope), request.receive, parts.max_body_bytes)
        document = read_signed(raw, parts.verify)
        refused = await parts.convergence.accept(document)
        if refused is not None:
            raise RequestError(refused, status=409, param="signed", code="release_refused")
        return json({"alias": document.alias, "epoch": document.epoch})

    return router


class Signed(msgspec.Struct, forbid_unknown_fields=True):
    """A release document and its signature, as a compact JWS."""

    signed: str


def read_signed(body: bytes, verify: Callable[[str], bytes]) -> ReleaseDocument:
    """Read a signed release document.

    Raises:
        RequestError: 400 if the body is no JSON, 403 if the signature is not good, 422 if there is
            no release document in it.
    """
    try:
        signed = _signed.decode(body).signed
    except msgspec.ValidationError as error:
        message, param = explain(str(error))
        raise RequestError(message, status=422, param=param, code="invalid_release") from error
    except UNREADABLE as error:
        raise RequestError(
            f"the body is no valid JSON: {error}", status=400, code="invalid_json"
        ) from error
    try:
        return decode(verify(signed))
    except msgspec.DecodeError as error:
        raise RequestError(
            f"signed holds no release document: {error}",
            status=422,
            param="signed",
            code="invalid_release",
        ) from error


_signed = msgspec.json.Decoder(Signed)


def _ready(readiness: Readiness, recording: Sequence[str]) -> Response:
    reasons = list(readiness.reasons())
    notes = [*readiness.notes(), *recording]
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
