"""Runs in dictionaries: reference, and test double."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from feedbackloop.errors import StaleEpoch
from feedbackloop.events import Alias, RunId
from feedbackloop.training.port import Lease
from feedbackloop.training.run import Run, may_move


class MemoryRuns:
    """Runs for as long as this object lives; share it to be several schedulers."""

    def __init__(self) -> None:
        self._runs: dict[RunId, Run] = {}
        self._lease: Lease | None = None

    async def acquire(self, owner: str, *, now: datetime, seconds: float) -> Lease | None:
        held = self._lease
        if held is not None and held.owner != owner and held.expires_at > now:
            return None
        epoch = 1 if held is None else held.epoch + (held.owner != owner)
        until = now + timedelta(seconds=seconds)
        self._lease = Lease(owner=owner, epoch=epoch, expires_at=until)
        return self._lease

    async def create(self, run: Run) -> Run:
        for known in self._runs.values():
            if (known.alias, known.slot) == (run.alias, run.slot):
                return known
        self._runs[run.run] = run
        return run

    async def get(self, run: RunId) -> Run | None:
        return self._runs.get(run)

    async def list(self, alias: Alias | None = None, *, limit: int = 100) -> Sequence[Run]:
        runs = [run for run in self._runs.values() if alias in (None, run.alias)]
        return sorted(runs, key=lambda run: run.created_at, reverse=True)[:limit]

    async def replace(self, before: Run, after: Run) -> Run:
        if after.state is not before.state and not may_move(before.state, after.state):
            raise ValueError(f"a run cannot go from {before.state} to {after.state}")
        known = self._runs.get(before.run)
        if known is None or known.version != before.version or known.epoch > after.epoch:
            raise StaleEpoch(f"{before.run} was changed by somebody else since")
        grown = msgspec.structs.replace(after, version=before.version + 1)
        self._runs[before.run] = grown
        return grown
