"""What no client of good faith sends, on every route: refused in OpenAI's shape, never a 5xx."""

import dataclasses
import socket
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from services.apikeys import ApiKeys
from services.sidecar.app import make_front, make_public
from services.sidecar.entrance import Entrance, Rates, Rules
from tests.services.sidecar.stub import HELLO, World

JSON = {"content-type": "application/json"}
TAKES_JSON = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/feedback",
    "/v1/feedback/batch",
    "/v1/completions:record",
)


def broken() -> int:
    """Fail in a way that nobody has thought of."""
    raise RuntimeError("surprise")


@pytest.mark.parametrize("path", TAKES_JSON)
@pytest.mark.parametrize("field", ["items", "request", "x"])
async def test_what_is_nested_too_deeply_is_no_failure_of_ours(
    world: World, path: str, field: str
) -> None:
    """Whoever can make us fail at will can fill our log and our error budget."""
    body = b'{"%b":%b' % (field.encode(), b"[" * 10_000)

    reply = await world.client.post(path, content=body, headers=JSON)

    assert reply.status_code in {400, 422}, reply.text
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert (world.records(), world.stub.requests) == ([], [])


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b'{"model":7}', "model", "model: Expected `str`, got `int`"),
        (b'{"model":"assistant","cache_salt":7}', "cache_salt", "cache_salt: Expected `str"),
        (b"{", None, "the body is not JSON"),
    ],
)
async def test_a_bad_request_that_would_be_passed_on_names_its_field(
    world: World, body: bytes, param: str | None, message: str
) -> None:
    """Not always the model's: whoever looks there finds nothing wrong."""
    reply = await world.client.post("/v1/embeddings", content=body, headers=JSON)

    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, param)
    assert error["message"].startswith(message)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/chat/completions", b'"messages":[{"role":"user","content":%b}]'),
        ("/v1/completions", b'"prompt":%b'),
        ("/v1/responses", b'"input":[%b]'),
    ],
)
async def test_however_deep_a_request_is_nested_we_do_not_fail(
    world: World, path: str, field: bytes
) -> None:
    """What one step can still read, the next may not: each has a stack of its own height."""
    statuses = set()
    for depth in range(840, 1_000, 2):
        deep = b"[" * depth + b"]" * depth
        body = b'{"model":"assistant",%b}' % (field % deep)
        statuses.add((await world.client.post(path, content=body, headers=JSON)).status_code)

    assert statuses <= {200, 400, 422}, statuses
    assert 400 in statuses


async def test_a_word_that_is_none_of_a_few_is_told_which(world: World) -> None:
    """A client that guessed "good" has to learn what we say for it."""
    body = {"completion_id": "chatcmpl-x", "thumb": "good"}

    reply = await world.client.post("/v1/feedback", json=body)

    assert reply.json()["error"]["message"] == "thumb: expected up or down, not 'good'"


@pytest.mark.parametrize(
    "path", ["/v1/feedback/", "/v1/feedback/batch/", "/v1/completions:record/"]
)
async def test_a_path_with_a_slash_too_many_is_no_route(world: World, path: str) -> None:
    """A redirect would lead to whatever the Host header says, and our OpenAPI knows of none."""
    reply = await world.client.post(path, json={}, headers={"host": "elsewhere.example"})

    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


async def test_a_failure_over_a_requests_head_is_answered(world: World, tmp_path: Path) -> None:
    """A connection that breaks off without a word is taken for the network's."""
    entrance = Entrance(
        ApiKeys(tmp_path / "keys.json", required=False),
        world.parts.identities,
        Rules(completions=Rates(key=1)),
        tokens=None,
        clock=broken,
    )
    front = make_front(dataclasses.replace(world.parts, entrance=entrance))
    listener = socket.create_server(("127.0.0.1", 0))
    await front.listen(listener)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with capture_logs() as lines:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            reply = await client.post("/v1/chat/completions", json=HELLO)
    await front.drain(0)

    (line,) = [one for one in lines if one["event"] == "request_failed"]
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
    assert (line["error"], "surprise" in str(line), "exc_info" in line) == (
        "RuntimeError", False, False,
    )  # fmt: skip


async def test_a_failure_of_ours_has_the_shape_of_any_error(world: World) -> None:
    """A client's library reads one shape; and it learns nothing of how we are made."""
    app = make_public(dataclasses.replace(world.parts, clock=broken))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(base_url="http://sidecar", transport=transport) as client:
        reply = await client.post("/v1/feedback", json={"completion_id": "x", "thumb": "up"})

    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
    assert "surprise" not in reply.text
