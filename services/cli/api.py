"""The scheduler's API, called from the command line."""

from typing import Any

import httpx

from feedbackloop.errors import FeedbackLoopError, StateUnavailable
from services.settings import Settings, load

_KEY_WANTED = (401, 403)


class ApiRefused(FeedbackLoopError):
    """The scheduler said no; the message is its reason."""


class Api:
    """A scheduler, by its address in the settings."""

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or load()
        self._base = f"http://{settings.scheduler.bind}"
        key = settings.keys.admin.get_secret_value()
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str, **query: object) -> Any:  # noqa: ANN401  # any JSON
        """Read.

        Raises:
            ApiRefused: If the scheduler says no.
            StateUnavailable: If no scheduler answers there.
        """
        return self._call("GET", path, params=query or None)

    def post(self, path: str, body: dict[str, Any]) -> Any:  # noqa: ANN401  # any JSON
        """Ask for something to be done; raises like ``get``."""
        return self._call("POST", path, json=body)

    def _call(self, method: str, path: str, **rest: Any) -> Any:  # noqa: ANN401  # any JSON
        try:
            response = httpx.request(
                method,
                self._base + path,
                headers=self._headers,
                timeout=30,
                trust_env=False,
                **rest,
            )
        except httpx.HTTPError as error:
            raise StateUnavailable(
                f"no scheduler answers at {self._base}: is the loop up? ({error})"
            ) from error
        if response.is_success:
            return response.json()
        try:
            message = response.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = response.text
        hint = "; set FEEDBACKLOOP_KEYS__ADMIN" if response.status_code in _KEY_WANTED else ""
        raise ApiRefused(f"{message}{hint}")
