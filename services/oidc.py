"""Bearer tokens of an OpenID Connect provider: who calls, for which tenant, to do what.

Checking a token never waits: the provider's keys are fetched beside it, at the start, from time to
time, and when a token names a key that is not known, but never more often than the settings allow.

References:
    RFC 8725, "JSON Web Token Best Current Practices": we choose the algorithms, not the token.
    OpenID Connect Discovery 1.0, section 4.3.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import msgspec
import structlog
from jwt import PyJWK, PyJWKSet, PyJWTError

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.errors import RequestError, SettingsError
from feedbackloop.events import TenantId
from services import addresses, telemetry
from services.apikeys import SCOPES, Caller, Scope, bearer, require, unauthorised

log = structlog.get_logger()

_KNOWN = 4_096
_FETCH_SECONDS = 5.0
_LARGEST_BYTES = 2**20
_LONGEST_TOKEN = 16_384
_TENANT = re.compile(r"[a-z0-9-]{1,32}")

Fetch = Callable[[], Awaitable[Mapping[str, Any]]]
"""Fetches the provider's key set; raises ``OSError``, ``ValueError`` or ``httpx.HTTPError``."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a token good. As in the settings of the section ``oidc``."""

    issuer: str
    audience: str
    algorithms: Sequence[str]
    leeway_seconds: float = 30.0
    refresh_seconds: float = 600.0
    min_refresh_seconds: float = 30.0
    tenant_claim: str = ""
    scope_claim: str = "scope"
    scope_prefix: str = ""


class Tokens:
    """Tokens of one provider. Used by one event loop.

    Args:
        terms: What makes a token good.
        fetch: Fetches the provider's keys.
        clock: Seconds since 1970.
    """

    def __init__(
        self, terms: Terms, fetch: Fetch, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._terms = terms
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, PyJWK] | None = None
        self._known: dict[str, Caller] = {}
        self._wanted = asyncio.Event()
        self._fetched_at = float("-inf")

    def claims(self, authorization: str) -> bool:
        """Say whether an ``Authorization`` header holds a token, and not an API key."""
        return authorization in self._known or authorization.count(".") == 2  # noqa: PLR2004  # head, body, signature

    def caller(self, authorization: str, scope: Scope) -> Caller:
        """Say who holds a token.

        Raises:
            RequestError: 401 if the token is not good, 403 if it lacks ``scope`` or a tenant, 503
                if it names a key that is about to be fetched.
        """
        caller = self._known.get(authorization)
        if caller is None:
            caller = self._check(bearer(authorization) or "")
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[authorization] = caller
        if caller.until <= self._clock():
            del self._known[authorization]
            raise unauthorised("the token has expired")
        require(caller, scope)
        return caller

    async def run(self) -> None:
        """Fetch the provider's keys for ever: when they are wanted, and from time to time."""
        while True:
            await self.refresh()
            rest = self._terms.min_refresh_seconds
            await asyncio.sleep(rest)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._terms.refresh_seconds - rest)):
                    await self._wanted.wait()

    async def refresh(self) -> None:
        """Fetch the provider's keys once; those in hand stay if that fails."""
        self._wanted.clear()
        self._fetched_at = self._clock()
        try:
            found = PyJWKSet.from_dict(dict(await self._fetch()))
        except (OSError, *UNREADABLE, ValueError, TypeError, PyJWTError, httpx.HTTPError) as error:
            telemetry.OIDC_FETCHES.labels("failed").inc()
            log.warning("oidc_keys_not_fetched", error=str(error))
            return
        telemetry.OIDC_FETCHES.labels("fetched").inc()
        keys = {key.key_id or "": key for key in found.keys if key.public_key_use in (None, "sig")}
        if self._keys is None or set(keys) != set(self._keys):
            log.info("oidc_keys_changed", keys=len(keys))
        # A key that the provider took back takes its tokens along.
        self._known.clear()
        self._keys = keys

    def _check(self, token: str) -> Caller:
        if len(token) > _LONGEST_TOKEN:
            raise _bad("it is too long")
        try:
            head = jwt.get_unverified_header(token)
        except PyJWTError as error:
            raise _bad("it is no JSON web token") from error
        algorithm = str(head.get("alg"))
        if algorithm not in self._terms.algorithms:
            raise _bad(f"its signature must be one of {', '.join(self._terms.algorithms)}")
        key = self._key(head.get("kid"))
        named = key.algorithm_name if _names_algorithm(key) else algorithm
        if named != algorithm:
            raise _bad("its key is for another kind of signature")
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self._terms.audience,
                issuer=self._terms.issuer,
                leeway=self._terms.leeway_seconds,
                options={
                    "require": ["exp", "iss", "aud", "sub"],
                    "enforce_minimum_key_length": True,
                },
            )
        except (PyJWTError, TypeError, ValueError) as error:
            raise _bad(str(error)) from error
        return self._caller(claims)

    def _key(self, name: object) -> PyJWK:
        """Find a key by its id, which is a name and nothing else: never a path or an address."""
        keys = self._keys
        if keys is not None and name is None and len(keys) == 1:
            return next(iter(keys.values()))
        found = keys.get(name) if keys is not None and isinstance(name, str) else None
        if found is not None:
            return found
        self._wanted.set()
        rested = self._clock() - self._fetched_at >= self._terms.min_refresh_seconds
        if keys is None or rested:
            raise RequestError(
                "the keys of the identity provider are being fetched: try again",
                status=503,
                code="provider_keys_wanted",
                retry_after_seconds=1,
            )
        raise _bad("it names a key that its issuer does not have")

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        subject = f"{claims['iss']} {claims['sub']}"
        return Caller(
            tenant=self._tenant(claims),
            scopes=self._scopes(claims),
            key="oidc-" + sha256(subject.encode()).hexdigest()[:16],
            until=float(claims["exp"]) + self._terms.leeway_seconds,
        )

    def _tenant(self, claims: Mapping[str, Any]) -> TenantId:
        if not self._terms.tenant_claim:
            return TenantId("default")
        named = claim(claims, self._terms.tenant_claim)
        if not isinstance(named, str) or not _TENANT.fullmatch(named):
            raise RequestError(
                f"the token's claim {self._terms.tenant_claim} names no tenant",
                status=403,
                code="unknown_tenant",
            )
        return TenantId(named)

    def _scopes(self, claims: Mapping[str, Any]) -> tuple[Scope, ...]:
        said = claim(claims, self._terms.scope_claim)
        words = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        return tuple(one for one in SCOPES if self._terms.scope_prefix + one in words)


def claim(claims: Mapping[str, Any], name: str) -> object:
    """Find a claim by its name, or by a path of names with dots: ``realm_access.roles``."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def provider(issuer: str, jwks_url: str) -> Fetch:
    """Make what fetches a provider's keys: from ``jwks_url``, or from where discovery says.

    Raises:
        SettingsError: If keys would be fetched without TLS from another machine.
    """
    for setting, url in (("ISSUER", issuer), ("JWKS_URL", jwks_url)):
        if url and not _is_safe(url):
            raise SettingsError(
                f"FEEDBACKLOOP_OIDC__{setting}: expected https://, or http:// on loopback"
            )

    async def fetch() -> Mapping[str, Any]:
        async with httpx.AsyncClient(timeout=_FETCH_SECONDS, follow_redirects=False) as client:
            where = jwks_url or await _discover(client, issuer)
            return await _json(client, where)

    return fetch


async def _discover(client: httpx.AsyncClient, issuer: str) -> str:
    found = await _json(client, issuer.rstrip("/") + "/.well-known/openid-configuration")
    where = found.get("jwks_uri")
    if found.get("issuer") != issuer:
        raise ValueError(f"the provider calls itself {found.get('issuer')!r}, not {issuer!r}")
    if not isinstance(where, str) or not _is_safe(where):
        raise ValueError("the provider names no jwks_uri with https://")
    return where


async def _json(client: httpx.AsyncClient, url: str) -> Mapping[str, Any]:
    reply = await client.get(url)
    reply.raise_for_status()
    if len(reply.content) > _LARGEST_BYTES:
        raise ValueError(f"{url} answers more than {_LARGEST_BYTES} bytes")
    return msgspec.json.decode(reply.content, type=dict[str, Any])


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (
        parts.scheme == "http" and addresses.is_loopback(parts.hostname or "")
    )


def _names_algorithm(key: PyJWK) -> bool:
    return bool(key._jwk_data.get("alg"))  # noqa: SLF001  # PyJWT has no other way to tell


def _bad(reason: str) -> RequestError:
    return unauthorised(f"the token is not good: {reason}")
