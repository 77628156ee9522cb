"""Runs in dictionaries: reference, and test double."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from feedbackloop.errors import StaleEpoch
from feedbackloop.events import Alias, RunId
from feedbackloop.training.port import Lease
from feedbackloop.training.run import FINAL, Run, may_move


class MemoryRuns:
    """Runs for as long as this object lives; share it to be several schedulers."""

    def __init__(self) -> None:
        self._runs: dict[RunId, Run] = {}
        self._lease: Lease | None = None

    async def acquire(self, owner: str, *, now: datetime, seconds: float) -> Lease | None:
        held = self._lease
        if held is not None and held.owner not in ("", owner) and held.expires_at > now:
            return None
        epoch = 1 if held is None else held.epoch + (held.owner != owner)
        until = now + timedelta(seconds=seconds)
        self._lease = Lease(owner=owner, epoch=epoch, expires_at=until)
        return self._lease

    async def resign(self, lease: Lease) -> None:
        held = self._lease
        if held is not None and (held.owner, held.epoch) == (lease.owner, lease.epoch):
            self._lease = msgspec.structs.replace(held, owner="")

    async def create(self, run: Run) -> Run:
        for known in self._runs.values():
            if (known.alias, known.slot) == (run.alias, run.slot):
                return known
        self._fence(run)
        self._runs[run.run] = run
        return run

    async def get(self, run: RunId) -> Run | None:
        return self._runs.get(run)

    async def list(self, alias: Alias | None = None, *, limit: int = 100) -> Sequence[Run]:
        runs = [run for run in self._runs.values() if alias in (None, run.alias)]
        return sorted(runs, key=lambda run: run.created_at, reverse=True)[:limit]

    async def unfinished(self, alias: Alias) -> Sequence[Run]:
        runs = [r for r in self._runs.values() if r.alias == alias and r.state not in FINAL]
        return sorted(runs, key=lambda run: run.created_at)

    async def replace(self, before: Run, after: Run) -> Run:
        if after.state is not before.state and not may_move(before.state, after.state):
            raise ValueError(f"a run cannot go from {before.state} to {after.state}")
        self._fence(after)
        known = self._runs.get(before.run)
        if known is None or known.version != before.version or known.epoch > after.epoch:
            raise StaleEpoch(f"{before.run} was changed by somebody else since")
        grown = msgspec.structs.replace(after, version=before.version + 1)
        self._runs[before.run] = grown
        return grown

    def _fence(self, run: Run) -> None:
        if self._lease is not None and self._lease.epoch > run.epoch:
            raise StaleEpoch(f"lease {run.epoch} is over: {self._lease.epoch} is in force")
