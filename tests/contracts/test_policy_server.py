"""What any policy server promises, and what we rely on in vLLM beyond that."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from feedbackloop.errors import AdapterRejected, PolicyServerUnavailable
from feedbackloop.events import ReleaseName
from feedbackloop.promotion.release import Probe
from feedbackloop.serving.memory import MemoryPolicyServer
from feedbackloop.serving.port import PolicyServer
from feedbackloop.serving.proof import Measured, prove
from feedbackloop.serving.vllm import VllmPolicyServer, open_client
from tests.tiny_server import make_adapter, recorded

PROMPT = ({"role": "user", "content": "w1 w2 w3"},)
Make = Callable[..., Path]


@pytest.fixture
async def vllm(vllm_upstream: str) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(vllm_upstream) as client:
        yield client


@pytest.fixture
def adapter(tmp_path: Path) -> Make:
    """Make a good adapter by its seed; ``width=256`` makes one that fits no base."""

    def make(seed: int = 1, **fields: int) -> Path:
        return make_adapter(tmp_path / uuid4().hex, seed=seed, **fields)

    return make


@pytest.fixture
def misfit(adapter: Make, request: pytest.FixtureRequest) -> Path:
    """An adapter that the server must refuse."""
    folder = adapter(width=256)
    if "memory" in request.node.name:
        request.getfixturevalue("memory").refused.add(folder)
    return folder


@pytest.fixture
def memory() -> MemoryPolicyServer:
    return MemoryPolicyServer("tiny")


@pytest.fixture(params=["memory", pytest.param("vllm", marks=pytest.mark.vllm)])
def server(request: pytest.FixtureRequest) -> PolicyServer:
    found = request.getfixturevalue(request.param)
    return VllmPolicyServer(found) if request.param == "vllm" else found


@pytest.fixture
def name() -> ReleaseName:
    """A fresh name: a name is never used for other weights, not even in tests."""
    return ReleaseName(f"tiny-alias.00001.{uuid4().hex[:12]}")


async def test_what_was_loaded_is_served_from_its_folder(
    server: PolicyServer, name: ReleaseName, adapter: Make
) -> None:
    """Name and folder are all that tells whether the right weights are there."""
    folder = adapter()

    await server.load(name, folder)

    assert (await server.loaded())[name] == folder


async def test_loading_twice_is_loading_once(
    server: PolicyServer, name: ReleaseName, adapter: Make
) -> None:
    """A load whose reply was lost is repeated."""
    folder = adapter()

    await server.load(name, folder)
    await server.load(name, folder)

    assert (await server.loaded())[name] == folder


async def test_a_name_is_never_given_to_other_weights(
    server: PolicyServer, name: ReleaseName, adapter: Make
) -> None:
    """vLLM caches prefixes by name: the old ones would be served for the new weights."""
    first = adapter(1)
    await server.load(name, first)

    with pytest.raises(AdapterRejected):
        await server.load(name, adapter(2))

    assert (await server.loaded())[name] == first


async def test_an_adapter_that_does_not_fit_is_rejected_and_harms_nobody(
    server: PolicyServer, name: ReleaseName, adapter: Make, misfit: Path
) -> None:
    """It is the adapter's fault: trying again would push a live one out of the cache."""
    await server.load(name, adapter())
    bad = ReleaseName(f"{name}0")

    with pytest.raises(AdapterRejected):
        await server.load(bad, misfit)

    loaded = await server.loaded()
    assert bad not in loaded
    assert name in loaded


async def test_what_was_unloaded_is_not_served_and_unloading_again_is_no_error(
    server: PolicyServer, name: ReleaseName, adapter: Make
) -> None:
    """An unload whose reply was lost is repeated."""
    await server.load(name, adapter())

    await server.unload(name)
    await server.unload(name)

    assert name not in await server.loaded()


async def test_bases_are_what_is_served_beside_the_adapters(
    server: PolicyServer, name: ReleaseName, adapter: Make
) -> None:
    """Without aliases in the settings each of them is an alias of itself."""
    await server.load(name, adapter())

    assert await server.bases() == ["tiny"]


async def test_the_start_time_stays_while_the_server_runs(server: PolicyServer) -> None:
    """When it changes, everything that was loaded and proven is forgotten."""
    assert await server.started_at() == await server.started_at() > 0


async def test_a_score_is_the_same_every_time(
    server: PolicyServer, name: ReleaseName, adapter: Make
) -> None:
    """A proof must not depend on when it is taken."""
    await server.load(name, adapter())

    first = await server.score(name, PROMPT, "w4 w5", tokens=2)

    assert await server.score(name, PROMPT, "w4 w5", tokens=2) == pytest.approx(first, abs=1e-3)


async def test_a_model_that_is_not_there_has_no_score(
    server: PolicyServer, name: ReleaseName
) -> None:
    """Right after a restart: the base must not be scored in its place."""
    with pytest.raises(PolicyServerUnavailable):
        await server.score(name, PROMPT, "w4", tokens=1)


async def test_nobody_listening_is_unavailable(tmp_path: Path, name: ReleaseName) -> None:
    """It is no fault of the adapter: the load is tried again."""
    async with open_client(f"unix:{tmp_path}/nobody") as client:
        server = VllmPolicyServer(client)

        for call in (server.load(name, tmp_path), server.loaded(), server.started_at()):
            with pytest.raises(PolicyServerUnavailable):
                await call


def chat(model: str, **fields: object) -> dict[str, object]:
    """Make a request that is answered greedily and without an early end."""
    plain = {"model": model, "messages": list(PROMPT), "temperature": 0, "ignore_eos": True}
    return plain | {"max_tokens": 8} | fields


@pytest.mark.vllm
async def test_unloading_in_mid_stream_leaves_the_stream_alone(
    vllm: httpx.AsyncClient, name: ReleaseName, adapter: Make
) -> None:
    """A long answer ends as it would have; only new requests are turned away."""
    await VllmPolicyServer(vllm).load(name, adapter())
    request = chat(name, max_tokens=300)
    whole = (await vllm.post("/v1/chat/completions", json=request)).json()
    text = ""

    async with vllm.stream("POST", "/v1/chat/completions", json=request | {"stream": True}) as one:
        async for line in one.aiter_lines():
            if line.startswith("data: {"):
                if not text:
                    await VllmPolicyServer(vllm).unload(name)
                text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
    after = await vllm.post("/v1/chat/completions", json=request)

    assert text == whole["choices"][0]["message"]["content"]
    assert (after.status_code, after.json()["error"]["param"]) == (404, "model")


@pytest.mark.vllm
async def test_vllm_answers_400_to_a_name_that_is_loaded(
    vllm: httpx.AsyncClient, name: ReleaseName, adapter: Make
) -> None:
    """Its status alone cannot tell a repeated load from a mistake."""
    body = {"lora_name": name, "lora_path": str(adapter())}
    first = await vllm.post("/v1/load_lora_adapter", json=body)

    again = await vllm.post("/v1/load_lora_adapter", json=body)

    assert (first.status_code, again.status_code) == (200, 400)


@pytest.mark.vllm
async def test_vllm_answers_500_to_wrong_shapes_and_stays_well(
    vllm: httpx.AsyncClient, name: ReleaseName, adapter: Make
) -> None:
    """A 500 that means "never again", not "try again"."""
    body = {"lora_name": name, "lora_path": str(adapter(width=256))}

    refused = await vllm.post("/v1/load_lora_adapter", json=body)

    assert refused.status_code == 500
    assert (await vllm.get("/health")).is_success
    assert (await vllm.post("/v1/chat/completions", json=chat("tiny"))).is_success


@pytest.mark.vllm
async def test_vllm_takes_an_adapter_of_a_narrower_base_without_a_word(
    vllm: httpx.AsyncClient, name: ReleaseName, adapter: Make
) -> None:
    """It copies what there is into a part of its slot: only a proof can tell."""
    body = {"lora_name": name, "lora_path": str(adapter(width=64))}

    taken = await vllm.post("/v1/load_lora_adapter", json=body)

    assert taken.status_code == 200


@pytest.mark.vllm
async def test_vllm_answers_under_the_id_that_it_is_given(vllm: httpx.AsyncClient) -> None:
    """The completion id is the receipt: vLLM must not make up its own."""
    headers = {"X-Request-Id": "our-receipt_0"}

    reply = await vllm.post("/v1/chat/completions", json=chat("tiny"), headers=headers)

    assert reply.json()["id"] == "chatcmpl-our-receipt_0"


@pytest.mark.vllm
async def test_the_gates_record_proves_the_adapter_on_vllm_and_no_other(
    vllm: httpx.AsyncClient, name: ReleaseName, adapter: Make, tiny_base: Path
) -> None:
    """Two engines must agree on what a token costs, or nothing could ever be proven."""
    right, wrong = adapter(1), adapter(2)
    probes = await asyncio.to_thread(recorded, tiny_base, right)
    server = VllmPolicyServer(vllm)
    other = ReleaseName(f"{name}0")
    await server.load(name, right)
    await server.load(other, wrong)

    proofs = {
        model: prove([await measured(server, model, p) for p in probes], tolerance=0.1)
        for model in (name, other, "tiny")
    }

    assert proofs[name].proven, proofs[name]
    assert not proofs[other].proven
    assert "not applied" in proofs["tiny"].reason


@pytest.mark.vllm
async def test_proofs_are_taken_while_others_are_answered(
    vllm: httpx.AsyncClient, name: ReleaseName, adapter: Make
) -> None:
    """Asked for the log-probabilities of a prompt, vLLM's engine dies of the company."""
    server = VllmPolicyServer(vllm)
    await server.load(name, adapter(1))
    body = {**chat("tiny"), "max_tokens": 24}

    answers = [vllm.post("/v1/chat/completions", json=body) for _ in range(12)]
    scores = [server.score(name, PROMPT, "w4 w5 w6", tokens=3) for _ in range(4)]
    replies, found = await asyncio.gather(asyncio.gather(*answers), asyncio.gather(*scores))

    assert {reply.status_code for reply in replies} == {200}
    assert max(found) - min(found) < 0.01


async def measured(server: PolicyServer, model: str, probe: Probe) -> Measured:
    """Measure a probe as the sidecar does."""
    args = (probe.prompt, probe.completion)
    return Measured(
        probe=probe,
        logp=await server.score(model, *args, tokens=probe.tokens),
        base_logp=await server.score("tiny", *args, tokens=probe.tokens),
    )
