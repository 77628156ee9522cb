"""Who may come in: keys, limits and tenants, in two calls that never wait.

``admit`` needs a request's head only, so that nothing is read of strangers; ``enter`` comes once
the body is read. Both answer from memory. Nothing here knows HTTP servers.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from feedbackloop.errors import RequestError
from feedbackloop.events import Alias, CompletionId, TenantId, UserId
from services import limits, telemetry
from services.apikeys import ApiKeys, Caller, Scope
from services.limits import Buckets, Level
from services.oidc import Tokens
from services.peers import Network, Peers
from services.sidecar import wire
from services.sidecar.asked import Asked
from services.sidecar.caller import Identities, Who

Headers = list[tuple[bytes, bytes]]

_DEFAULT = TenantId("default")

READER = Caller(tenant=TenantId(""), scopes=("feedback",))
"""Who has no key, and may say something about completions whose ids they hold."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Requests a minute; 0 for no limit."""

    key: int = 0
    user: int = 0
    address: int = 0
    receipt: int = 0


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What decides who may come in.

    Attributes:
        completions: Limits of completions.
        feedback: Limits of feedback.
        burst_minutes: How many minutes' worth may come at once.
        remembered: How many names each limit keeps.
        trusted_proxies: Whose ``X-Forwarded-For`` is believed.
        tenants: For aliases that are not for everybody, for whom they are.
        salts: Whether vLLM keeps the prefix caches of tenants apart.
        origins: Of the web pages that may send feedback.
    """

    completions: Rates = Rates()
    feedback: Rates = Rates()
    burst_minutes: float = 1.0
    remembered: int = 50_000
    trusted_proxies: tuple[Network, ...] = ()
    tenants: Mapping[Alias, frozenset[TenantId]] = {}
    salts: bool = True
    origins: frozenset[str] = frozenset()


class Admitted(msgspec.Struct):
    """A caller who may come in.

    Attributes:
        level: The tightest of the limits that the request was charged to, if any.
    """

    caller: Caller
    level: Level | None = None

    def headers(self) -> Headers:
        """Return what the answer says of the caller's limits, as OpenAI does."""
        if self.level is None:
            return []
        said = limits.headers(self.level)
        return [(name.encode(), value.encode()) for name, value in said.items()]

    def lines(self) -> bytes:
        """Return the same as header lines."""
        return wire.lines(self.headers()) if self.level is not None else b""

    def charged(self, level: Level) -> None:
        """Remember the tightest limit."""
        before = self.level
        if before is None or level.remaining < before.remaining:
            self.level = level


class _Gate:
    """The limits of one kind of request."""

    def __init__(self, route: str, rates: Rates, rules: Rules) -> None:
        def buckets(by: str, per_minute: int) -> Buckets:
            return Buckets(
                by,
                route,
                per_minute=per_minute,
                burst_minutes=rules.burst_minutes,
                remembered=rules.remembered,
            )

        self.key = buckets("key", rates.key)
        self.user = buckets("user", rates.user)
        self.address = buckets("address", rates.address)
        self.receipt = buckets("receipt", rates.receipt)


class Entrance:
    """The one place that decides who may do what.

    Attributes:
        origins: Of the web pages that may send feedback.

    Args:
        keys: API keys.
        tokens: Of an OpenID Connect provider, if there is one.
        identities: Names people and conversations.
        rules: Limits and tenants.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        keys: ApiKeys,
        identities: Identities,
        rules: Rules,
        *,
        tokens: Tokens | None,
        clock: Callable[[], float],
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._identities = identities
        self._rules = rules
        self.origins = rules.origins
        self._clock = clock
        self._peers = Peers(rules.trusted_proxies)
        completions = _Gate("completions", rules.completions, rules)
        feedback = _Gate("feedback", rules.feedback, rules)
        self._gates = {"completions": completions, "feedback": feedback}
        self._salts: dict[TenantId, str] = {}

    def admit(self, headers: Mapping[str, str], peer: str, scope: Scope) -> Admitted:
        """Let a caller in who has a key for this and has not called too often.

        Args:
            headers: Of the request, by lower-case name.
            peer: Address of the connection's other end, without its port.
            scope: What the caller wants to do.

        Raises:
            RequestError: 401, 403, 429; 503 while a provider's keys are being fetched.
        """
        gate = self._gates.get(scope)
        level = None if gate is None else self._charge_address(gate, headers, peer)
        caller = self._caller(headers.get("authorization", ""), scope)
        admitted = Admitted(caller, level)
        if gate is not None and (gate.key.per_minute or caller.per_minute):
            name = caller.key or caller.tenant
            now = self._clock()
            admitted.charged(gate.key.charge(name, now, per_minute=caller.per_minute or 0))
        return admitted

    def enter(self, admitted: Admitted, headers: Mapping[str, str], asked: Asked) -> Who:
        """Say for whom a completion is, if the caller may have it.

        Raises:
            RequestError: 404 if the model, or the response to go on from, is none of the caller's;
                429.
        """
        tenant = admitted.caller.tenant
        if not self.sees(tenant, Alias(asked.model)):
            raise _counted(no_model(asked.model))
        who = self._identities.identify(tenant, headers, asked)
        if asked.continues is not None and not self._identities.may_continue(who, asked.continues):
            raise _counted(
                RequestError(
                    f"the response {asked.continues!r} does not exist",
                    status=404,
                    param="previous_response_id",
                    code="response_not_found",
                )
            )
        users = self._gates["completions"].user
        if users.per_minute and who.user is not None:
            admitted.charged(users.charge(f"{tenant}/{who.user}", self._clock()))
        return who

    def admit_feedback(self, headers: Mapping[str, str], peer: str) -> Admitted:
        """Let feedback in: of who has a key, and of pages that may send it with the id alone.

        Raises:
            RequestError: As ``admit``; 403 for a page of another origin.
        """
        origin = headers.get("origin")
        if self.origins and origin is not None:
            if origin not in self.origins:
                raise _counted(
                    RequestError(
                        "pages of this origin may not send feedback",
                        status=403,
                        code="origin_not_allowed",
                    )
                )
            if not headers.get("authorization"):
                level = self._charge_address(self._gates["feedback"], headers, peer)
                return Admitted(READER, level)
        return self.admit(headers, peer, "feedback")

    def charge_feedback(
        self, admitted: Admitted, tenant: TenantId, user: UserId | None, completion_id: CompletionId
    ) -> None:
        """Count feedback against the limit of its person, and without a key of its completion.

        Raises:
            RequestError: 429.
        """
        gate = self._gates["feedback"]
        if admitted.caller is READER and gate.receipt.per_minute:
            admitted.charged(gate.receipt.charge(completion_id, self._clock()))
        if gate.user.per_minute and user is not None:
            admitted.charged(gate.user.charge(f"{tenant}/{user}", self._clock()))

    def charge_items(self, admitted: Admitted, scope: Scope, items: int) -> None:
        """Count what a batch holds beside the call itself; it may leave the key in debt."""
        gate, caller = self._gates[scope], admitted.caller
        if items and (gate.key.per_minute or caller.per_minute):
            name = caller.key or caller.tenant
            gate.key.owe(name, self._clock(), cost=items, per_minute=caller.per_minute or 0)

    def sees(self, tenant: TenantId, alias: Alias) -> bool:
        """Say whether an alias exists for a tenant."""
        tenants = self._rules.tenants.get(alias)
        return tenants is None or tenant in tenants

    def visible(self, tenant: TenantId, aliases: Sequence[Alias]) -> Sequence[Alias]:
        """Return the aliases that exist for a tenant."""
        return [alias for alias in aliases if self.sees(tenant, alias)]

    def salted(self, tenant: TenantId, chosen: str | None, body: bytes) -> bytes:
        """Return a request that shares no prefix cache with another tenant's.

        vLLM reuses what it computed for the same words under the same ``cache_salt``; how fast an
        answer begins would tell a tenant what another one asked. The key is written last: of two
        alike, the last one counts.

        Args:
            tenant: Whose request it is.
            chosen: The salt that the client chose, if it did: it goes into ours.
            body: A JSON object that is not empty.
        """
        if tenant == _DEFAULT or not self._rules.salts:
            return body
        salt = self._salt(tenant) if chosen is None else self._identities.salt(tenant, chosen)
        return b'%b,"cache_salt":"%b"}' % (body[: body.rindex(b"}")], salt.encode())

    def _charge_address(self, gate: _Gate, headers: Mapping[str, str], peer: str) -> Level | None:
        if not gate.address.per_minute:
            return None
        name = self._peers.name(peer, headers.get("x-forwarded-for", ""))
        return gate.address.charge(name, self._clock())

    def _salt(self, tenant: TenantId) -> str:
        salt = self._salts.get(tenant)
        if salt is None:
            salt = self._salts[tenant] = self._identities.salt(tenant, "")
        return salt

    def _caller(self, authorization: str, scope: Scope) -> Caller:
        try:
            if self._tokens is not None and self._tokens.claims(authorization):
                return self._tokens.caller(authorization, scope)
            return self._keys.caller(authorization, scope)
        except RequestError as error:
            _counted(error)
            raise


def _counted(error: RequestError) -> RequestError:
    telemetry.NOT_ADMITTED.labels(error.code or "").inc()
    return error


def no_model(name: str) -> RequestError:
    """Say that there is no such model: for this tenant, or at all."""
    return RequestError(
        f"the model {name!r} does not exist", status=404, param="model", code="model_not_found"
    )
