"""Who asks: the tenant, the person and the conversation behind a request, and its receipt."""

import contextlib
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec

from feedbackloop.capture import identity, receipt
from feedbackloop.capture.identity import Keyring, TenantKeys
from feedbackloop.capture.receipt import PREFIXES, Receipt
from feedbackloop.errors import RequestError
from feedbackloop.events import Alias, CompletionId, ConversationId, Endpoint, TenantId, UserId
from feedbackloop.serving.routing import Pick
from services.sidecar.asked import Asked

USER_HEADER = "x-feedbackloop-user"
CONVERSATION_HEADER = "x-feedbackloop-conversation"

RandomBytes = Callable[[int], bytes]

_POOL_BYTES = 4_096


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a completion is for.

    Attributes:
        conversation: The conversation that it belongs to.
        user: The person's pseudonym, if the request named one.
        choices: How many choices the reply will have; 0 if that cannot be told.
    """

    tenant: TenantId
    conversation: ConversationId
    user: UserId | None
    choices: int = 1

    @property
    def unit(self) -> str:
        """What is assigned to an arm: the person, or else the conversation."""
        return self.user or self.conversation


class _Pool:
    """Random bytes, of which the system is asked for many at a time."""

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """Return bytes that nobody was given before."""
        if self._at + count > len(self._bytes):
            self._bytes, self._at = secrets.token_bytes(max(count, _POOL_BYTES)), 0
        self._at += count
        return self._bytes[self._at - count : self._at]


class Identities:
    """Pseudonyms and receipts under the tenants' keys."""

    def __init__(
        self,
        keyring: Keyring,
        *,
        lifetime_seconds: float,
        skew_seconds: float = 300.0,
        random: RandomBytes | None = None,
    ) -> None:
        self._keyring = keyring
        self.lifetime_seconds = lifetime_seconds
        self.skew_seconds = skew_seconds
        self._random = random or _Pool().take

    def identify(self, tenant: TenantId, headers: Mapping[str, str], asked: Asked) -> Who:
        """Name the person and the conversation of a request.

        Raises:
            RequestError: 400 if its beginning is nested too deeply to be hashed.
        """
        keys = self._keys(tenant)
        named = headers.get(USER_HEADER) or asked.user
        user = identity.pseudonym(keys, named) if named else None
        try:
            conversation = identity.conversation(
                keys,
                named=headers.get(CONVERSATION_HEADER) or None,
                user=user,
                messages=asked.opening,
            )
        except RecursionError as error:
            raise RequestError(
                "the body is nested too deeply", status=400, code="invalid_json"
            ) from error
        return Who(tenant=tenant, conversation=conversation, user=user, choices=asked.choices)

    def issue(
        self, who: Who, alias: Alias, pick: Pick, *, minute: int, nonce: bytes | None = None
    ) -> str:
        """Sign the receipt of a completion; return it without OpenAI's prefix."""
        said = Receipt(
            nonce=self._random(8) if nonce is None else nonce,
            conversation=who.conversation,
            user=who.user,
            alias=receipt.alias_hash(alias),
            release_seq=pick.served.seq,
            arm=pick.arm,
            propensity=pick.propensity,
            minute=minute,
            choices=who.choices,
        )
        return receipt.issue(said, self._keys(who.tenant), who.tenant)

    def check(
        self, completion_id: CompletionId, tenant: TenantId, user: str | None, *, now: datetime
    ) -> Receipt:
        """Read a completion id that comes back with feedback.

        Raises:
            RequestError: 404 if it has no form of ours or is another tenant's, 403 if it is forged
                or another user's, 410 if it has expired.
        """
        keys = self._keys(tenant)
        said = receipt.check(
            completion_id, keys, tenant, now=now, lifetime_seconds=self.lifetime_seconds
        )
        if user and said.user is not None and identity.pseudonym(keys, user) != said.user:
            raise RequestError(
                "user is not the one who was served this completion",
                status=403,
                param="user",
                code="completion_not_yours",
            )
        return said

    def may_continue(self, who: Who, name: str) -> bool:
        """Say whether somebody may go on from a completion: their tenant's, and not another's."""
        if not receipt.has_form(CompletionId(name)):
            return True
        now = datetime.fromtimestamp(0, UTC)
        try:
            said = receipt.check(
                CompletionId(name), self._keys(who.tenant), who.tenant, now=now, lifetime_seconds=0
            )
        except RequestError:
            return False
        return said.user is None or said.user == who.user

    def check_anyones(
        self, completion_id: CompletionId, user: str | None, *, now: datetime
    ) -> tuple[TenantId, Receipt]:
        """Read a completion id that comes back without an API key; say whose it is.

        Raises:
            RequestError: As ``check``; 403 if a user is named for what was served to nobody in
                particular: a name proves nothing without a key, and each would be another vote.
        """
        key = receipt.key_id(completion_id)
        *others, last = [name for name, keys in self._keyring.items() if key in keys.receipts] or [
            next(iter(self._keyring))
        ]
        # Ids of keys are short: two tenants can have the same, and the signature tells them apart.
        for tenant in others:
            with contextlib.suppress(RequestError):
                return tenant, self._read_anyones(completion_id, tenant, user, now)
        return last, self._read_anyones(completion_id, last, user, now)

    def _read_anyones(
        self, completion_id: CompletionId, tenant: TenantId, user: str | None, now: datetime
    ) -> Receipt:
        said = self.check(completion_id, tenant, user, now=now)
        if user and said.user is None:
            raise RequestError(
                "user cannot be named without an API key",
                status=403,
                param="user",
                code="user_not_proven",
            )
        return said

    def nonce(self, tenant: TenantId, *about: str) -> bytes:
        """Name a completion by what it is about, the same whoever tells of it."""
        return identity.nonce(self._keys(tenant), *about)

    def salt(self, tenant: TenantId, chosen: str) -> str:
        """Name a prefix cache that no other tenant can name: 16 bytes as hex."""
        return identity.salt(self._keys(tenant), chosen)

    def pseudonym(self, tenant: TenantId, user: str) -> UserId:
        """Name a person without telling who it is."""
        return identity.pseudonym(self._keys(tenant), user)

    def _keys(self, tenant: TenantId) -> TenantKeys:
        keys = self._keyring.get(tenant)
        if keys is None:
            raise RequestError(
                f"tenant {tenant} has no keys here", status=403, code="unknown_tenant"
            )
        return keys


def completion_id(endpoint: Endpoint, text: str) -> CompletionId:
    """Write a receipt as the id that vLLM puts into its reply."""
    return CompletionId(PREFIXES[endpoint] + text)
