"""What operators and the scheduler see."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from feedbackloop.events import BASE
from feedbackloop.promotion import changes
from feedbackloop.promotion.release import ReleaseDocument, encode
from services import signing
from services.cli.__main__ import app as command
from services.guard import DENIED
from services.sidecar.app import make_admin
from tests.services.asgi import serving
from tests.services.sidecar.stub import Said, World, a_world
from tests.services.sidecar.test_entrance import a_key
from tests.services.test_converger import Pod


async def test_a_sidecar_before_an_open_vllm_is_not_ready(world: World) -> None:
    """A vLLM that lets anybody load adapters must not be found by traffic."""
    await world.parts.readiness.look(world.parts.server)

    reply = await world.admin.get("/readyz")

    assert reply.status_code == 503
    assert all(path in reply.json()["reasons"][0] for path in DENIED)


async def test_a_sidecar_before_a_guarded_vllm_is_ready(world: World) -> None:
    """Proven once, and again whenever vLLM was away."""
    world.stub.says = [Said(), Said(status=404)]
    await world.parts.readiness.look(world.parts.server)

    reply = await world.admin.get("/readyz")

    assert (reply.status_code, reply.json()["reasons"]) == (200, [])


async def test_a_sidecar_without_vllm_says_so(tmp_path: Path) -> None:
    """The reason is for a person who has just been woken up."""
    async with a_world(tmp_path, up=False) as world:
        await world.parts.readiness.look(world.parts.server)

        reply = await world.admin.get("/readyz")

    assert reply.json()["reasons"] == ["the model server cannot be reached"]


async def test_a_draining_sidecar_wants_no_more_traffic(world: World) -> None:
    """Kubernetes stops sending before the process stops answering."""
    drained = await world.admin.post("/v1/drain")

    ready = await world.admin.get("/readyz")

    assert drained.json() == {"draining": True, "in_flight": 0}
    assert "draining" in ready.json()["reasons"]


async def test_releases_are_reported_in_the_shape_that_the_scheduler_reads(world: World) -> None:
    """It learns here how far each replica is."""
    reply = await world.admin.get("/v1/releases")

    found = reply.json()["aliases"]["assistant"]
    assert (found["epoch"], found["stable"], found["canary"]) == (0, BASE, None)
    assert found["releases"] == {"base": {"state": "serving", "in_flight": 0, "reason": None}}


async def test_metrics_are_ours_and_vllms(world: World) -> None:
    """One scrape for the pod; what Python says of vLLM's process would collide with ours."""
    text = b"# HELP vllm:x X\nvllm:x 1\npython_info 1\n"
    world.stub.says = [Said(kind="text/plain", pieces=(text,))]

    reply = await world.admin.get("/metrics")

    assert "feedbackloop_capture_late_total" in reply.text
    assert ("vllm:x 1" in reply.text, "python_info 1\n" in reply.text) == (True, False)


async def test_the_admin_routes_are_not_on_the_public_listener(world: World) -> None:
    """Metrics and drains are for the house."""
    reply = await world.client.post("/v1/drain")

    assert reply.status_code == 404


@asynccontextmanager
async def a_pod(folder: Path) -> AsyncIterator[tuple[Pod, str, dict[str, str]]]:
    """Run a sidecar that has promoted twice; yield it, its admin address and an admin's key."""
    key = a_key(folder, scopes=("admin",))
    pod = Pod(folder)
    await pod.promote("1")
    await pod.promote("2")
    async with a_world(folder, keys_required=True) as world:
        admin = make_admin(dataclasses.replace(world.parts, convergence=pod.converger))
        async with serving(admin) as url:
            yield pod, url, key


async def test_a_signed_document_is_followed(tmp_path: Path) -> None:
    """The way back needs one sidecar, one key and one signature."""
    async with a_pod(tmp_path) as (pod, url, key), httpx.AsyncClient(base_url=url) as client:
        back = changes.rollback(pod.document, by="operator")
        assert isinstance(back, ReleaseDocument)
        body = {"signed": signing.sign(tmp_path, encode(back))}
        first = await client.put("/v1/releases", json=body, headers=key)
        again = await client.put("/v1/releases", json=body, headers=key)
        await pod.converger.converge()

    assert (first.status_code, first.json()) == (200, {"alias": "assistant", "epoch": back.epoch})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "release_refused")
    assert pod.router.stable() == back.stable.name


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"signed": "e30.e30.e30"}, 403, "signed"),
        ({"signed": 7}, 422, "signed"),
        ({}, 422, "signed"),
        ({"signed": "x", "force": True}, 422, "force"),
    ],
)
async def test_what_is_not_signed_is_not_followed(
    tmp_path: Path, body: dict[str, Any], status: int, param: str
) -> None:
    """A key with the scope admin is not enough to choose what people are answered."""
    async with a_pod(tmp_path) as (pod, url, key), httpx.AsyncClient(base_url=url) as client:
        signing.sign(tmp_path, b"")
        before = pod.converger.documents()
        reply = await client.put("/v1/releases", json=body, headers=key)

    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)
    assert pod.converger.documents() == before


async def test_a_signature_over_nonsense_is_named(tmp_path: Path) -> None:
    """The operator signed the wrong file."""
    async with a_pod(tmp_path) as (_, url, key), httpx.AsyncClient(base_url=url) as client:
        signed = signing.sign(tmp_path, b'{"alias": 7}')
        reply = await client.put("/v1/releases", json={"signed": signed}, headers=key)

    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "invalid_release")


async def test_a_feedback_key_changes_nothing(tmp_path: Path) -> None:
    """It is in apps, and may be in the hands of anybody."""
    voter = a_key(tmp_path, scopes=("completions", "feedback"))
    async with a_pod(tmp_path) as (_, url, _), httpx.AsyncClient(base_url=url) as client:
        statuses = [
            (await client.put("/v1/releases", json={}, headers=who)).status_code
            for who in ({}, voter)
        ]
        drained = await client.post("/v1/drain", headers=voter)

    assert (statuses, drained.status_code) == ([401, 403], 403)


async def test_one_command_rolls_back_without_scheduler_log_and_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At night, with nothing else alive."""
    async with a_pod(tmp_path) as (pod, url, key):
        first, second = pod.document.previous, pod.document.stable
        monkeypatch.setenv("FEEDBACKLOOP_HOME", str(tmp_path))
        monkeypatch.setenv("FEEDBACKLOOP_SCHEDULER__SIDECARS", json.dumps([url]))
        monkeypatch.setenv("FEEDBACKLOOP_KEYS__ADMIN", key["authorization"].split()[1])
        call = ["release", "rollback", "assistant", "--directly", "--wait", "0", "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, command, call)
        again = await asyncio.to_thread(CliRunner().invoke, command, call)
        await pod.converger.converge()

    assert result.exit_code == 0, result.output
    assert first is not None
    assert pod.router.stable() == first.name
    shown = json.loads(result.stdout[result.stdout.index("{") :])
    assert second.digest in shown["document"]["quarantined"]
    assert again.exit_code == 1
