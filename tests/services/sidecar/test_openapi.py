"""What we answer is what our OpenAPI says, whatever is asked."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi import checks

from services.sidecar.app import make_admin
from services.sidecar.proxy import ENDPOINTS
from tests.services.asgi import serving
from tests.services.sidecar.stub import HELLO, Said, World, a_world
from tests.services.sidecar.test_entrance import a_key

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
    checks.allow_header_conformance,
    checks.negative_data_rejection,
    checks.ignored_auth,
]
EXAMPLES = 15
CONFIG = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": ["4xx"]}}}
)


@asynccontextmanager
async def a_described_world(folder: Path) -> AsyncIterator[tuple[World, dict[str, str], str]]:
    """Run a sidecar that wants keys; yield it with a key that may do all, and a completion id."""
    key = a_key(folder, scopes=("completions", "feedback", "admin"))
    async with a_world(folder, keys_required=True) as world:
        world.stub.says = [Said(), Said(status=404)]
        await world.parts.readiness.look(world.parts.server)
        world.stub.says = [Said(pieces=(b'{"object":"x","model":"base","choices":[]}',))]
        reply = await world.client.post("/v1/chat/completions", json=HELLO, headers=key)
        yield world, {"Authorization": key["authorization"]}, reply.headers["x-request-id"]


def with_id(case: Any, name: str) -> Any:
    """Let a request be about a completion that there is."""
    case.path_parameters = dict.fromkeys(case.path_parameters or {}, name)
    items = case.body.get("items", [case.body]) if isinstance(case.body, dict) else []
    for item in items:
        if isinstance(item, dict) and "completion_id" in item:
            item["completion_id"] = name
    return case


def probed(schema: BaseSchema, url: str, key: dict[str, str], name: str) -> Iterator[str]:
    """Ask every route in all kinds of ways, right and wrong; yield what was asked."""
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        good = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        bad = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

        @given(st.one_of(good.map(lambda case: with_id(case, name)), good, bad))
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Any) -> None:
            case.call_and_validate(base_url=url, headers=key, checks=CHECKS)

        ask()
        yield f"{operation.method} {operation.path}"


async def test_the_public_listener_answers_as_documented(tmp_path: Path) -> None:
    """A client made from our OpenAPI meets no status and no shape that it does not know."""
    async with a_described_world(tmp_path) as (world, key, name):
        found = (await world.client.get("/openapi.json")).json()
        schema = schemathesis.openapi.from_dict(found, config=CONFIG)
        asked = await asyncio.to_thread(lambda: list(probed(schema, world.url, key, name)))

    assert {line.split()[1] for line in asked} == set(found["paths"])
    assert set(found["paths"]) > set(ENDPOINTS)


async def test_the_admin_listener_answers_as_documented(tmp_path: Path) -> None:
    """The scheduler and every operator's script read it."""
    async with (
        a_described_world(tmp_path) as (world, key, name),
        serving(make_admin(world.parts)) as url,
    ):
        found = make_admin(world.parts).openapi()
        schema = schemathesis.openapi.from_dict(found, config=CONFIG)
        asked = await asyncio.to_thread(lambda: list(probed(schema, url, key, name)))

    assert {line.split()[1] for line in asked} == set(found["paths"])
