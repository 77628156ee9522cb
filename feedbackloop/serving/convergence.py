"""Wanted and observed releases of one replica: the next safe steps, and who may answer now.

The order of a swap is always the same: load, prove, and only then route; stop routing, wait for
the last request, and only then unload. A step is offered only while the one before it is known
to have happened or stands before it in the list, so that a crash leads back into the same order.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import StrEnum

import msgspec

from feedbackloop.events import BASE, Alias, ReleaseName
from feedbackloop.promotion.release import Release, ReleaseDocument
from feedbackloop.serving.routing import Routes, RouteTable, Served


class State(StrEnum):
    """How far a replica is with a release."""

    ABSENT = "absent"
    LOADED = "loaded"
    PROVEN = "proven"
    """It is applied: it may answer at once."""
    SERVING = "serving"
    DRAINING = "draining"
    """Still answers requests that it began; it gets no new ones."""
    FAILED = "failed"


class Load(msgspec.Struct, frozen=True):
    """Verify a release's bytes and make the server hold it."""

    release: Release


class Prove(msgspec.Struct, frozen=True):
    """Show that a loaded release is applied; its turn comes after its load."""

    release: Release


class Unload(msgspec.Struct, frozen=True):
    """Let the server forget a release that nobody can be using."""

    release: ReleaseName


Step = Load | Prove | Unload


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one server.

    Attributes:
        loaded: What it answers for beside the base.
        proven: What was proven on it as it runs now, and lately enough.
        failed: What it was found not to serve rightly: not tried again.
        in_flight: Requests under way, by release.
        capacity: How many adapters may be loaded at once.
    """

    loaded: AbstractSet[ReleaseName] = frozenset()
    proven: AbstractSet[ReleaseName] = frozenset()
    failed: AbstractSet[ReleaseName] = frozenset()
    in_flight: Mapping[ReleaseName, int] = {}
    capacity: int


def wanted(documents: Iterable[ReleaseDocument]) -> Sequence[Release]:
    """List what is to be loaded and proven, the most needed first; the base needs no loading.

    Every alias' stable comes before any canary, and canaries come before the previous ones: if
    not all fit, it is the way back that becomes slower, and not the service.
    """
    documents = sorted(documents, key=lambda document: document.alias)
    ordered = [document.stable for document in documents]
    ordered += [document.canary for document in documents if document.canary is not None]
    ordered += [document.previous for document in documents if document.previous is not None]
    # A dictionary keeps the first place of a name that stands in two.
    return list({release.name: release for release in ordered if release.name != BASE}.values())


def routed(table: RouteTable) -> frozenset[ReleaseName]:
    """Name every release that new requests may reach."""
    return frozenset(
        served.release
        for routes in table.values()
        for served in (routes.stable, routes.canary)
        if served is not None
    )


def next_steps(
    documents: Iterable[ReleaseDocument], observed: Observed, routed: AbstractSet[ReleaseName]
) -> list[Step]:
    """Work out the steps that are safe now, to be taken in this order.

    What is loaded, not wanted, not routed and without requests is unloaded first, for its place
    may be needed; so is what failed. No step means: nothing to do, or something to wait for.
    A swap needs a place beside the release that answers: with a capacity of 1 the old one
    stays, because dropping it first would drop people.

    Args:
        documents: Wanted state of every alias.
        observed: The server.
        routed: What new requests may reach.
    """
    usable = [release for release in wanted(documents) if release.name not in observed.failed]
    fitting = usable[: observed.capacity]
    names = {release.name for release in fitting}
    leaving = [
        name
        for name in sorted(observed.loaded)
        if name not in names | routed and not observed.in_flight.get(name)
    ]
    steps: list[Step] = [Unload(name) for name in leaving]
    room = observed.capacity - len(observed.loaded) + len(leaving)
    for release in fitting:
        if release.name not in observed.loaded:
            room -= 1
            if room < 0:
                continue
            steps.append(Load(release))
        if release.name not in observed.loaded or release.name not in observed.proven:
            steps.append(Prove(release))
    return steps


def routes(
    documents: Iterable[ReleaseDocument],
    *,
    servable: AbstractSet[ReleaseName],
    bases: Mapping[Alias, str],
    before: RouteTable,
) -> RouteTable:
    """Say who may answer for each alias now: the base, and what is loaded and proven here.

    While the wanted stable is not servable, what answered so far goes on, or else previous, or
    else the base; the canary then gets nothing, for it has nothing to be compared with. What
    was rolled back never answers.

    Args:
        documents: Wanted state; an alias without a document is on its base.
        servable: What is loaded and proven.
        bases: For each alias the model name of its base; no other alias is served.
        before: The routes in force.
    """
    known = {document.alias: document for document in documents}
    return {
        alias: _routes(
            known.get(alias, ReleaseDocument(alias=alias)),
            base=Served(release=BASE, seq=0, model=model),
            servable=servable,
            before=before.get(alias),
        )
        for alias, model in bases.items()
    }


def state(release: ReleaseName, observed: Observed, routed: AbstractSet[ReleaseName]) -> State:
    """Say how far the server is with a release; the base is always proven."""
    if release in observed.failed:
        return State.FAILED
    if release in routed:
        return State.SERVING
    if release == BASE:
        return State.PROVEN
    if release not in observed.loaded:
        return State.ABSENT
    if observed.in_flight.get(release):
        return State.DRAINING
    return State.PROVEN if release in observed.proven else State.LOADED


def _routes(
    document: ReleaseDocument,
    *,
    base: Served,
    servable: AbstractSet[ReleaseName],
    before: Routes | None,
) -> Routes:
    """Route one alias."""
    stable = _stable(document, base=base, servable=servable, before=before)
    canary = None
    if document.canary is not None and document.canary_share > 0:
        comparable = stable.release == document.stable.name
        canary = _served(document.canary, base, servable) if comparable else None
    return Routes(
        alias=document.alias,
        epoch=document.epoch,
        stable=stable,
        canary=canary,
        canary_share=document.canary_share if canary is not None else 0.0,
        salt=document.salt,
    )


def _stable(
    document: ReleaseDocument,
    *,
    base: Served,
    servable: AbstractSet[ReleaseName],
    before: Routes | None,
) -> Served:
    """Choose who answers as stable: as wanted, or the best that is left."""
    found = _served(document.stable, base, servable)
    if found is None and before is not None and before.stable.release in servable:
        found = None if _rolled_back(before.stable.release, document) else before.stable
    if found is None and document.previous is not None:
        found = _served(document.previous, base, servable)
    return found or base


def _served(release: Release, base: Served, servable: AbstractSet[ReleaseName]) -> Served | None:
    """Return a release as requests select it, if it may answer here."""
    if release.name == BASE:
        return base
    if release.name not in servable:
        return None
    return Served(release=release.name, seq=release.seq, model=release.name)


def _rolled_back(name: ReleaseName, document: ReleaseDocument) -> bool:
    """Say whether a name's digest is quarantined."""
    short = name.rpartition(".")[2]
    return any(digest.startswith(short) for digest in document.quarantined)
