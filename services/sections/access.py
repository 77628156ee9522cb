"""Who may call, from where, and how often."""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from services.sections.section import Count, Seconds, Section

Origin = Annotated[str, Field(pattern=r"^https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:\d{1,5})?$")]


class Keys(Section):
    """Who may call, and how long what we signed is good."""

    required: bool = True
    """Whether clients need an API key; may be false only while every address is loopback."""

    admin: SecretStr = SecretStr("")
    """API key of scope ``admin``, with which the command line calls the scheduler."""

    receipt_lifetime_seconds: Seconds = 30 * 86_400
    """How long after a completion feedback on it is accepted; then 410."""

    clock_skew_seconds: Seconds = 300.0
    """How far a client's clock may be off in the ``at`` of its feedback; beyond it, 422."""

    browser_origins: tuple[Origin, ...] = ()
    """Origins of web pages that may send feedback, such as ``https://chat.example``: with the
    completion id alone, without an API key. Empty: no page may."""


class Limits(Section):
    """How often somebody may ask, in each sidecar by itself; 0 means no limit, otherwise 429."""

    key_completions_per_minute: Count = 0
    """Completion requests for each API key; a key can have a limit of its own instead."""

    user_completions_per_minute: Count = 0
    """Completion requests for each user that requests name."""

    address_completions_per_minute: Count = 0
    """Completion requests for each IPv4 address or IPv6 /64."""

    key_feedback_per_minute: Count = 0
    """Feedback for each API key; an item of a batch counts as one."""

    user_feedback_per_minute: Count = 0
    """Feedback for each user."""

    address_feedback_per_minute: Count = 0
    """Feedback for each IPv4 address or IPv6 /64."""

    receipt_feedback_per_minute: Count = 60
    """Feedback without an API key, from browsers, on each completion."""

    burst_minutes: Annotated[float, Field(gt=0)] = 1.0
    """How many minutes' worth may come at once."""

    remembered: Annotated[int, Field(ge=1_000)] = 50_000
    """How many names each limit keeps in mind: about 100 bytes each."""

    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks of your own proxies, whose ``X-Forwarded-For`` is believed; else the connection's
    address counts."""


Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class Oidc(Section):
    """Bearer tokens of an OpenID Connect provider, beside API keys; off without an issuer."""

    issuer: str = ""
    """What tokens must name as ``iss``; also where the provider's keys are found, by discovery."""

    audience: str = ""
    """What tokens must name in ``aud``."""

    jwks_url: str = ""
    """Where the provider's keys are, if it is not to be discovered from the issuer."""

    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256")
    """Signatures that are accepted; never one with a shared secret."""

    leeway_seconds: Annotated[float, Field(ge=0, le=300)] = 30.0
    """How far the provider's clock may be off."""

    refresh_seconds: Annotated[float, Field(ge=10)] = 600.0
    """How often the provider's keys are fetched anew."""

    min_refresh_seconds: Annotated[float, Field(ge=1)] = 30.0
    """Least time between two fetches, however many tokens name a key that is not known."""

    tenant_claim: str = ""
    """Claim that names the tenant; empty: every token is of the tenant ``default``."""

    scope_claim: str = "scope"
    """Claim that lists scopes, as a list or in one string: ``completions``, ``feedback``,
    ``admin``."""

    scope_prefix: str = ""
    """What stands before our scopes in that claim, such as ``feedbackloop:``."""
