"""Settings to what decides who may come in."""

import time

from feedbackloop.errors import SettingsError
from feedbackloop.events import Alias, TenantId
from services.apikeys import ApiKeys
from services.oidc import Terms, Tokens, provider
from services.settings import Settings
from services.sidecar.caller import Identities
from services.sidecar.entrance import Entrance, Rates, Rules


def make_entrance(settings: Settings, identities: Identities, tokens: Tokens | None) -> Entrance:
    """Build what decides who may come in."""
    limits = settings.limits
    return Entrance(
        ApiKeys(settings.home / "keys" / "api-keys.json", required=settings.keys.required),
        identities,
        Rules(
            completions=Rates(
                key=limits.key_completions_per_minute,
                user=limits.user_completions_per_minute,
                address=limits.address_completions_per_minute,
            ),
            feedback=Rates(
                key=limits.key_feedback_per_minute,
                user=limits.user_feedback_per_minute,
                address=limits.address_feedback_per_minute,
                receipt=limits.receipt_feedback_per_minute,
            ),
            burst_minutes=limits.burst_minutes,
            remembered=limits.remembered,
            trusted_proxies=limits.trusted_proxies,
            tenants={
                Alias(alias): frozenset(TenantId(tenant) for tenant in one.tenants)
                for alias, one in settings.aliases.items()
                if one.tenants
            },
            salts=settings.sidecar.cache_salt,
            origins=frozenset(settings.keys.browser_origins),
        ),
        tokens=tokens,
        clock=time.monotonic,
    )


def make_tokens(settings: Settings) -> Tokens | None:
    """Build what checks the tokens of an identity provider, if one is named.

    Raises:
        SettingsError: If a setting is missing, or keys would be fetched without TLS.
    """
    oidc = settings.oidc
    if not oidc.issuer:
        return None
    if not oidc.audience:
        raise SettingsError("FEEDBACKLOOP_OIDC__AUDIENCE: expected what tokens name in aud")
    terms = Terms(
        issuer=oidc.issuer,
        audience=oidc.audience,
        algorithms=oidc.algorithms,
        leeway_seconds=oidc.leeway_seconds,
        refresh_seconds=oidc.refresh_seconds,
        min_refresh_seconds=oidc.min_refresh_seconds,
        tenant_claim=oidc.tenant_claim,
        scope_claim=oidc.scope_claim,
        scope_prefix=oidc.scope_prefix,
    )
    return Tokens(terms, provider(oidc.issuer, oidc.jwks_url))
