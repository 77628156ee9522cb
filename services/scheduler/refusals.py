"""How the scheduler's API says no: one JSON shape, OpenAI's, that names the field."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from feedbackloop.errors import (
    FeedbackLoopError,
    RequestError,
    RunError,
    SettingsError,
    StaleEpoch,
    UnavailableError,
)

_FAILED = 500


class Problem(BaseModel):
    """What is wrong, for people and for programs."""

    message: str
    type: str
    param: str | None = None
    """The field that is wrong, if one is."""
    code: str | None = None


class Refusal(BaseModel):
    """The body of every answer above 399."""

    error: Problem


DOCUMENTED: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "The body is not JSON."},
    401: {"model": Refusal, "description": "No API key, or an unknown one."},
    403: {"model": Refusal, "description": "The API key lacks the scope `admin`."},
    404: {"model": Refusal, "description": "No such run, alias, snapshot or completion."},
    409: {"model": Refusal, "description": "Not possible now; the message says why."},
    422: {"model": Refusal, "description": "A field is wrong; `param` names it."},
    503: {"model": Refusal, "description": "The state database is away, or another one leads."},
}


def explain_refusals(app: FastAPI) -> None:
    """Give every refusal of an application the one shape."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(FeedbackLoopError, _ours)
    app.add_exception_handler(HTTPException, _http)
    # Raised again once it is answered, for whoever logs it.
    app.add_exception_handler(Exception, _failed)


def missing(what: str, name: str) -> RequestError:
    """Return the refusal of a name that is not known."""
    return RequestError(f"{what}: there is no {name}", status=404, param=what)


def _answer(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> JSONResponse:
    kind = "server_error" if status >= _FAILED else "invalid_request_error"
    problem = Problem(message=message, type=kind, param=param, code=code)
    return JSONResponse(Refusal(error=problem).model_dump(), status_code=status)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # as registered
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _answer(400, "the body is not JSON")
    param = ".".join(str(part) for part in first["loc"][1:]) or None
    return _answer(422, f"{param or 'body'}: {first['msg']}", param=param)


async def _ours(_: Request, error: Exception) -> JSONResponse:
    match error:
        case RequestError():
            return _answer(error.status, error.message, param=error.param, code=error.code)
        case SettingsError():
            return _answer(422, str(error), param="recipe")
        case RunError():
            return _answer(404, str(error))
        case UnavailableError() | StaleEpoch():
            return _answer(503, str(error))
        case _:
            return _answer(409, str(error))


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # as registered
    return _answer(error.status_code, str(error.detail))


async def _failed(_: Request, error: Exception) -> JSONResponse:
    del error  # for the log alone: it may hold what people wrote
    return _answer(_FAILED, "the scheduler failed: its log says why", code="internal_error")
