"""Who is held out: a keyed hash of the person decides, once and for ever."""

from hashlib import sha256
from hmac import digest

from feedbackloop.events import CompletionServed

_BUCKETS = 1000


def unit(completion: CompletionServed) -> str:
    """Name who was served: the user's pseudonym, or else the conversation."""
    return completion.user or completion.conversation


def is_held_out(who: str, *, secret: bytes, share: float) -> bool:
    """Say whether everything of one unit is kept from training, for the gate to judge by.

    Nobody can tell without ``secret``, so nobody can choose a pseudonym to be judged by. A
    share that grows holds more units out and lets none back in.

    Args:
        who: From ``unit``.
        secret: Stays the same for the life of the deployment.
        share: Of units, in [0, 1], to a thousandth.
    """
    bucket = int.from_bytes(digest(secret, who.encode(), "sha256")[:8], "big") % _BUCKETS
    return bucket < round(share * _BUCKETS)


def is_trainable(completion: CompletionServed, *, secret: bytes, share: float) -> bool:
    """Say whether a completion may be trained on: the person it was served to is not held out."""
    return not is_held_out(unit(completion), secret=secret, share=share)


def fingerprint(secret: bytes) -> str:
    """Name the secret without telling it, for manifests."""
    return sha256(b"holdout\0" + secret).hexdigest()[:16]
