"""Feedback, models, and completions served elsewhere: what FastAPI carries for clients."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response

from feedbackloop.capture.elsewhere import Told
from feedbackloop.capture.votes import SIGNALS, Vote
from services.sidecar import documented
from services.sidecar.body import peer, read_headers, read_json
from services.sidecar.documented import answers, batch_of, results_of
from services.sidecar.elsewhere import Elsewhere, Stored
from services.sidecar.entrance import Admitted, no_model
from services.sidecar.feedback import Accepted, Asking, Feedback, is_batch
from services.sidecar.parts import Parts

_VOTE_BYTES = 2**20
_PAGE_BYTES = 2**16  # of a page without a key: a long correction, and no more
_OK = 200
_FEEDBACK = (401, 403, 404, 410, 422, 429, 503)
_STORED = "Stored."
_ACCEPTED = documented.schema(Accepted)
_TOLD = documented.schema(Stored)
_MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {"id": {"type": "string"}, "object": {"const": "model"}},
}
_MODELS = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL}},
}
_VOTE = documented.schema(Vote) | {
    "anyOf": [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in SIGNALS
    ]
}

Once = Annotated[
    str,
    Header(
        alias="Idempotency-Key", max_length=200, description="The same key is the same feedback."
    ),
]
User = Annotated[
    str, Header(alias="x-feedbackloop-user", max_length=200, description="Who says so.")
]


def json(content: object, status: int = _OK, admitted: Admitted | None = None) -> Response:
    """Answer with a value as JSON, and with what there is to say of the caller's limits."""
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


def head(request: Request) -> tuple[dict[str, str], str]:
    """Return a request's headers, of a repeated one the last, and its connection's other end."""
    return read_headers(request.scope), peer(request.scope)


def _asking(parts: Parts, request: Request, once: str, user: str) -> Asking:
    admitted = parts.entrance.admit_feedback(*head(request))
    return Asking(admitted=admitted, client_key=once, user=user)


def feedback_routes(parts: Parts) -> APIRouter:
    """Make the routes by which people say what they think."""
    router = APIRouter(prefix="/v1/feedback", tags=["feedback"])
    feedback = Feedback(parts)

    @router.post(
        "",
        status_code=202,
        responses=answers(202, _ACCEPTED, *_FEEDBACK, 413, 415, means=_STORED),
        openapi_extra=documented.body(_VOTE),
    )
    async def give(request: Request, once: Once = "", user: User = "") -> Response:
        """Say something about a completion, with ``id`` of its reply as the only reference."""
        who = _asking(parts, request, once, user)
        body = await _body(request, _VOTE_BYTES if who.has_key else _PAGE_BYTES)
        return json(await feedback.give(who, body), 202, who.admitted)

    @router.post(
        "/batch",
        responses=answers(_OK, results_of(_ACCEPTED), 401, 403, 413, 415, 422, 429, 503),
        openapi_extra=documented.body(batch_of(_VOTE)),
    )
    async def give_all(request: Request, once: Once = "", user: User = "") -> Response:
        """Say many things at once; each has its own result, in order."""
        admitted = parts.entrance.admit(*head(request), "feedback")
        body = await _body(request, parts.max_body_bytes)
        who = Asking(admitted=admitted, client_key=once, user=user)
        return _results(await feedback.give_all(who, body), admitted)

    return router


def withdrawal_routes(parts: Parts) -> APIRouter:
    """Make the route by which people take back what they said."""
    router = APIRouter(prefix="/v1/feedback", tags=["feedback"])
    feedback = Feedback(parts)

    @router.delete(
        "/{completion_id}",
        status_code=202,
        responses=answers(202, _ACCEPTED, *_FEEDBACK, means=_STORED),
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
        who = _asking(parts, request, once, user)
        return json(await feedback.withdraw(who, completion_id, signal), 202, who.admitted)

    return router


def recording_routes(parts: Parts) -> APIRouter:
    """Make the route by which completions that were served elsewhere come in."""
    router = APIRouter(tags=["completions"])
    elsewhere = Elsewhere(parts)
    told = documented.schema(Told)

    @router.post(
        "/v1/completions:record",
        status_code=202,
        responses={
            **answers(202, _TOLD, 401, 403, 404, 413, 415, 422, 429, 503, means=_STORED),
            **answers(_OK, results_of(_TOLD), means="Of a batch: the result of each item."),
        },
        openapi_extra=documented.body({"oneOf": [told, batch_of(told)]}),
    )
    async def record(request: Request, once: Once = "", user: User = "") -> Response:
        """Record what was served elsewhere, one completion or many; answer with its id here."""
        admitted = parts.entrance.admit(*head(request), "completions")
        body = await _body(request, parts.max_body_bytes)
        if is_batch(body):
            results = await elsewhere.record_all(admitted, body, once, user)
            return _results(results, admitted)
        return json(await elsewhere.record(admitted, body, once, user), 202, admitted)

    return router


def model_routes(parts: Parts) -> APIRouter:
    """Make the routes that list what clients may ask for: aliases, never releases."""
    router = APIRouter(prefix="/v1/models", tags=["models"])

    def model(alias: str) -> dict[str, object]:
        return {"id": alias, "object": "model", "created": 0, "owned_by": "feedbackloop"}

    def visible(request: Request) -> tuple[Sequence[str], Admitted]:
        admitted = parts.entrance.admit(*head(request), "completions")
        tenant = admitted.caller.tenant
        return parts.entrance.visible(tenant, parts.router.aliases()), admitted

    @router.get("", responses=answers(_OK, _MODELS, 401, 403, 429, 503))
    async def models(request: Request) -> Response:
        """List the models."""
        aliases, admitted = visible(request)
        listed = [model(alias) for alias in aliases]
        return json({"object": "list", "data": listed}, admitted=admitted)

    @router.get("/{alias:path}", responses=answers(_OK, _MODEL, 401, 403, 404, 429, 503))
    async def one(request: Request, alias: str) -> Response:
        """Describe one model."""
        aliases, admitted = visible(request)
        if alias not in aliases:
            raise no_model(alias)
        return json(model(alias), admitted=admitted)

    return router
