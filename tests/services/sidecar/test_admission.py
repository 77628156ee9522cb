"""From settings to who may come in."""

from pathlib import Path

import pytest

from feedbackloop.errors import RequestError, SettingsError
from feedbackloop.events import Alias, TenantId
from services import keyring
from services.keyring import LiveKeyring
from services.settings import load
from services.sidecar.admission import make_entrance, make_tokens
from services.sidecar.asked import read
from services.sidecar.caller import Identities
from services.sidecar.entrance import Entrance
from tests.services.issuer import AUDIENCE, an_issuer
from tests.services.sidecar.stub import HELLO, Said, Stub
from tests.services.sidecar.test_process import CHAT, a_sidecar


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("FEEDBACKLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("FEEDBACKLOOP_KEYS__REQUIRED", "false")
    return monkeypatch


def an_entrance() -> Entrance:
    settings = load()
    identities = Identities(LiveKeyring(settings.home), lifetime_seconds=60)
    return make_entrance(settings, identities, None)


@pytest.mark.parametrize("by", ["key", "user", "address"])
def test_each_limit_is_set_by_its_own_variable(variables: pytest.MonkeyPatch, by: str) -> None:
    """A limit that is set and does nothing is worse than none."""
    variables.setenv(f"FEEDBACKLOOP_LIMITS__{by.upper()}_COMPLETIONS_PER_MINUTE", "1")
    variables.setenv("FEEDBACKLOOP_LIMITS__TRUSTED_PROXIES", '["10.0.0.0/8"]')
    entrance = an_entrance()
    asked = read(b'{"model": "m", "messages": [], "user": "ann"}', "chat")
    headers = {"x-forwarded-for": "198.51.100.7"}

    def come() -> None:
        entrance.enter(entrance.admit(headers, "10.0.0.1", "completions"), headers, asked)

    come()
    with pytest.raises(RequestError, match=f"for each {by}"):
        come()


def test_an_alias_names_its_tenants(variables: pytest.MonkeyPatch) -> None:
    """And one that names none is everybody's."""
    variables.setenv("FEEDBACKLOOP_ALIASES__OURS__BASE", "base")
    variables.setenv("FEEDBACKLOOP_ALIASES__OURS__TENANTS", '["acme"]')
    variables.setenv("FEEDBACKLOOP_ALIASES__SHARED__BASE", "base")
    entrance = an_entrance()
    aliases = [Alias("ours"), Alias("shared")]

    seen = [entrance.visible(TenantId(tenant), aliases) for tenant in ("acme", "other")]

    assert seen == [["ours", "shared"], ["shared"]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LIMITS__KEY_FEEDBACK_PER_MINUTE", "-1"),
        ("LIMITS__BURST_MINUTES", "0"),
        ("LIMITS__TRUSTED_PROXIES", '["10.0.0.1/8"]'),
        ("KEYS__BROWSER_ORIGINS", '["*"]'),
        ("KEYS__BROWSER_ORIGINS", '["https://chat.example/"]'),
        ("OIDC__ALGORITHMS", '["HS256"]'),
        ("OIDC__ALGORITHMS", '["none"]'),
        ("OIDC__ALGORITHMS", "[]"),
        ("ALIASES__OURS__TENANTS", '["Not A Name"]'),
    ],
)
def test_settings_that_would_open_a_door_are_refused(
    variables: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """At the start, by name, and not at the first attack."""
    variables.setenv("FEEDBACKLOOP_ALIASES__OURS__BASE", "base")
    variables.setenv(f"FEEDBACKLOOP_{name}", value)

    with pytest.raises(SettingsError, match=f"FEEDBACKLOOP_{name}"):
        load()


@pytest.mark.parametrize(
    ("issuer", "audience", "named"),
    [("https://id.example", "", "AUDIENCE"), ("http://id.example", "loop", "ISSUER")],
)
def test_half_a_provider_is_refused(
    variables: pytest.MonkeyPatch, issuer: str, audience: str, named: str
) -> None:
    """Tokens for somebody else, or keys that anybody in between may choose."""
    variables.setenv("FEEDBACKLOOP_OIDC__ISSUER", issuer)
    variables.setenv("FEEDBACKLOOP_OIDC__AUDIENCE", audience)

    with pytest.raises(SettingsError, match=f"OIDC__{named}"):
        make_tokens(load())


async def test_a_process_lets_in_whom_its_provider_knows(tmp_path: Path) -> None:
    """Settings, discovery, keys, tenant, alias and limit, all in one start."""
    keyring.add(tmp_path / "home", TenantId("acme"))
    stub = Stub(socket=tmp_path / "vllm.sock", says=[Said(pieces=(b'{"model":"base"}',))])
    async with an_issuer() as issuer, stub.serving():
        changed = {
            "KEYS__REQUIRED": "true",
            "OIDC__ISSUER": issuer.url,
            "OIDC__AUDIENCE": AUDIENCE,
            "OIDC__TENANT_CLAIM": "tenant",
            "ALIASES__ASSISTANT__TENANTS": '["acme"]',
            "LIMITS__KEY_COMPLETIONS_PER_MINUTE": "1",
        }
        async with a_sidecar(tmp_path, **changed) as (_, client, _):
            tokens = [issuer.token(), issuer.token(), issuer.token(tenant="default", sub="x"), "no"]
            replies = []
            for token in tokens:
                head = {"authorization": f"Bearer {token}"}
                reply = await client.post(CHAT, json=HELLO, headers=head)
                while reply.status_code == 503:
                    reply = await client.post(CHAT, json=HELLO, headers=head)
                replies.append(reply)

    assert [reply.status_code for reply in replies] == [200, 429, 404, 401]
    assert replies[0].headers["x-ratelimit-limit-requests"] == "1"
