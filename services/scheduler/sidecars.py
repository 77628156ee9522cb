"""What the sidecars say they serve, asked on their admin ports."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import httpx
import msgspec

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.events import Alias, ReleaseName

_READY = frozenset({"proven", "serving"})


class ReleaseReport(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sidecar is with one release."""

    state: str
    in_flight: int = 0
    reason: str | None = None


class AliasReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a sidecar serves under one alias."""

    epoch: int
    stable: ReleaseName
    canary: ReleaseName | None = None
    canary_share: float = 0.0
    releases: dict[ReleaseName, ReleaseReport] = {}


class SidecarReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one sidecar says; ``reachable`` is False if it said nothing."""

    sidecar: str
    aliases: dict[Alias, AliasReport] = {}
    reachable: bool = True

    def has_proven(self, alias: Alias, release: ReleaseName) -> bool:
        """Say whether it could serve a release at once."""
        report = self.aliases.get(alias)
        found = report.releases.get(release) if report is not None else None
        return found is not None and found.state in _READY

    def failure(self, alias: Alias, release: ReleaseName) -> str | None:
        """Say why it cannot serve a release, if it gave up on it."""
        report = self.aliases.get(alias)
        found = report.releases.get(release) if report is not None else None
        if found is None or found.state != "failed":
            return None
        return f"{self.sidecar}: {found.reason or 'no reason given'}"

    def serves(self, alias: Alias, *, epoch: int, stable: ReleaseName) -> bool:
        """Say whether it follows the document of an epoch, with its stable release."""
        report = self.aliases.get(alias)
        return report is not None and report.epoch >= epoch and report.stable == stable


class Sidecars(Protocol):
    """Whoever can tell what is served."""

    async def reports(self) -> Sequence[SidecarReport]:
        """Ask every sidecar; one that does not answer is reported as unreachable."""
        ...


class HttpSidecars:
    """Sidecars at fixed admin addresses."""

    def __init__(self, urls: Sequence[str], *, timeout_seconds: float = 2.0) -> None:
        self._urls = urls
        self._client = httpx.AsyncClient(timeout=timeout_seconds, trust_env=False)

    async def reports(self) -> Sequence[SidecarReport]:
        return await asyncio.gather(*(self._ask(url) for url in self._urls))

    async def close(self) -> None:
        """Release the connections."""
        await self._client.aclose()

    async def _ask(self, url: str) -> SidecarReport:
        try:
            response = await self._client.get(f"{url}/v1/releases")
            response.raise_for_status()
            return msgspec.json.decode(response.content, type=SidecarReport)
        except (httpx.HTTPError, *UNREADABLE):
            return SidecarReport(sidecar=url, reachable=False)
