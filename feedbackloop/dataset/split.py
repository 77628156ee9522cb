"""Who is held out: a keyed hash of the person decides, once and for ever."""

from collections.abc import Mapping
from hashlib import sha256
from hmac import digest

from feedbackloop.events import CompletionServed, TenantId

_BUCKETS = 1000

Holdouts = Mapping[TenantId, bytes]
"""The secret of each tenant that holds its people out."""


def unit(completion: CompletionServed) -> str:
    """Name who was served: the user's pseudonym, or else the conversation."""
    return completion.user or completion.conversation


def is_held_out(who: str, *, secret: bytes, share: float) -> bool:
    """Say whether everything of one unit is kept from training, for the gate to judge by.

    Nobody can tell without ``secret``, so nobody can choose a pseudonym to be judged by. A
    share that grows holds more units out and lets none back in.

    Args:
        who: From ``unit``.
        secret: The tenant's; stays the same for the life of the deployment.
        share: Of units, in [0, 1], to a thousandth.
    """
    bucket = int.from_bytes(digest(secret, who.encode(), "sha256")[:8], "big") % _BUCKETS
    return bucket < round(share * _BUCKETS)


def is_trainable(completion: CompletionServed, *, secret: bytes | None, share: float) -> bool:
    """Say whether a completion may be trained on: the person it was served to is not held out.

    Without a secret nobody can say who is held out, so the tenant's completions are on neither
    side: a secret of another tenant's would hold other people out than the right one.

    Args:
        completion: What was served.
        secret: Its tenant's, or None if the tenant has none.
        share: As for ``is_held_out``.
    """
    return secret is not None and not is_held_out(unit(completion), secret=secret, share=share)


def fingerprint(secret: bytes) -> str:
    """Name the secret without telling it, for manifests."""
    return sha256(b"holdout\0" + secret).hexdigest()[:16]
