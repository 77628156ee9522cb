"""Who may come in, how often, and what exists for whom."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from feedbackloop.capture.record import Voted
from feedbackloop.events import Alias, TenantId
from services.apikeys import Scope, create
from services.sidecar.entrance import Rates, Rules
from tests.builders import NOON
from tests.services.sidecar.stub import ALIAS, HELLO, KEYS, World, a_world

CHAT = "/v1/chat/completions"
FEEDBACK = "/v1/feedback"
PAGE = "https://chat.example"
OTHERS = msgspec.structs.replace(
    KEYS, current="o001", receipts={"o001": b"o" * 32}, chain=b"d" * 32, pseudonym=b"e" * 32
)
TENANTS = {"default": KEYS, "acme": OTHERS}


def a_key(
    folder: Path, tenant: str = "default", scopes: tuple[Scope, ...] = ("completions", "feedback")
) -> dict[str, str]:
    """Make a key; return the header that shows it."""
    text, _ = create(
        folder / "api-keys.json", tenant=TenantId(tenant), scopes=scopes, created_at=NOON
    )
    return {"authorization": f"Bearer {text}"}


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def voted(world: World) -> list[Voted]:
    return [one for one in world.records() if isinstance(one, Voted)]


async def test_a_key_that_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    """In OpenAI's words, which its clients wait for by themselves."""
    rules = Rules(completions=Rates(key=2))
    before = counted("feedbackloop_limited_total", by="key", route="completions")
    async with a_world(tmp_path, rules=rules) as world:
        replies = [await world.client.post(CHAT, json=HELLO) for _ in range(3)]

    left = [reply.headers["x-ratelimit-remaining-requests"] for reply in replies]
    refused = replies[2]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert left == ["1", "0", "0"]
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 0 < int(refused.headers["retry-after"]) <= 30
    assert counted("feedbackloop_limited_total", by="key", route="completions") == before + 1


async def test_one_persons_loop_stops_nobody_else(tmp_path: Path) -> None:
    """They share the app's key and its address."""
    async with a_world(tmp_path, rules=Rules(completions=Rates(user=1))) as world:
        statuses = [
            (await world.client.post(CHAT, json={**HELLO, "user": user})).status_code
            for user in ("ann", "ann", "bob")
        ]
        nobody = [(await world.client.post(CHAT, json=HELLO)).status_code for _ in range(2)]

    assert statuses == [200, 429, 200]
    assert nobody == [200, 200]


async def test_an_address_is_limited_before_its_key_is_looked_at(tmp_path: Path) -> None:
    """Whoever guesses keys gets a few tries a minute."""
    rules = Rules(completions=Rates(address=1))
    async with a_world(tmp_path, rules=rules, keys_required=True) as world:
        replies = [await world.client.post(CHAT, json=HELLO) for _ in range(2)]

    assert [reply.status_code for reply in replies] == [401, 429]


async def test_a_stranger_does_not_choose_an_address(tmp_path: Path) -> None:
    """Without a proxy of ours, X-Forwarded-For is what anybody writes."""
    async with a_world(tmp_path, rules=Rules(completions=Rates(address=1))) as world:
        statuses = [
            (
                await world.client.post(
                    CHAT, json=HELLO, headers={"x-forwarded-for": f"198.51.100.{n}"}
                )
            ).status_code
            for n in range(2)
        ]

    assert statuses == [200, 429]


async def test_votes_and_prompts_are_limited_apart(tmp_path: Path) -> None:
    """Whoever has just used up the minute's prompts still has something to say about them."""
    rules = Rules(completions=Rates(key=1), feedback=Rates(key=1))
    async with a_world(tmp_path, rules=rules) as world:
        name = (await world.client.post(CHAT, json=HELLO)).headers["x-request-id"]
        body = {"completion_id": name, "thumb": "up"}
        votes = [await world.client.post(FEEDBACK, json=body) for _ in range(2)]

    assert [reply.status_code for reply in votes] == [202, 429]
    assert len(voted(world)) == 1


async def test_a_batch_is_as_many_votes_as_it_holds(tmp_path: Path) -> None:
    """Otherwise the limit is a thousand times as wide as it says."""
    async with a_world(tmp_path, rules=Rules(feedback=Rates(key=100))) as world:
        name = (await world.client.post(CHAT, json=HELLO)).headers["x-request-id"]
        item = {"completion_id": name, "rating": 4}
        batch = await world.client.post(f"{FEEDBACK}/batch", json={"items": [item] * 150})
        after = await world.client.post(FEEDBACK, json=item)

    assert {result["status"] for result in batch.json()["results"]} == {202}
    assert (after.status_code, int(after.headers["retry-after"]) > 30) == (429, True)


async def test_limits_are_off_by_default(world: World) -> None:
    """Nobody is refused who did not ask for it, and no header promises anything."""
    replies = [await world.client.post(CHAT, json=HELLO) for _ in range(5)]

    assert {reply.status_code for reply in replies} == {200}
    assert not any(name.startswith("x-ratelimit") for name in replies[0].headers)


async def test_another_tenants_model_does_not_exist(tmp_path: Path) -> None:
    """The answer is the one for a model that nobody has, to the letter."""
    rules = Rules(tenants={ALIAS: frozenset({TenantId("acme")})})
    ours, theirs = a_key(tmp_path, "acme"), a_key(tmp_path, "default")
    async with a_world(tmp_path, rules=rules, keys_required=True, tenants=TENANTS) as world:
        world.parts.router.set_bases({ALIAS: "base", Alias("shared"): "base"})
        served = await world.client.post(CHAT, json=HELLO, headers=ours)
        refused = await world.client.post(CHAT, json=HELLO, headers=theirs)
        nobodys = await world.client.post(CHAT, json={**HELLO, "model": "nobodys"}, headers=theirs)
        embeddings = await world.client.post(
            "/v1/embeddings", json={"model": "assistant", "input": "x"}, headers=theirs
        )
        listed = [
            [
                one["id"]
                for one in (await world.client.get("/v1/models", headers=who)).json()["data"]
            ]
            for who in (ours, theirs)
        ]
        looked_up = await world.client.get("/v1/models/assistant", headers=theirs)

    same = nobodys.json()["error"]["message"].replace("nobodys", "assistant")
    assert served.status_code == 200
    assert (refused.status_code, refused.json()["error"]["message"]) == (404, same)
    assert (embeddings.status_code, embeddings.json()["error"]["message"]) == (404, same)
    assert listed == [["assistant", "shared"], ["shared"]]
    assert (looked_up.status_code, looked_up.json()["error"]["message"]) == (404, same)


async def test_another_tenants_completion_does_not_exist(tmp_path: Path) -> None:
    """A leaked id tells nobody else that it is one."""
    ours, theirs = a_key(tmp_path, "acme"), a_key(tmp_path, "default")
    async with a_world(tmp_path, keys_required=True, tenants=TENANTS) as world:
        reply = await world.client.post(CHAT, json=HELLO, headers=ours)
        name = reply.headers["x-request-id"]
        body = {"completion_id": name, "thumb": "up"}
        statuses = [
            (await world.client.post(FEEDBACK, json=body, headers=who)).status_code
            for who in (theirs, ours)
        ]
        taken = await world.client.delete(f"{FEEDBACK}/{name}", headers=theirs)

    assert (statuses, taken.status_code) == ([404, 202], 404)
    assert [one.tenant for one in voted(world)] == ["acme"]


async def test_tenants_share_no_prefix_cache(tmp_path: Path) -> None:
    """How soon an answer begins would tell one what another had asked."""
    default, acme = a_key(tmp_path, "default"), a_key(tmp_path, "acme")
    chosen = {**HELLO, "cache_salt": "mine"}
    async with a_world(tmp_path, keys_required=True, tenants=TENANTS) as world:
        for body, who in ((HELLO, default), (HELLO, acme), (chosen, acme), (chosen, default)):
            await world.client.post(CHAT, json=body, headers=who)
        asked = [json.loads(body) for _, _, body in world.stub.requests]

    salts = [body.get("cache_salt") for body in asked]
    assert (salts[0], salts[3]) == (None, "mine")
    assert len({salts[1], salts[2], "mine", None}) == 4
    assert all(msgspec.structs.asdict(one) for one in world.records())
    assert {json.dumps({**body, "cache_salt": 0}) for body in asked} == {
        json.dumps({**HELLO, "model": "base", "cache_salt": 0})
    }


async def test_a_salt_cannot_be_smuggled_past_ours(tmp_path: Path) -> None:
    """Twice the same key, or written another way: the last one counts, and it is ours."""
    acme = {**a_key(tmp_path, "acme"), "content-type": "application/json"}
    bodies = (
        b'{"model":"assistant","messages":[],"cache_salt":"a","cache_salt":"b"}',
        rb'{"model":"assistant","messages":[],"\u0063ache_salt":"a"}',
        b'{"model":"assistant","messages":[],"x":{"cache_salt":"a"}}\n ',
    )
    async with a_world(tmp_path, keys_required=True, tenants=TENANTS) as world:
        for body in bodies:
            await world.client.post(CHAT, content=body, headers=acme)
        salts = [json.loads(body)["cache_salt"] for _, _, body in world.stub.requests]

    assert len(salts) == 3
    assert all(len(salt) == 32 for salt in salts)


async def test_a_page_votes_with_the_completion_id_alone(tmp_path: Path) -> None:
    """No key in a browser: whoever saw the answer holds its id."""
    acme = a_key(tmp_path, "acme")
    rules = Rules(origins=frozenset({PAGE}))
    async with a_world(tmp_path, rules=rules, keys_required=True, tenants=TENANTS) as world:
        reply = await world.client.post(CHAT, json={**HELLO, "user": "ann"}, headers=acme)
        name = reply.headers["x-request-id"]
        vote = await world.client.post(
            FEEDBACK, json={"completion_id": name, "thumb": "up"}, headers={"origin": PAGE}
        )
        taken = await world.client.delete(f"{FEEDBACK}/{name}", headers={"origin": PAGE})

    assert (vote.status_code, taken.status_code) == (202, 202)
    assert vote.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in vote.headers
    assert [(one.tenant, one.user is None) for one in voted(world)] == [("acme", False)] * 2


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://chat.example", ""])
async def test_pages_of_other_origins_may_not_vote(tmp_path: Path, origin: str) -> None:
    """Neither by asking first nor without; a key makes no difference."""
    key = a_key(tmp_path)
    async with a_world(
        tmp_path, rules=Rules(origins=frozenset({PAGE})), keys_required=True
    ) as world:
        name = (await world.client.post(CHAT, json=HELLO, headers=key)).headers["x-request-id"]
        head = {"origin": origin}
        asked = await world.client.options(
            FEEDBACK, headers={**head, "access-control-request-method": "POST"}
        )
        body = {"completion_id": name, "thumb": "up"}
        votes = [
            await world.client.post(FEEDBACK, json=body, headers={**head, **more})
            for more in ({}, key)
        ]

    assert [reply.status_code for reply in (asked, *votes)] == [403, 403, 403]
    assert not any("access-control-allow-origin" in reply.headers for reply in (asked, *votes))
    assert voted(world) == []


async def test_a_browser_that_asks_first_is_told_what_it_may_send(tmp_path: Path) -> None:
    """The preflight of a page that is on the list."""
    async with a_world(tmp_path, rules=Rules(origins=frozenset({PAGE}))) as world:
        reply = await world.client.options(
            f"{FEEDBACK}/chatcmpl-x",
            headers={
                "origin": PAGE,
                "access-control-request-method": "DELETE",
                "access-control-request-headers": "content-type,idempotency-key",
            },
        )

    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert "DELETE" in reply.headers["access-control-allow-methods"]
    assert "idempotency-key" in reply.headers["access-control-allow-headers"].lower()
    assert "Origin" in reply.headers["vary"]


async def test_without_a_list_no_page_is_told_anything(world: World) -> None:
    """The default."""
    reply = await world.client.options(
        FEEDBACK, headers={"origin": PAGE, "access-control-request-method": "POST"}
    )

    assert reply.status_code == 405
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"completion_id": "chatcmpl-" + "A" * 84}, 404, "completion_id"),
        ({"user": "bob"}, 403, "user"),
        ({"comment": "x" * 70_000}, 413, None),
    ],
)
async def test_a_page_cannot_do_more_than_its_reader(
    tmp_path: Path, body: dict[str, Any], status: int, param: str | None
) -> None:
    """A name proves nothing without a key, and every name would be another vote."""
    async with a_world(
        tmp_path, rules=Rules(origins=frozenset({PAGE})), keys_required=True
    ) as world:
        reply = await world.client.post(CHAT, json=HELLO, headers=a_key(tmp_path))
        vote = {"completion_id": reply.headers["x-request-id"], "thumb": "up", **body}
        refused = await world.client.post(FEEDBACK, json=vote, headers={"origin": PAGE})
        batch = await world.client.post(
            f"{FEEDBACK}/batch", json={"items": [vote]}, headers={"origin": PAGE}
        )

    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)
    assert batch.status_code == 401
    assert voted(world) == []


async def test_a_page_votes_only_so_often_on_one_completion(tmp_path: Path) -> None:
    """One reader must not fill the disk that everybody's votes need."""
    rules = Rules(origins=frozenset({PAGE}), feedback=Rates(receipt=2))
    async with a_world(tmp_path, rules=rules, keys_required=True) as world:
        reply = await world.client.post(CHAT, json=HELLO, headers=a_key(tmp_path))
        vote = {"completion_id": reply.headers["x-request-id"], "thumb": "up"}
        votes = [
            await world.client.post(FEEDBACK, json=vote, headers={"origin": PAGE}) for _ in range(3)
        ]

    assert [one.status_code for one in votes] == [202, 202, 429]
    assert "retry-after" in votes[2].headers["access-control-expose-headers"].lower()


async def test_refusals_are_counted_by_why(tmp_path: Path) -> None:
    """Somebody who guesses keys, and an app with a typing error, look different."""
    key = a_key(tmp_path, scopes=("feedback",))
    before = {
        reason: counted("feedbackloop_not_admitted_total", reason=reason)
        for reason in ("invalid_api_key", "missing_scope")
    }
    async with a_world(tmp_path, keys_required=True) as world:
        await world.client.post(CHAT, json=HELLO)
        await world.client.post(CHAT, json=HELLO, headers=key)

    for reason, count in before.items():
        assert counted("feedbackloop_not_admitted_total", reason=reason) == count + 1


@pytest.mark.parametrize(
    ("tenant", "user", "status"),
    [
        ("acme", "ann", 200),
        ("acme", "bob", 404),
        ("acme", None, 404),
        ("default", "ann", 404),
    ],
)
async def test_nobody_goes_on_from_another_persons_response(
    tmp_path: Path, tenant: str, user: str | None, status: int
) -> None:
    """vLLM would answer with what that person said before."""
    ours, caller = a_key(tmp_path, "acme"), a_key(tmp_path, tenant)
    ask = {"model": "assistant", "input": "hello"}
    async with a_world(tmp_path, keys_required=True, tenants=TENANTS) as world:
        first = await world.client.post("/v1/responses", json={**ask, "user": "ann"}, headers=ours)
        more = {"previous_response_id": first.headers["x-request-id"], "user": user}
        reply = await world.client.post("/v1/responses", json={**ask, **more}, headers=caller)

    assert reply.status_code == status
    assert status == 200 or reply.json()["error"]["param"] == "previous_response_id"
    assert len(world.stub.requests) == (2 if status == 200 else 1)
