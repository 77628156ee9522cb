"""The two applications: the public one, completion path in front, and the admin one."""

from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from feedbackloop import __version__
from feedbackloop.errors import RequestError
from services import telemetry
from services.guard import Application, Receive, Scope, Send
from services.sidecar import answers, routes
from services.sidecar.admin import admin_routes, release_routes
from services.sidecar.body import ClientGone
from services.sidecar.bridge import internal_error
from services.sidecar.documented import completion_paths, describe
from services.sidecar.front import Front, FrontLimits
from services.sidecar.pages import Pages
from services.sidecar.parts import Parts
from services.sidecar.passing import Passing
from services.sidecar.proxy import Proxy


class _Rest:
    """What is passed on by raw ASGI, everything else by FastAPI."""

    def __init__(self, parts: Parts) -> None:
        self._passing = Passing(parts)
        self._passed_on = parts.passed_on
        self._app: Application = make_public(parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The scope's path decides, never a URL made from the Host header.
        passed_on = scope["type"] == "http" and scope.get("path", "") in self._passed_on
        await (self._passing if passed_on else self._app)(scope, receive, send)


def make_front(parts: Parts, limits: FrontLimits | None = None) -> Front:
    """Make the public listener: completions in front, everything else through ASGI."""
    limits = limits or FrontLimits(body_bytes=parts.max_body_bytes)
    return Front(Proxy(parts), _Rest(parts), limits=limits)


def make_public(parts: Parts) -> FastAPI:
    """Make the application for feedback and models."""
    app = FastAPI(
        title="feedbackloop sidecar",
        version=__version__,
        redoc_url=None,
        docs_url=None,
        redirect_slashes=False,
    )
    app.include_router(routes.feedback_routes(parts))
    app.include_router(routes.withdrawal_routes(parts))
    app.include_router(routes.recording_routes(parts))
    app.include_router(routes.model_routes(parts))
    _speak_openai(app)
    describe(app, more=completion_paths(parts.passed_on), reading_is_open=False)
    if parts.entrance.origins:
        app.add_middleware(Pages, origins=parts.entrance.origins)
    return app


def make_admin(parts: Parts) -> FastAPI:
    """Make the application for operators and for the scheduler."""
    app = FastAPI(
        title="feedbackloop sidecar: admin",
        version=__version__,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(admin_routes(parts))
    app.include_router(release_routes(parts))
    _speak_openai(app)
    describe(app, more={}, reading_is_open=True)
    return app


def _speak_openai(app: FastAPI) -> None:
    """Answer every error in OpenAI's shape."""

    async def refused(request: Request, error: Exception) -> Response:
        fault = _fault(error) or internal_error()
        if request.url.path.startswith("/v1/feedback"):
            telemetry.FEEDBACK_REFUSED.labels(str(fault.status)).inc()
        return Response(
            answers.error_body(fault),
            status_code=fault.status,
            headers=answers.error_headers(fault),
            media_type="application/json",
        )

    # The last one is raised again once it is answered, for whoever logs and counts it.
    for kind in (RequestError, ClientGone, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, refused)


def _fault(error: Exception) -> RequestError | None:
    """Say what was wrong with a request; None if it was not the request."""
    match error:
        case RequestError():
            return error
        case ClientGone():
            return RequestError("the request broke off", status=400, code="incomplete_request")
        case HTTPException(status_code=405):
            return RequestError("method not allowed", status=405, code="method_not_allowed")
        case HTTPException(status_code=status):
            return RequestError("no such route", status=status, code="not_found")
        case RequestValidationError():
            first: dict[str, Any] = dict(error.errors()[0])
            param = str(first["loc"][-1])
            return RequestError(
                f"{param}: {first['msg']}", status=422, param=param, code="invalid_parameter"
            )
        case _:
            return None


def openapi(app: FastAPI) -> bytes:
    """Return the description of an application, as JSON."""
    return msgspec.json.encode(app.openapi())
