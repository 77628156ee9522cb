"""Remove the adapters that nobody can need any more: now and then, and only if all is known."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from feedbackloop.events import ReleaseName
from feedbackloop.promotion.port import Adapters, Releases
from feedbackloop.promotion.retention import Retention, collectable
from feedbackloop.training.port import Runs
from services import telemetry
from services.scheduler.sidecars import SidecarReport, Sidecars

log = structlog.get_logger()
_EVERY = timedelta(hours=1)
_FAR = 10_000
"""Runs, and documents of an alias, that are looked back on."""


class Collector:
    """The leader's: two of them would do no harm, and the second would find nothing."""

    def __init__(
        self,
        adapters: Adapters,
        *,
        runs: Runs,
        releases: Releases,
        sidecars: Sidecars,
        retention: Retention,
        now: Callable[[], datetime],
    ) -> None:
        self._adapters = adapters
        self._runs = runs
        self._releases = releases
        self._sidecars = sidecars
        self._retention = retention
        self._now = now
        self._looked_at: datetime | None = None

    async def look(self) -> list[str]:
        """Remove what may go, if it is time to look; return the digests that went.

        Raises:
            UnavailableError: If the state database does not answer.
        """
        now = self._now()
        if self._looked_at is not None and now - self._looked_at < _EVERY:
            return []
        self._looked_at = now
        stored = await asyncio.to_thread(self._adapters.digests)
        reports = await self._sidecars.reports() if stored else []
        silent = [report.sidecar for report in reports if not report.reachable]
        if silent or not reports:
            # vLLM reads an adapter's files again whenever it has pushed them out of its cache.
            log.debug("nothing_collected", silent=silent)
            return []
        runs = await self._runs.list(limit=_FAR)
        aliases = [document.alias for document in await self._releases.list()]
        going = collectable(
            stored,
            runs=runs,
            histories=[await self._releases.history(alias, limit=_FAR) for alias in aliases],
            served=_served(reports),
            retention=self._retention,
            now=now,
        )
        for digest in going:
            await asyncio.to_thread(self._adapters.collect, digest)
            telemetry.ADAPTERS_COLLECTED.inc()
            made_by = [
                run.run for run in runs if run.facts.get("train", {}).get("digest") == digest
            ]
            log.info("adapter_collected", digest=digest, runs=made_by)
        return going


def _served(reports: Sequence[SidecarReport]) -> set[ReleaseName]:
    """Return every release that a sidecar names: one that it drains is still being read."""
    served = set[ReleaseName]()
    for report in reports:
        for alias in report.aliases.values():
            served |= {alias.stable, *alias.releases}
            if alias.canary is not None:
                served.add(alias.canary)
    return served
