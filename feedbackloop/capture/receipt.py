"""The completion id: a signed receipt that says who was served what by whom.

A client votes with nothing but ``response.id``. The sidecar needs no look-up to know that it
made the id, for whom, and which release answered; a vote stays attributable even if the record of
the completion itself was lost. The text is base64url of::

    key id          4  of the tenant's receipt key, ASCII
    random          8
    conversation    8
    user           16  pseudonym, zeros without one
    alias           4  hash of its name
    release         4  its number within the alias
    propensity      2  of the arm, in 1/65535
    arm, choices    1  bit 0, and the rest: how many choices were asked for
    minute          4  since 1970
    MAC            12  HMAC-SHA256 of all that, with the tenant's name, truncated

References:
    Krawczyk et al., "HMAC: Keyed-Hashing for Message Authentication", RFC 2104, section 5.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from hmac import HMAC, compare_digest, new
from struct import Struct

import msgspec

from feedbackloop.capture.identity import TenantKeys
from feedbackloop.errors import RequestError
from feedbackloop.events import Alias, Arm, CompletionId, ConversationId, TenantId, UserId

_PAYLOAD = Struct(">4s8s8s16s4sIHBI")
_KEY_ID_BYTES = 4
_MAC_BYTES = 12
_BYTES = _PAYLOAD.size + _MAC_BYTES
_NOBODY = bytes(16)
_FULL = 65_535
_ARMS = (Arm.STABLE, Arm.CANARY)
_MOST_CHOICES = 127
PREFIXES: Mapping[str, str] = {
    "chat": "chatcmpl-",
    "completions": "cmpl-",
    "responses": "resp_",
}
"""What vLLM puts before the id that it was given, by endpoint; we do before a response's."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a completion id says.

    Attributes:
        nonce: 8 random bytes, which make the id unique.
        conversation: Which conversation.
        user: Who was served, as a pseudonym; None if nobody was named.
        alias: First 4 bytes of the hash of the alias' name, as hex.
        release_seq: Number of the release that was assigned.
        arm: Its side of the rollout.
        propensity: Probability of that arm, in (0, 1], to 1/65535.
        minute: When it was issued, in minutes since 1970.
        choices: How many choices the reply has; 0 if more than 127, or not known.
    """

    nonce: bytes
    conversation: ConversationId
    user: UserId | None
    alias: str
    release_seq: int
    arm: Arm
    propensity: float
    minute: int
    choices: int = 0


@lru_cache(maxsize=1_024)
def alias_hash(alias: Alias) -> str:
    """Name an alias in 4 bytes, as hex."""
    return blake2b(alias.encode(), digest_size=4).hexdigest()


def issue(receipt: Receipt, keys: TenantKeys, tenant: TenantId) -> str:
    """Sign a receipt; return its text, which is the request id that vLLM is given."""
    payload = _PAYLOAD.pack(
        keys.current.encode("ascii"),
        receipt.nonce,
        bytes.fromhex(receipt.conversation),
        bytes.fromhex(receipt.user) if receipt.user is not None else _NOBODY,
        bytes.fromhex(receipt.alias),
        receipt.release_seq,
        max(1, round(receipt.propensity * _FULL)),
        _ARMS.index(receipt.arm)
        | (receipt.choices if receipt.choices <= _MOST_CHOICES else 0) << 1,
        receipt.minute,
    )
    mac = _mac(payload, keys.receipts[keys.current], tenant)
    return urlsafe_b64encode(payload + mac).rstrip(b"=").decode("ascii")


def check(
    completion_id: CompletionId,
    keys: TenantKeys,
    tenant: TenantId,
    *,
    now: datetime,
    lifetime_seconds: float,
) -> Receipt:
    """Verify a completion id and read it.

    Raises:
        RequestError: 404 if it has not the form of an id, or is of a key that is not this
            tenant's; 403 if it is forged; 410 if it is older than ``lifetime_seconds``, or its key
            is retired.
    """
    raw = _bytes(completion_id)
    payload, mac = raw[: _PAYLOAD.size], raw[_PAYLOAD.size :]
    fields = _PAYLOAD.unpack(payload)
    name = fields[0].decode("ascii", "replace")
    key = keys.receipts.get(name)
    if key is None:
        # Another tenant's id must look like one that nobody has: who may not see it learns nothing.
        raise _expired(lifetime_seconds) if name in keys.retired else _not_found()
    if not compare_digest(mac, _mac(payload, key, tenant)):
        raise RequestError(
            "completion_id was not issued to you: expected the id of a completion you were served",
            status=403,
            param="completion_id",
            code="completion_not_yours",
        )
    receipt = _receipt(fields)
    if now.timestamp() - receipt.minute * 60 > lifetime_seconds:
        raise _expired(lifetime_seconds)
    return receipt


def has_form(completion_id: CompletionId) -> bool:
    """Say whether an id looks like one of ours, whoever signed it."""
    try:
        _bytes(completion_id)
    except RequestError:
        return False
    return True


def key_id(completion_id: CompletionId) -> str:
    """Name the receipt key that signed an id; unchecked, and empty if it has no form of ours."""
    try:
        return str(_bytes(completion_id)[:_KEY_ID_BYTES], "ascii", "replace")
    except RequestError:
        return ""


def _bytes(completion_id: CompletionId) -> bytes:
    text = next(
        (
            completion_id.removeprefix(prefix)
            for prefix in PREFIXES.values()
            if completion_id.startswith(prefix)
        ),
        None,
    )
    if text is None:
        raise _not_found()
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (NotBase64, UnicodeEncodeError) as error:
        raise _not_found() from error
    # Decoding overlooks what is no base64; the id must be exactly the one that was issued.
    if len(raw) != _BYTES or urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") != text:
        raise _not_found()
    return raw


def _not_found() -> RequestError:
    return RequestError(
        "completion_id is unknown: expected the id of a completion that you were served here",
        status=404,
        param="completion_id",
        code="completion_not_found",
    )


def _expired(lifetime_seconds: float) -> RequestError:
    return RequestError(
        f"completion_id has expired: feedback is accepted for {lifetime_seconds:.0f} seconds",
        status=410,
        param="completion_id",
        code="completion_expired",
    )


def _receipt(fields: tuple[bytes, bytes, bytes, bytes, bytes, int, int, int, int]) -> Receipt:
    _, nonce, conversation, user, alias, release_seq, propensity, arm, minute = fields
    return Receipt(
        nonce=nonce,
        conversation=ConversationId(conversation.hex()),
        user=UserId(user.hex()) if user != _NOBODY else None,
        alias=alias.hex(),
        release_seq=release_seq,
        arm=_ARMS[arm & 1],
        propensity=propensity / _FULL,
        minute=minute,
        choices=arm >> 1,
    )


def _mac(payload: bytes, key: bytes, tenant: TenantId) -> bytes:
    mac = _begun(key, tenant).copy()
    mac.update(payload)
    return mac.digest()[:_MAC_BYTES]


@lru_cache(maxsize=1024)
def _begun(key: bytes, tenant: TenantId) -> HMAC:
    """Begin a MAC. ``hmac.digest`` gives the interpreter away each time, which is slow to get."""
    return new(key, tenant.encode() + b"\0", "sha256")
