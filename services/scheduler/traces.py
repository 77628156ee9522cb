"""From a completion to everything that came of it."""

import asyncio
from typing import Any

import msgspec

from feedbackloop.dataset.port import Snapshots
from feedbackloop.dataset.snapshot import Snapshot
from feedbackloop.events import CompletionId
from feedbackloop.labels.gather import Gathering
from feedbackloop.labels.resolve import resolve
from feedbackloop.training.port import Runs


class Traces:
    """Looks completions up in what the scheduler has read of the log.

    Args:
        gathering: What was read.
        snapshots: Searched for rows of the completion.
        runs: Searched for runs that trained on those snapshots.
    """

    def __init__(self, gathering: Gathering, snapshots: Snapshots, runs: Runs) -> None:
        self._gathering = gathering
        self._snapshots = snapshots
        self._runs = runs

    async def of(self, completion_id: str) -> dict[str, Any] | None:
        """Return a completion's signals, label, snapshots, runs and releases; None if unknown."""
        found = self._gathering.of(CompletionId(completion_id))
        if found.completion is None and not found.signals:
            return None
        digests = await asyncio.to_thread(self._holding, found.completion_id)
        runs = [
            run
            for run in await self._runs.list(limit=1000)
            if run.facts.get("snapshot", {}).get("digest") in digests
        ]
        return {
            "completion": msgspec.to_builtins(found.completion),
            "signals": msgspec.to_builtins(found.signals),
            "label": msgspec.to_builtins(resolve(found.completion_id, found.signals)),
            "snapshots": digests,
            "runs": [{"run": run.run, "state": run.state.value} for run in runs],
            "releases": [run.facts["canary"]["release"] for run in runs if "canary" in run.facts],
        }

    def _holding(self, completion_id: CompletionId) -> list[str]:
        """Return the snapshots with a row of the completion; reads all of them."""
        return [
            digest
            for digest in self._snapshots.digests()
            if completion_id in _ids(self._snapshots.get(digest))
        ]


def _ids(snapshot: Snapshot) -> set[CompletionId]:
    pairs = (*snapshot.dpo, *snapshot.held_out_dpo)
    return (
        {row.completion_id for row in (*snapshot.kto, *snapshot.held_out_kto)}
        | {row.chosen_id for row in pairs}
        | {row.rejected_id for row in pairs}
    )
