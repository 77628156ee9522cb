"""What we answer is what our OpenAPI says, whatever is asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import schemathesis

from services.sidecar.app import make_admin
from services.sidecar.proxy import ENDPOINTS
from tests.openapi import CONFIG, probed
from tests.services.asgi import serving
from tests.services.sidecar.stub import ALIAS, HELLO, Said, World, a_world
from tests.services.sidecar.test_entrance import a_key


@asynccontextmanager
async def a_described_world(
    folder: Path,
) -> AsyncIterator[tuple[World, dict[str, str], dict[str, str]]]:
    """Run a sidecar that wants keys; yield it with a key that may do all, and what there is."""
    key = a_key(folder, scopes=("completions", "feedback", "admin"))
    async with a_world(folder, keys_required=True) as world:
        world.stub.says = [Said(), Said(status=404)]
        await world.parts.readiness.look(world.parts.server)
        world.stub.says = [Said(pieces=(b'{"object":"x","model":"base","choices":[]}',))]
        reply = await world.client.post("/v1/chat/completions", json=HELLO, headers=key)
        known = {"completion_id": reply.headers["x-request-id"], "model": ALIAS, "alias": ALIAS}
        yield world, {"Authorization": key["authorization"]}, known


async def test_the_public_listener_answers_as_documented(tmp_path: Path) -> None:
    """A client made from our OpenAPI meets no status and no shape that it does not know."""
    async with a_described_world(tmp_path) as (world, key, known):
        found = (await world.client.get("/openapi.json")).json()
        schema = schemathesis.openapi.from_dict(found, config=CONFIG)
        asked = await asyncio.to_thread(lambda: list(probed(schema, world.url, key, known)))

    assert {line.split()[1] for line in asked} == set(found["paths"])
    assert set(found["paths"]) > set(ENDPOINTS)


async def test_the_admin_listener_answers_as_documented(tmp_path: Path) -> None:
    """The scheduler and every operator's script read it."""
    async with (
        a_described_world(tmp_path) as (world, key, known),
        serving(make_admin(world.parts)) as url,
    ):
        found = make_admin(world.parts).openapi()
        schema = schemathesis.openapi.from_dict(found, config=CONFIG)
        asked = await asyncio.to_thread(lambda: list(probed(schema, url, key, known)))

    assert {line.split()[1] for line in asked} == set(found["paths"])
