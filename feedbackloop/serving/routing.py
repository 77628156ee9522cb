"""Which release answers this conversation."""

from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from feedbackloop.events import Alias, Arm, ReleaseName


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """A release as requests select it.

    Attributes:
        release: Its name.
        seq: Its number within the alias.
        model: What the policy server calls it: the release's name, or the base's model name.
    """

    release: ReleaseName
    seq: int
    model: str


class Routes(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers for one alias, now.

    Attributes:
        alias: Whose.
        epoch: Of the release document that these follow.
        stable: Answers unless the canary does.
        canary: Answers for its share of units; None if nothing is being tried here.
        canary_share: In [0, 1].
        salt: Of the hash that assigns units.
    """

    alias: Alias
    epoch: int
    stable: Served
    canary: Served | None = None
    canary_share: float = 0.0
    salt: str = ""


class Pick(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to: who answers this unit?

    Attributes:
        served: The release.
        arm: Its side of the rollout.
        propensity: Probability of that arm for a unit at this time, in (0, 1].
        epoch: Of the routes it was read from.
    """

    served: Served
    arm: Arm
    propensity: float
    epoch: int


RouteTable = Mapping[Alias, Routes]

_BUCKETS = 2**32


def bucket(salt: str, unit: str) -> float:
    """Map a unit (a user, or else a conversation) to [0, 1), evenly and for ever."""
    # Not hash(): it is salted per process, and sidecars must agree with each other.
    digest = blake2b(f"{salt}\0{unit}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / _BUCKETS


def route(routes: Routes, unit: str) -> Pick:
    """Assign a unit to the stable or the canary release.

    The same unit gets the same answer for as long as salt and share stay; a share that grows
    moves units to the canary and none back.
    """
    share = routes.canary_share if routes.canary is not None else 0.0
    if routes.canary is not None and bucket(routes.salt, unit) < share:
        return Pick(served=routes.canary, arm=Arm.CANARY, propensity=share, epoch=routes.epoch)
    return Pick(served=routes.stable, arm=Arm.STABLE, propensity=1 - share, epoch=routes.epoch)
