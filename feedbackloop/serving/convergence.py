"""Wanted and observed releases of one replica: the next safe steps, and who may answer now.

The order of a swap is always the same: stage, validate, load, prove, and only then route; stop
routing, wait for the last request, and only then unload. A step is taken only while the one
before it is known to have happened, so that a crash anywhere leads back into the same order.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from feedbackloop.events import BASE, Alias, ReleaseName
from feedbackloop.promotion.release import Release, ReleaseDocument
from feedbackloop.serving.routing import Routes, RouteTable, Served

_SPARE = 2
"""Places kept free in vLLM's memory: one for a load under way, one for a load that failed."""


class State(StrEnum):
    """How far a replica is with a release."""

    ABSENT = "absent"
    STAGED = "staged"
    """Its bytes are here, and are the digest's."""
    VALIDATED = "validated"
    """This server can hold it."""
    LOADED = "loaded"
    PROVEN = "proven"
    """It is applied: it may answer at once."""
    SERVING = "serving"
    DRAINING = "draining"
    """No new requests; loaded until the last one ended."""
    UNLOADED = "unloaded"
    RETAINED = "retained"
    """Unloaded, but the engine may still read its files."""
    COLLECTED = "collected"
    """This replica will not read its files any more."""
    FAILED = "failed"


class Do(StrEnum):
    """What can be done about a release."""

    STAGE = "stage"
    VALIDATE = "validate"
    LOAD = "load"
    PROVE = "prove"
    UNLOAD = "unload"


class Step(msgspec.Struct, frozen=True):
    """One thing to do, safe in the situation that it was worked out for and in no other."""

    do: Do
    release: ReleaseName


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """How many adapters the server holds.

    Attributes:
        active: At once in use: vLLM's ``--max-loras``.
        kept: In its memory: ``--max-cpu-loras``.
    """

    active: int
    kept: int


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one server and of the disk beside it.

    Attributes:
        staged: Releases whose bytes were verified.
        validated: Those of them that this server can hold.
        loaded: What the server answers for.
        proven: What was proven on the server as it runs now.
        failed: Why a release cannot be served here.
        in_flight: Requests under way, by release.
        unloaded: What was told to unload, and how many seconds ago.
    """

    staged: frozenset[ReleaseName] = frozenset()
    validated: frozenset[ReleaseName] = frozenset()
    loaded: frozenset[ReleaseName] = frozenset()
    proven: frozenset[ReleaseName] = frozenset()
    failed: Mapping[ReleaseName, str] = {}
    in_flight: Mapping[ReleaseName, int] = {}
    unloaded: Mapping[ReleaseName, float] = {}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What of the wanted can be had.

    Attributes:
        wanted: Releases to have loaded and proven, the most needed first.
        refused: Why a release that a document names is not among them.
    """

    wanted: tuple[Release, ...]
    refused: Mapping[ReleaseName, str]


def plan(documents: Iterable[ReleaseDocument], capacity: Capacity) -> Plan:
    """Choose what to have loaded: every stable first, then the canaries, then the previous ones.

    A canary for which no adapter slot is left is refused: it would take turns with the stable
    release, and both would wait. The base needs no place.
    """
    documents = sorted(documents, key=lambda document: document.alias)
    stables = [document.stable for document in documents]
    canaries = [document.canary for document in documents]
    previous = [document.previous for document in documents]
    wanted: dict[ReleaseName, Release] = {}
    refused: dict[ReleaseName, str] = {}
    slots = capacity.active - sum(release.name != BASE for release in stables)
    for release in [*stables, *canaries, *previous]:
        if release is None or release.name == BASE or release.name in wanted:
            continue
        if release in canaries:
            slots -= 1
        if release in canaries and slots < 0:
            refused[release.name] = f"no slot: {capacity.active} adapters can be active at once"
        elif len(wanted) + _SPARE >= capacity.kept:
            refused[release.name] = (
                f"no room: the server keeps {capacity.kept} adapters, "
                f"{len(wanted)} are needed more and {_SPARE} places stay free"
            )
        else:
            wanted[release.name] = release
    return Plan(wanted=tuple(wanted.values()), refused=refused)


def steps(plan: Plan, replica: Replica, table: RouteTable, capacity: Capacity) -> Sequence[Step]:
    """Work out every step that is safe now, the most needed first.

    A release advances by one step; what is no longer wanted is unloaded once nothing is routed
    to it and its last request ended. No step means: nothing to do, or something to wait for.

    Args:
        plan: What to have.
        replica: What there is.
        table: The routes in force.
        capacity: Of the server.
    """
    wanted = [release.name for release in plan.wanted]
    found = [
        Step(Do.UNLOAD, name)
        for name in sorted(replica.loaded)
        if name not in wanted and not _in_use(name, replica, table)
    ]
    room = capacity.kept - 1 - len(replica.loaded)
    for name in wanted:
        step = _advance(name, replica)
        if step is Do.LOAD:
            room -= 1
            if room < 0:
                continue
        if step is not None:
            found.append(Step(step, name))
    return found


def routes(
    documents: Mapping[Alias, ReleaseDocument],
    bases: Mapping[Alias, str],
    replica: Replica,
    *,
    before: RouteTable,
    plan: Plan,
) -> RouteTable:
    """Say who may answer for each alias now: only what is loaded and proven here.

    While the wanted stable is not proven, the release that answered so far goes on, or else
    previous, or else the base; the canary then gets nothing, for it has nothing to be compared
    with. A quarantined release never answers.

    Args:
        documents: Wanted state, by alias; an alias without one is on its base.
        bases: For each alias the model name of its base.
        replica: What there is.
        before: The routes in force.
        plan: What can be had.
    """
    table: dict[Alias, Routes] = {}
    for alias, model in bases.items():
        document = documents.get(alias, ReleaseDocument(alias=alias))
        base = Served(release=BASE, seq=0, model=model)
        stable = _stable(document, base, replica, before.get(alias))
        canary = None
        if document.canary is not None and stable.release == document.stable.name:
            refused = document.canary.name in plan.refused
            canary = None if refused else _served(document.canary, base, replica)
        table[alias] = Routes(
            alias=alias,
            epoch=document.epoch,
            stable=stable,
            canary=canary,
            canary_share=document.canary_share if canary is not None else 0.0,
            salt=document.salt,
        )
    return table


def state(
    release: ReleaseName, plan: Plan, replica: Replica, table: RouteTable, *, grace_seconds: float
) -> State:
    """Say how far a release is.

    Args:
        release: Any release but the base.
        plan: What can be had.
        replica: What there is.
        table: The routes in force.
        grace_seconds: For so long after it was unloaded the engine may still read the files.
    """
    if release in replica.failed or release in plan.refused:
        return State.FAILED
    if not any(release == wanted.name for wanted in plan.wanted):
        return _leaving(release, replica, grace_seconds)
    if release not in replica.loaded:
        if release in replica.validated:
            return State.VALIDATED
        return State.STAGED if release in replica.staged else State.ABSENT
    if release not in replica.proven:
        return State.LOADED
    return State.SERVING if _has_traffic(release, table) else State.PROVEN


def _advance(name: ReleaseName, replica: Replica) -> Do | None:
    """Return the one next step of a wanted release."""
    if name in replica.failed:
        return None
    if name not in replica.staged:
        return Do.STAGE
    if name not in replica.validated:
        return Do.VALIDATE
    if name not in replica.loaded:
        return Do.LOAD
    return Do.PROVE if name not in replica.proven else None


def _leaving(release: ReleaseName, replica: Replica, grace_seconds: float) -> State:
    """Say how far a release is that is no longer wanted."""
    if release in replica.loaded:
        return State.UNLOADED if release in replica.unloaded else State.DRAINING
    seconds = replica.unloaded.get(release)
    if seconds is None:
        return State.ABSENT
    return State.RETAINED if seconds < grace_seconds else State.COLLECTED


def _in_use(name: ReleaseName, replica: Replica, table: RouteTable) -> bool:
    """Say whether a release answers, or may be asked to."""
    routed = any(
        served is not None and served.release == name
        for entry in table.values()
        for served in (entry.stable, entry.canary)
    )
    return routed or replica.in_flight.get(name, 0) > 0


def _has_traffic(name: ReleaseName, table: RouteTable) -> bool:
    return any(
        entry.stable.release == name
        or (entry.canary is not None and entry.canary.release == name and entry.canary_share > 0)
        for entry in table.values()
    )


def _stable(
    document: ReleaseDocument, base: Served, replica: Replica, before: Routes | None
) -> Served:
    """Choose who answers as stable: as wanted, or the best that is left."""
    wanted = _served(document.stable, base, replica)
    if wanted is not None:
        return wanted
    if before is not None and before.stable.release != BASE:
        name = before.stable.release
        if _ready(name, replica) and not _quarantined(name, document):
            return before.stable
    if document.previous is not None:
        return _served(document.previous, base, replica) or base
    return base


def _served(release: Release, base: Served, replica: Replica) -> Served | None:
    """Return a release as requests select it, if it may answer here."""
    if release.name == BASE:
        return base
    if not _ready(release.name, replica):
        return None
    return Served(release=release.name, seq=release.seq, model=release.name)


def _ready(name: ReleaseName, replica: Replica) -> bool:
    return name in replica.loaded and name in replica.proven and name not in replica.failed


def _quarantined(name: ReleaseName, document: ReleaseDocument) -> bool:
    """Say whether a name's digest is one that was rolled back."""
    short = name.rpartition(".")[2]
    return any(digest.startswith(short) for digest in document.quarantined)
