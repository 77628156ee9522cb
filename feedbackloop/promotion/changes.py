"""The moves of a release document: what may follow what, and what each move leaves behind.

Every move returns the successor, its epoch grown by one, or a refusal that says why not.
Nothing is stored here: ``Releases.put`` does that, by compare-and-set on the epoch.
"""

import re
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from feedbackloop.events import ReleaseName, RunId
from feedbackloop.promotion.release import BASE_RELEASE, Probe, Release, ReleaseDocument

Kind = Literal["staged", "widened", "promoted", "taken_back", "rolled_back", "other"]
"""What a move did to what is served; freezing, thawing and retiring are other."""


class Refused(msgspec.Struct, frozen=True):
    """A move that the document does not allow, and the reason for the person who asked."""

    reason: str


Change = ReleaseDocument | Refused


def next_release(
    document: ReleaseDocument, *, digest: str, run: RunId | str = "", probes: Sequence[Probe] = ()
) -> Release:
    """Name an adapter as the alias' next release.

    Args:
        document: The document in force: it knows the next number.
        digest: SHA-256 of the adapter as hex.
        run: The run that made it.
        probes: What the gate recorded on these very bytes.
    """
    seq = document.next_seq
    name = ReleaseName(f"{document.alias}.{seq:05d}.{digest[:12]}")
    return Release(name=name, seq=seq, digest=digest, run=run, probes=tuple(probes))


def stage(
    document: ReleaseDocument, release: Release, *, salt: str, by: str, why: str = ""
) -> Change:
    """Make ``release`` the canary at share 0: every replica loads and proves it, nobody sees it.

    Args:
        document: The document in force.
        release: As ``next_release`` named it on this document.
        salt: Of the hash that assigns units; another for each rollout, so that it is not
            always the same people who try what is new.
        by: Who asks.
        why: In plain words.
    """
    obstacle = _obstacle(document, release)
    if obstacle is not None:
        return obstacle
    return _follow(
        document,
        canary=release,
        canary_share=0.0,
        salt=salt,
        next_seq=document.next_seq + 1,
        by=by,
        why=why or f"{release.name} is staged",
    )


def widen(document: ReleaseDocument, *, share: float, by: str, why: str = "") -> Change:
    """Let the canary answer a larger ``share`` of units, in (0, 1]."""
    if document.frozen:
        return _frozen(document)
    if document.canary is None:
        return Refused("no canary is staged")
    if not document.canary_share < share <= 1:
        return Refused(
            f"the canary's share is {document.canary_share:g} and can only grow, to at most 1: "
            f"{share:g} is not possible"
        )
    return _follow(
        document,
        canary_share=share,
        by=by,
        why=why or f"{document.canary.name} answers {share:.0%} of units",
    )


def promote(document: ReleaseDocument, *, by: str, why: str = "") -> Change:
    """Make the canary stable; what was stable stays loaded as previous."""
    if document.frozen:
        return _frozen(document)
    if document.canary is None:
        return Refused("no canary is staged")
    return _follow(
        document,
        stable=document.canary,
        previous=document.stable,
        canary=None,
        canary_share=0.0,
        by=by,
        why=why or f"{document.canary.name} is promoted",
    )


def take_back(document: ReleaseDocument, *, quarantine: bool, by: str, why: str = "") -> Change:
    """End the trial of the canary; stable never stopped to serve.

    Args:
        document: The document in force.
        quarantine: True if the canary did harm, so that its adapter is not proposed again;
            False if the evidence did not suffice.
        by: Who asks.
        why: In plain words.
    """
    if document.canary is None:
        return Refused("no canary is staged")
    return _follow(
        document,
        canary=None,
        canary_share=0.0,
        quarantined=_quarantine(document, document.canary) if quarantine else document.quarantined,
        by=by,
        why=why or f"{document.canary.name} is taken back",
    )


def rollback(document: ReleaseDocument, *, by: str, why: str = "") -> Change:
    """Make previous stable again, and quarantine the adapter that was stable.

    A canary is taken back with it, unjudged: it was compared with a stable that is gone. There
    is no previous afterwards, for no move may lead back to a quarantined adapter. Allowed on a
    frozen document too: freezing stops what is new, never the way back.
    """
    if document.previous is None:
        hint = "; take the canary back instead" if document.canary is not None else ""
        return Refused(f"there is no previous release to go back to{hint}")
    return _follow(
        document,
        stable=document.previous,
        previous=None,
        canary=None,
        canary_share=0.0,
        quarantined=_quarantine(document, document.stable),
        by=by,
        why=why or f"{document.stable.name} is rolled back to {document.previous.name}",
    )


def retire(document: ReleaseDocument, *, by: str, why: str = "") -> Change:
    """Let go of previous: the time for a rollback is over, and its slot is needed."""
    if document.previous is None:
        return Refused("there is no previous release to retire")
    return _follow(
        document, previous=None, by=by, why=why or f"{document.previous.name} is retired"
    )


def freeze(document: ReleaseDocument, *, by: str, why: str = "") -> Change:
    """Stop everything that moves forward; the way back stays open."""
    if document.frozen:
        return Refused(f"{document.alias} is frozen already")
    return _follow(document, frozen=True, by=by, why=why or f"{document.alias} is frozen")


def unfreeze(document: ReleaseDocument, *, by: str, why: str = "") -> Change:
    """Allow moves forward again."""
    if not document.frozen:
        return Refused(f"{document.alias} is not frozen")
    return _follow(document, frozen=False, by=by, why=why or f"{document.alias} is not frozen")


_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def kind_of(before: ReleaseDocument, after: ReleaseDocument) -> Kind:
    """Say which move led from one document to the next."""
    if after.stable != before.stable:
        return "promoted" if after.stable == before.canary else "rolled_back"
    if after.canary != before.canary:
        return "taken_back" if after.canary is None else "staged"
    return "widened" if after.canary_share != before.canary_share else "other"


def _follow(document: ReleaseDocument, **fields: object) -> ReleaseDocument:
    """Make the successor: the same document but for ``fields``, one epoch later."""
    return replace(document, epoch=document.epoch + 1, **fields)


def _frozen(document: ReleaseDocument) -> Refused:
    return Refused(f"{document.alias} is frozen ({document.by}: {document.why})")


def _quarantine(document: ReleaseDocument, release: Release) -> tuple[str, ...]:
    """Add the release's digest; the base is never quarantined."""
    if release == BASE_RELEASE or release.digest in document.quarantined:
        return document.quarantined
    return (*document.quarantined, release.digest)


def _obstacle(document: ReleaseDocument, release: Release) -> Refused | None:
    """Say why a release cannot be staged, if it cannot."""
    if document.frozen:
        return _frozen(document)
    if document.canary is not None:
        return Refused(f"{document.canary.name} is being tried: promote it or take it back first")
    named = next_release(document, digest=release.digest)
    if (release.name, release.seq) != (named.name, named.seq) or not _DIGEST.match(release.digest):
        return Refused(f"{release.name} is not what this document would name it: {named.name}")
    if release.digest in document.quarantined:
        return Refused(f"{release.name} holds an adapter that was rolled back: it is quarantined")
    for known in (document.stable, document.previous):
        if known is not None and known.digest == release.digest:
            return Refused(f"{release.name} holds the same adapter as {known.name}")
    return None
