"""Tokens: good ones let in, and every known way to forge one does not."""

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from feedbackloop.errors import RequestError, SettingsError
from services.apikeys import Scope
from services.oidc import Fetch, Terms, Tokens, claim, provider
from tests.services.issuer import (
    AUDIENCE,
    EC_KEY,
    OTHER_KEY,
    RSA_KEY,
    Issuer,
    an_issuer,
    public_jwk,
)
from tests.services.test_apikeys import Clock

PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
async def online() -> AsyncIterator[Issuer]:
    """A provider that is asked over HTTP."""
    async with an_issuer() as one:
        yield one


async def tokens_of(
    issuer: Issuer, clock: Clock | None = None, *, fetch: Fetch | None = None, **changed: Any
) -> Tokens:
    """Know a provider's keys."""
    terms = {
        "issuer": issuer.url,
        "audience": AUDIENCE,
        "algorithms": ("RS256", "ES256"),
        "tenant_claim": "tenant",
    }
    tokens = Tokens(Terms(**(terms | changed)), fetch or issuer.fetch, clock=clock or Clock())
    await tokens.refresh()
    return tokens


def refusal(tokens: Tokens, token: str, scope: Scope = "completions") -> RequestError:
    with pytest.raises(RequestError) as caught:
        tokens.caller(f"Bearer {token}", scope)
    return caught.value


def unsigned(head: dict[str, object], claims: dict[str, object]) -> str:
    """Write a token by hand, with an empty signature."""
    parts = [json.dumps(part).encode() for part in (head, claims)]
    return ".".join([*(base64.urlsafe_b64encode(p).rstrip(b"=").decode() for p in parts), ""])


@pytest.mark.parametrize(
    ("key", "algorithm", "name"), [(RSA_KEY, "RS256", "rsa"), (EC_KEY, "ES256", "ec")]
)
async def test_a_good_token_says_who_calls(
    online: Issuer, key: Any, algorithm: str, name: str
) -> None:
    """Tenant and scopes are what the provider says, and nothing that the client adds."""
    tokens = await tokens_of(online, fetch=provider(online.url, ""))

    caller = tokens.caller(f"Bearer {online.token(key, algorithm, head={'kid': name})}", "feedback")

    assert (caller.tenant, caller.scopes) == ("acme", ("completions", "feedback"))
    assert "app-7" not in caller.key


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "another"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"iss": None},
        {"exp": 1_000_000_000},
        {"exp": None},
        {"nbf": 3_999_999_999},
        {"sub": None},
    ],
)
async def test_a_token_for_somebody_else_or_another_time_is_refused(
    issuer: Issuer, changed: dict[str, Any]
) -> None:
    """Whoever has a token of the same provider for another service is a stranger here."""
    tokens = await tokens_of(issuer)

    error = refusal(tokens, issuer.token(**changed))

    assert (error.status, error.code) == (401, "invalid_api_key")


@pytest.mark.parametrize("word", ["none", "None", "NONE", "nOnE"])
async def test_a_token_that_is_not_signed_is_refused(issuer: Issuer, word: str) -> None:
    """The oldest trick."""
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    tokens = await tokens_of(issuer)

    assert refusal(tokens, unsigned({"alg": word, "kid": "rsa"}, claims)).status == 401


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_the_public_key_is_no_shared_secret(issuer: Issuer, algorithm: str) -> None:
    """Whoever takes the algorithm from the token checks it with a key that everybody has."""
    secret = base64.urlsafe_b64encode(PEM).rstrip(b"=").decode()
    issuer.keys.append({"kty": "oct", "k": secret, "kid": "oct"})
    tokens = await tokens_of(issuer)
    head = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "rsa"}).encode())
    claims = issuer.token().split(".")[1]
    signed = head.rstrip(b"=") + b"." + claims.encode()
    mac = hmac.digest(PEM, signed, algorithm.replace("HS", "sha"))
    token = (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()

    assert refusal(tokens, token).status == 401
    assert refusal(tokens, token.replace(head.decode(), "")).status == 401


async def test_a_token_of_another_key_is_refused(issuer: Issuer) -> None:
    """The name of a key is no proof of having it."""
    tokens = await tokens_of(issuer)

    assert refusal(tokens, issuer.token(OTHER_KEY)).status == 401


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/dev/null",
        "rsa' OR '1'='1",
        "http://evil.example/keys",
        "",
        "\0",
        ["rsa"],
        {"a": 1},
        7,
        None,
    ],
)
async def test_the_name_of_a_key_is_only_a_name(issuer: Issuer, name: object) -> None:
    """No file is opened and no address called because a token says so."""
    clock = Clock()
    tokens = await tokens_of(issuer, clock)
    token = issuer.token().split(".")
    head = base64.urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": name}).encode())
    asked = issuer.asked

    error = refusal(tokens, ".".join([head.rstrip(b"=").decode(), *token[1:]]))

    assert (error.status, issuer.asked) == (401, asked)


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk"])
async def test_a_token_cannot_bring_its_own_key(issuer: Issuer, name: str) -> None:
    """Keys come from the provider, whatever the token says of where they are."""
    own = public_jwk(OTHER_KEY, "rsa")
    value: object = own if name == "jwk" else f"{issuer.url}/evil"
    tokens = await tokens_of(issuer)

    token = issuer.token(OTHER_KEY, head={"kid": "rsa", name: value})

    assert refusal(tokens, token).status == 401


async def test_a_key_signs_only_as_it_says(issuer: Issuer) -> None:
    """A key that is published for one algorithm is not used with another."""
    issuer.keys = [public_jwk(RSA_KEY, "rsa", alg="PS256")]
    tokens = await tokens_of(issuer, algorithms=("RS256", "PS256"))

    assert refusal(tokens, issuer.token()).status == 401
    assert tokens.caller(f"Bearer {issuer.token(algorithm='PS256')}", "feedback").tenant == "acme"


async def test_a_key_for_encryption_signs_nothing(issuer: Issuer) -> None:
    """Providers publish both kinds in one list."""
    issuer.keys = [public_jwk(RSA_KEY, "rsa", use="enc"), public_jwk(EC_KEY, "ec")]
    tokens = await tokens_of(issuer)

    assert refusal(tokens, issuer.token()).status == 401


async def test_an_algorithm_that_is_not_on_the_list_is_refused(issuer: Issuer) -> None:
    """The list is the operator's."""
    tokens = await tokens_of(issuer, algorithms=("ES256",))

    assert "ES256" in refusal(tokens, issuer.token()).message


async def test_an_extension_that_must_be_understood_is_refused(issuer: Issuer) -> None:
    """RFC 7515, section 4.1.11: what says that it is critical must not be passed over."""
    tokens = await tokens_of(issuer)

    token = issuer.token(head={"kid": "rsa", "crit": ["exp"], "exp": 1})

    assert refusal(tokens, token).status == 401


@pytest.mark.parametrize("junk", ["..", "a.b.c", "e30.e30.", ". .", "x" * 20_000 + "..", "é.é.é"])
async def test_junk_is_refused_and_nothing_worse(issuer: Issuer, junk: str) -> None:
    """Headers are strangers' bytes."""
    tokens = await tokens_of(issuer)

    assert refusal(tokens, junk).status == 401


async def test_a_token_that_has_ended_is_refused_even_if_it_was_good(issuer: Issuer) -> None:
    """What is remembered of a token ends with it, a little leeway included."""
    clock = Clock()
    clock.seconds = time.time()
    ends = int(clock.seconds) + 1_000
    tokens = await tokens_of(issuer, clock, leeway_seconds=30.0)
    token = issuer.token(exp=ends)
    tokens.caller(f"Bearer {token}", "completions")
    clock.seconds = ends + 29.0
    tokens.caller(f"Bearer {token}", "completions")

    clock.seconds = ends + 30.0

    assert "expired" in refusal(tokens, token).message


async def test_a_token_opens_its_scopes_only(issuer: Issuer) -> None:
    """Whoever may chat may not drain a server."""
    tokens = await tokens_of(issuer)

    error = refusal(tokens, issuer.token(), "admin")

    assert (error.status, error.code) == (403, "missing_scope")


@pytest.mark.parametrize("tenant", [None, "", "Not A Name", 7, ["acme"], "a" * 33])
async def test_a_token_that_names_no_tenant_is_refused(issuer: Issuer, tenant: object) -> None:
    """Falling back to the default tenant would show one company another's models."""
    tokens = await tokens_of(issuer)

    error = refusal(tokens, issuer.token(tenant=tenant))

    assert (error.status, error.code) == (403, "unknown_tenant")


async def test_scopes_are_found_where_the_provider_puts_them(issuer: Issuer) -> None:
    """Keycloak lists roles in an object, Auth0 permissions with a prefix."""
    tokens = await tokens_of(issuer, scope_claim="realm_access.roles", scope_prefix="loop:")

    token = issuer.token(realm_access={"roles": ["loop:admin", "feedback", "loop:sing"]})
    caller = tokens.caller(f"Bearer {token}", "admin")

    assert caller.scopes == ("admin",)


def test_a_claim_with_a_dot_in_its_name_is_found_too() -> None:
    """Namespaced claims are addresses."""
    claims = {"https://x.example/tenant": "acme"}

    assert claim(claims, "https://x.example/tenant") == "acme"
    assert claim({"a": 1}, "a.b") is None


async def test_a_new_key_of_the_provider_is_learnt(issuer: Issuer) -> None:
    """Providers rotate too: the caller is asked to try again, and meanwhile the key is fetched."""
    clock = Clock()
    tokens = await tokens_of(issuer, clock)
    issuer.keys.append(public_jwk(OTHER_KEY, "new"))
    token = issuer.token(OTHER_KEY, head={"kid": "new"})
    clock.seconds += 31

    error = refusal(tokens, token)
    await tokens.refresh()

    assert (error.status, error.retry_after_seconds) == (503, 1)
    assert tokens.caller(f"Bearer {token}", "completions").tenant == "acme"


async def test_unknown_keys_do_not_make_us_call_the_provider_again_and_again(
    issuer: Issuer,
) -> None:
    """Anybody can write a token that names a key which does not exist."""
    clock = Clock()
    tokens = await tokens_of(issuer, clock)
    asked = issuer.asked

    statuses = {refusal(tokens, issuer.token(head={"kid": f"k{n}"})).status for n in range(100)}

    assert (statuses, issuer.asked) == ({401}, asked)


async def test_a_key_that_the_provider_takes_back_takes_its_tokens_along(issuer: Issuer) -> None:
    """A token that was good a minute ago is remembered, but not longer than its key."""
    clock = Clock()
    tokens = await tokens_of(issuer, clock)
    token = issuer.token()
    tokens.caller(f"Bearer {token}", "completions")

    issuer.keys = [public_jwk(EC_KEY, "ec")]
    await tokens.refresh()

    assert refusal(tokens, token).status == 401


async def test_a_provider_that_is_away_does_not_lock_everybody_out(issuer: Issuer) -> None:
    """The keys in hand are still its keys."""
    tokens = await tokens_of(issuer)
    issuer.broken = True

    await tokens.refresh()

    assert tokens.caller(f"Bearer {issuer.token()}", "completions").tenant == "acme"


async def test_before_the_first_keys_callers_are_asked_to_come_back(issuer: Issuer) -> None:
    """Not 401: a client would throw its good token away."""
    issuer.broken = True
    tokens = await tokens_of(issuer)

    assert refusal(tokens, issuer.token()).status == 503


async def test_a_provider_under_another_name_is_not_believed(online: Issuer) -> None:
    """Discovery of one issuer must not lead to the keys of another (OIDC Discovery, 4.3)."""
    online.named = "https://evil.example"
    tokens = await tokens_of(online, fetch=provider(online.url, ""))

    assert refusal(tokens, online.token()).status == 503


async def test_a_provider_that_answers_with_an_error_is_asked_again_later(online: Issuer) -> None:
    """Its maintenance page is no key."""
    online.broken = True
    tokens = await tokens_of(online, fetch=provider(online.url, ""))
    online.broken = False

    before = refusal(tokens, online.token())
    await tokens.refresh()

    assert before.status == 503
    assert tokens.caller(f"Bearer {online.token()}", "completions").tenant == "acme"


@pytest.mark.parametrize("url", ["http://id.example", "ftp://id.example", "file:///etc/passwd"])
def test_keys_are_never_fetched_without_tls(url: str) -> None:
    """Whoever is in between would choose who may call."""
    with pytest.raises(SettingsError, match="https"):
        provider(url, "")
    with pytest.raises(SettingsError, match="JWKS_URL"):
        provider("https://id.example", url)
