"""Who is meant: pseudonyms, conversations and event ids, all as keyed or plain hashes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b, sha256
from hmac import digest

import msgspec

from feedbackloop.capture.chain import normalised
from feedbackloop.events import (
    CompletionId,
    ConversationId,
    EventId,
    JsonObject,
    TenantId,
    UserId,
)


class TenantKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The secrets of one tenant. Each has one use, and none ever leaves the house.

    Attributes:
        current: Id of the receipt key that signs new receipts.
        receipts: Receipt keys by id, the retired ones that still verify included.
        pseudonym: Turns users into pseudonyms.
        chain: Hashes conversations.
        holdout: Holds people out of training; never changes.
        successor: Id of the receipt key that signs from ``succeeds_at`` on; empty if none waits.
        succeeds_at: When it takes over: late enough for every replica to know it by then.
        ends: When receipt keys that sign no more cease to verify.
        retired: Ids of receipt keys whose time is over: what they signed has expired.
    """

    current: str
    receipts: dict[str, bytes]
    pseudonym: bytes
    chain: bytes
    holdout: bytes
    successor: str = ""
    succeeds_at: datetime | None = None
    ends: dict[str, datetime] = {}
    retired: tuple[str, ...] = ()


Keyring = Mapping[TenantId, TenantKeys]

_INSTRUCTIONS = ("system", "developer")
_PERSON = ("user",)


def in_force(keys: TenantKeys, *, now: datetime) -> TenantKeys:
    """Return a tenant's keys as they count at ``now``: successors signing, retired keys gone."""
    if keys.successor and keys.succeeds_at is not None and keys.succeeds_at <= now:
        keys = msgspec.structs.replace(keys, current=keys.successor, successor="", succeeds_at=None)
    over = {name for name, end in keys.ends.items() if end <= now and name != keys.current}
    if not over:
        return keys
    return msgspec.structs.replace(
        keys,
        receipts={name: key for name, key in keys.receipts.items() if name not in over},
        ends={name: end for name, end in keys.ends.items() if name not in over},
        retired=(*keys.retired, *sorted(over - set(keys.retired))),
    )


def pseudonym(keys: TenantKeys, user: str) -> UserId:
    """Name a person without telling who it is: HMAC-SHA256, the first 16 bytes as hex."""
    return UserId(digest(keys.pseudonym, _bytes(user), "sha256")[:16].hex())


def conversation(
    keys: TenantKeys,
    *,
    named: str | None,
    user: UserId | None,
    messages: Sequence[JsonObject],
) -> ConversationId:
    """Say which conversation a prompt belongs to: 8 bytes as hex.

    Args:
        keys: The tenant's.
        named: What the client called the conversation, if it did.
        user: Whose conversation it is, if known.
        messages: The prompt; without a name, its system prompt and first user turn decide.
    """
    if named is not None:
        return ConversationId(_keyed(keys.chain, b"named", _bytes(named)))
    instructions = _opening(messages, _INSTRUCTIONS)
    turn = _opening(messages, _PERSON)
    return ConversationId(_keyed(keys.chain, b"opened", _bytes(user or ""), instructions, turn))


def salt(keys: TenantKeys, chosen: str) -> str:
    """Make a tenant's own salt of prefix caches, and of what a client chose: 16 bytes as hex."""
    total = blake2b(key=keys.chain[:64], digest_size=16, person=b"cache salt")
    total.update(_bytes(chosen))
    return total.hexdigest()


def nonce(keys: TenantKeys, *about: str) -> bytes:
    """Name a completion by what it is about, where chance would give it two names: 8 bytes."""
    return bytes.fromhex(_keyed(keys.chain, b"nonce", *(_bytes(part) for part in about)))


def event_id(*about: str) -> EventId:
    """Name a fact by what it is about, so that it has one id wherever it is seen."""
    said = "".join([f"{len(part)}:{part}" for part in about])
    return EventId(sha256(_bytes(said)).digest()[:16].hex())


def retry_event_id(rejected: CompletionId, retry: CompletionId) -> EventId:
    """Name the fact that one completion was asked again by another."""
    return event_id("retry", rejected, retry)


def _opening(messages: Sequence[JsonObject], roles: tuple[str, ...]) -> bytes:
    for message in messages:
        if message.get("role") in roles:
            return _bytes(normalised(message.get("content")))
    return b""


def _bytes(text: str) -> bytes:
    # Half a character, as JSON can hold one, is no reason to refuse a person.
    return text.encode("utf-8", "surrogatepass")


def _keyed(key: bytes, *parts: bytes) -> str:
    total = blake2b(key=key[:64], digest_size=8)
    for part in parts:
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    return total.hexdigest()
