"""Which adapters nobody can need any more, so that their folders may be removed."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import msgspec

from feedbackloop.events import BASE, ReleaseName
from feedbackloop.promotion.release import Release, ReleaseDocument
from feedbackloop.training.run import FINAL, Run, RunState


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long adapters are kept that nothing needs.

    Attributes:
        releases: How many of an alias's last releases are kept, whatever became of them.
        grace_seconds: Least time between the end of a run and the removal of what it made.
    """

    releases: int
    grace_seconds: float


def collectable(
    stored: Iterable[str],
    *,
    runs: Sequence[Run],
    histories: Iterable[Sequence[ReleaseDocument]],
    served: Iterable[ReleaseName],
    retention: Retention,
    now: datetime,
) -> list[str]:
    """Return the digests of adapters that nothing needs, in order.

    Kept are adapters that a document in force names, that a sidecar still has, that an unfinished
    run made, and those of the last releases. So is one that no known run made: somebody put it
    there. While a run trains nothing may go: it may be about to make the very same bytes.

    Args:
        stored: Digests in the store.
        runs: Every run that is known, of every alias, in any order.
        histories: The documents of each alias, newest first.
        served: Names of the releases that sidecars report.
        retention: How long.
        now: In UTC.
    """
    if any(run.state is RunState.TRAIN for run in runs):
        return []
    kept = {release.digest for history in histories for release in _needed(history, retention)}
    short = {name.rpartition(".")[2] for name in served if name != BASE}
    over = set[str]()
    for run in runs:
        digest = run.facts.get("train", {}).get("digest")
        if not isinstance(digest, str):
            continue
        age_seconds = (now - run.changed_at).total_seconds()
        is_over = run.state in FINAL and age_seconds >= retention.grace_seconds
        (over if is_over else kept).add(digest)
    return sorted(
        digest
        for digest in set(stored) & over - kept
        if not any(digest.startswith(start) for start in short)
    )


def _needed(history: Sequence[ReleaseDocument], retention: Retention) -> Iterator[Release]:
    """Yield what the document in force names, and the last releases before it."""
    if history:
        yield from _named(history[0])
    last = dict[ReleaseName, Release]()
    for document in history:
        last.update({one.name: one for one in _named(document) if one.name != BASE})
    newest = sorted(last.values(), key=lambda release: -release.seq)
    yield from newest[: retention.releases]


def _named(document: ReleaseDocument) -> list[Release]:
    named = (document.stable, document.canary, document.previous)
    return [release for release in named if release is not None]
