"""Web pages that send feedback straight from a browser: the allow-list of their origins.

No cookies and no credentials: what a page may do, it may do because it holds a completion id.
"""

from starlette.middleware.cors import CORSMiddleware

from feedbackloop.errors import RequestError
from services.guard import Application, Receive, Scope, Send
from services.sidecar import answers

_ROUTE = "/v1/feedback"
_ASKED = ("content-type", "idempotency-key", "x-feedbackloop-user", "authorization")
_TOLD = (
    "retry-after",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)
_REMEMBERED_SECONDS = 600


class Pages:
    """Tell browsers which pages may send feedback. Everything else passes untouched.

    Whether an origin may really do so is checked with the request itself: browsers ask first only
    for their users' sake, and other programs do not ask.

    Args:
        app: Answers.
        origins: Of the pages.
    """

    def __init__(self, app: Application, origins: frozenset[str]) -> None:
        self._app = app
        self._origins = {origin.encode() for origin in origins}
        self._cors = CORSMiddleware(
            app,
            allow_origins=sorted(origins),
            allow_methods=["POST", "DELETE"],
            allow_headers=_ASKED,
            expose_headers=_TOLD,
            max_age=_REMEMBERED_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_ROUTE):
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS" and not self._is_allowed(scope):
            error = RequestError(
                "pages of this origin may not send feedback", status=403, code="origin_not_allowed"
            )
            await answers.send_error(send, error)
        else:
            await self._cors(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        origin = next((value for name, value in scope["headers"] if name == b"origin"), b"")
        return origin in self._origins
