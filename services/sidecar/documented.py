"""What our OpenAPI says: bodies, errors, and the routes that FastAPI does not carry."""

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI

from services.sidecar.feedback import MAX_ITEMS

Schema = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

_ERROR: Schema = {
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
_MEANINGS: Mapping[int, str] = {
    400: "The body is no JSON, or the request no HTTP.",
    401: "No API key, or an unknown or expired one.",
    403: "The key lacks the scope, the completion is another user's, or the id is forged.",
    404: "There is no such completion or model.",
    405: "Another method.",
    408: "The request did not come in time.",
    409: "What is in force is newer.",
    410: "The completion is too old.",
    413: "The body is too large.",
    414: "The path is too long.",
    415: "Another content type than application/json.",
    422: "A field is wrong; `param` names it.",
    429: "Too many calls: `Retry-After` says when to come back.",
    431: "The headers are too large.",
    500: "We failed.",
    502: "The model server failed, or broke off.",
    503: "Not now: repeat the call after `Retry-After` seconds.",
    504: "The model server did not answer in time.",
}
_HTTP = (400, 408, 414, 431)
"""What any request can be answered that is no good HTTP."""

_COMPLETION = (400, 401, 403, 404, 405, 413, 415, 422, 429, 502, 503, 504)
_WAIT = {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer", "minimum": 0}}}
_LIMITS = {
    f"x-ratelimit-{name}-requests": {"description": means, "schema": {"type": "string"}}
    for name, means in (
        ("limit", "Requests a minute, while a limit is on."),
        ("remaining", "Requests that may come at once."),
        ("reset", "Until all may come at once again, such as `1s` or `6m0s`."),
    )
}
_OURS = {
    name: {"description": means, "schema": {"type": "string"}}
    for name, means in (
        ("x-request-id", "The completion's id: what feedback names."),
        ("x-feedbackloop-release", "What answered."),
        ("x-feedbackloop-arm", "Side of the rollout: `stable` or `canary`."),
        ("x-feedbackloop-epoch", "Of the release document in force."),
    )
}
_STRING = {"type": ["string", "null"]}
_OPENAI: Mapping[str, tuple[str, Schema]] = {
    "/v1/chat/completions": (
        "Complete a chat. OpenAI's request; fields that are not named here are passed on.",
        {
            "required": ["model", "messages"],
            "properties": {
                "messages": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"role": {"type": "string"}}},
                }
            },
        },
    ),
    "/v1/completions": (
        "Complete a text. OpenAI's request; fields that are not named here are passed on.",
        {
            "required": ["model"],
            "properties": {"prompt": {"type": ["string", "array", "null"]}},
        },
    ),
    "/v1/responses": (
        "Answer a conversation. OpenAI's request; fields that are not named here are passed on.",
        {
            "required": ["model", "input"],
            "properties": {
                "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]},
                "background": {"enum": [None, False], "description": "Not served here."},
                "previous_response_id": _STRING,
            },
        },
    ),
}
_PASSED_ON = ("Passed on to the model server as it is, and not recorded.", {"required": ["model"]})
_FIELDS = {
    "model": {"type": "string", "description": "An alias: see `/v1/models`."},
    "user": _STRING | {"description": "Whom it is for."},
    "safety_identifier": _STRING,
    "cache_salt": _STRING,
    "stream": {"type": ["boolean", "null"]},
}


def schema(kind: type[object]) -> Schema:
    """Describe one of our own bodies."""
    (found,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    name = found["$ref"].rsplit("/", 1)[-1]
    return parts[name]  # type: ignore[no-any-return]  # msgspec types its schemas as Any


def batch_of(item: Schema) -> Schema:
    """Describe a batch of bodies. Each is checked by itself: a wrong one is no wrong batch."""
    anything: Schema = {"description": "Refused by itself, with a result of its own."}
    items = {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_ITEMS,
        "items": {"anyOf": [item, anything]},
    }
    return {
        "type": "object",
        "required": ["items"],
        "properties": {"items": items},
        "additionalProperties": False,
    }


def results_of(item: Schema) -> Schema:
    """Describe the results of a batch: of each item what it alone would have been answered."""
    status = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "integer"}},
    }
    result = {"allOf": [status, {"anyOf": [item, _ERROR_ITEM]}]}
    results = {"type": "array", "items": result}
    return {"type": "object", "required": ["results"], "properties": {"results": results}}


_ERROR_ITEM = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "object", "required": ["message", "param", "code"]}},
}


def body(content: Schema) -> dict[str, Any]:
    """Say that a route wants a JSON body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": content}}}}


def errors(*codes: int) -> Responses:
    """Describe refusals, those of any request among them."""
    content = {"application/json": {"schema": _ERROR}}
    return {
        code: {
            "description": _MEANINGS[code],
            "content": content,
            **({"headers": _WAIT} if code in (429, 503) else {}),
        }
        for code in sorted({*codes, *_HTTP})
    }


def answers(status: int, content: Schema, *codes: int, means: str = "Done.") -> Responses:
    """Describe what a route answers."""
    json = {"application/json": {"schema": content}}
    return {status: {"description": means, "content": json, "headers": _LIMITS}, **errors(*codes)}


def describe(app: FastAPI, *, more: Mapping[str, Any], reading_is_open: bool) -> None:
    """Make an application's OpenAPI say all that we answer.

    Args:
        app: Whose.
        more: Paths that it does not carry itself.
        reading_is_open: Whether GET needs no key.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = generate()
            found["paths"] |= more
            schemes = {"key": {"type": "http", "scheme": "bearer"}}
            found["components"] = {"securitySchemes": schemes}
            for operations in found["paths"].values():
                for method, operation in operations.items():
                    _mend(operation, is_open=reading_is_open and method == "get")
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _mend(operation: dict[str, Any], *, is_open: bool) -> None:
    """Take out what FastAPI assumes: we refuse in another shape."""
    assumed = operation["responses"].get("422", {})
    if "HTTPValidationError" in str(assumed):
        operation["responses"]["422"] = errors(422)[422]
    if not is_open:
        operation["security"] = [{"key": []}]


def completion_paths(passed_on: frozenset[str]) -> dict[str, Any]:
    """Describe OpenAI's routes, which are answered below ASGI."""
    known = {**_OPENAI, **dict.fromkeys(sorted(passed_on - set(_OPENAI)), _PASSED_ON)}
    return {path: {"post": _completion(path, *said)} for path, said in known.items()}


def _completion(path: str, summary: str, request: Schema) -> dict[str, Any]:
    recorded = path in _OPENAI
    whole: Schema = {"type": "object"}
    content: dict[str, Any] = {"application/json": {"schema": whole}}
    if recorded:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    fields = (
        {**_FIELDS, **request.get("properties", {})}
        if recorded
        else {name: _FIELDS[name] for name in ("model", "cache_salt")}
    )
    wanted = {"type": "object", "required": request["required"], "properties": fields}
    ok = {
        "description": "OpenAI's reply, with the alias as its model.",
        "content": content,
        "headers": _LIMITS | (_OURS if recorded else {}),
    }
    return {
        "tags": ["completions"],
        "summary": summary,
        "operationId": "post" + path.replace("/", "_"),
        **body(wanted),
        "responses": {str(code): said for code, said in ({200: ok} | errors(*_COMPLETION)).items()},
    }
