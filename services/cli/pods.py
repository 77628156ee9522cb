"""Sidecars, called from the command line on their admin listeners."""

from typing import Any

import httpx
import msgspec

from feedbackloop.errors import FeedbackLoopError, PolicyServerUnavailable
from feedbackloop.events import Alias
from feedbackloop.promotion.release import ReleaseDocument
from services.settings import Settings

_SECONDS = 5.0


def sidecars(settings: Settings) -> list[str]:
    """Return the admin address of every sidecar that the settings name."""
    return list(settings.scheduler.sidecars) or [f"http://{settings.sidecar.admin_bind}"]


class Pod:
    """One sidecar."""

    def __init__(self, url: str, settings: Settings) -> None:
        key = settings.keys.admin.get_secret_value()
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def document(self, alias: str) -> ReleaseDocument:
        """Return the release document that it follows.

        Raises:
            PolicyServerUnavailable: If it does not answer.
            FeedbackLoopError: If it refuses.
        """
        found = self._call("GET", params={"full": "true"})
        documents = msgspec.convert(found.get("documents", []), list[ReleaseDocument])
        return next(
            (one for one in documents if one.alias == alias), ReleaseDocument(alias=Alias(alias))
        )

    def follow(self, signed: str) -> None:
        """Give it a signed document; raises like ``document``."""
        self._call("PUT", json={"signed": signed})

    def _call(self, method: str, **rest: Any) -> Any:  # noqa: ANN401  # any JSON
        url = f"{self._url}/v1/releases"
        try:
            reply = httpx.request(
                method, url, headers=self._headers, timeout=_SECONDS, trust_env=False, **rest
            )
            found = reply.json()
        except (httpx.HTTPError, ValueError) as error:
            raise PolicyServerUnavailable(f"no sidecar answers at {self._url}: {error}") from error
        if not reply.is_success:
            raise FeedbackLoopError(f"{self._url}: {found['error']['message']}")
        return found
