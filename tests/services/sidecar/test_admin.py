"""What operators and the scheduler see."""

from pathlib import Path

from feedbackloop.events import BASE
from services.guard import DENIED
from tests.services.sidecar.stub import Said, World, a_world


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
