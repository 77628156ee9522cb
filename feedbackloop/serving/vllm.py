"""The policy server on vLLM's runtime LoRA endpoints, spoken to over its socket.

vLLM's statuses mean little here: 400 for a name that is loaded is the success of a repeated call,
500 is usually a bad adapter and no fault of the server. So a refusal is read from what the server
says it serves, and from whether it is well.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from feedbackloop.errors import AdapterRejected, PolicyServerUnavailable
from feedbackloop.events import JsonObject, ReleaseName

_STARTED = re.compile(rb"^process_start_time_seconds\S* (\S+)$", re.MULTILINE)
_LOAD_SECONDS = 120.0
_AT_A_TIME = 8
"""Tokens of a probe that are asked for at once: they share its prefix in vLLM's cache."""


def open_client(upstream: str) -> httpx.AsyncClient:
    """Make a client for ``unix:/path/to.sock`` or ``http://host:port``."""
    if upstream.startswith("unix:"):
        transport = httpx.AsyncHTTPTransport(uds=upstream.removeprefix("unix:"))
        return httpx.AsyncClient(transport=transport, base_url="http://vllm", timeout=30)
    return httpx.AsyncClient(base_url=upstream, timeout=30, trust_env=False)


class VllmPolicyServer:
    """One vLLM process, reached over HTTP."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def load(self, release: ReleaseName, weights: Path) -> None:
        known = (await self.loaded()).get(release)
        if known is not None:
            self._same(release, known, weights)
            return
        # Never ``load_inplace``: vLLM would read the files again at every step.
        body = {"lora_name": release, "lora_path": str(weights)}
        response = await self._ask(
            "POST", "/v1/load_lora_adapter", json=body, timeout=_LOAD_SECONDS
        )
        known = (await self.loaded()).get(release)
        if known is not None:
            self._same(release, known, weights)
            return
        # vLLM answers 500 to a bad adapter too: ask whether it is well itself.
        health = await self._ask("GET", "/health")
        if not health.is_success:
            raise PolicyServerUnavailable(f"vLLM's health is {health.status_code}")
        raise AdapterRejected(release, f"vLLM refuses it: {_message(response)}")

    async def unload(self, release: ReleaseName) -> None:
        await self._ask("POST", "/v1/unload_lora_adapter", json={"lora_name": release})
        if release in await self.loaded():
            raise PolicyServerUnavailable(f"vLLM still serves {release}")

    async def loaded(self) -> Mapping[ReleaseName, Path]:
        models = await self._models()
        return {ReleaseName(one["id"]): Path(one["root"]) for one in models if one.get("parent")}

    async def bases(self) -> Sequence[str]:
        return [str(one["id"]) for one in await self._models() if not one.get("parent")]

    async def started_at(self) -> float:
        response = self._good(await self._ask("GET", "/metrics"))
        found = _STARTED.search(response.content)
        if found is None:
            raise PolicyServerUnavailable("vLLM's metrics do not say when it started")
        return float(found.group(1))

    async def score(
        self, model: str, prompt: Sequence[JsonObject], completion: str, *, tokens: int
    ) -> float:
        asked = await self._tokens({"messages": list(prompt), "add_generation_prompt": True}, model)
        said = await self._tokens({"prompt": completion, "add_special_tokens": False}, model)
        if len(said) != tokens:
            raise AdapterRejected(
                model, f"a probe has {len(said)} tokens here and had {tokens} at the gate"
            )
        whole = [*asked, *said]
        turns = asyncio.Semaphore(_AT_A_TIME)

        async def next_logp(place: int) -> float:
            async with turns:
                return await self._next_logp(model, whole[:place], whole[place])

        places = range(len(asked), len(whole))
        return sum(await asyncio.gather(*(next_logp(place) for place in places)))

    async def close(self) -> None:
        """Release the connections."""
        await self._client.aclose()

    async def _next_logp(self, model: str, before: Sequence[int], token: int) -> float:
        """Let vLLM go on with one given token, and say how likely that was to it.

        Never by ``prompt_logprobs``: with adapters the engine dies of it as soon as it answers
        others at the same time (vllm-project/vllm#16668). The log-probability is the raw one,
        before the choice of tokens is narrowed.
        """
        body = {
            "model": model,
            "prompt": list(before),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 0,
            "allowed_token_ids": [token],
        }
        response = self._good(await self._ask("POST", "/v1/completions", json=body))
        (logp,) = response.json()["choices"][0]["logprobs"]["token_logprobs"]
        return float(logp)

    async def _tokens(self, what: JsonObject, model: str) -> list[int]:
        response = self._good(await self._ask("POST", "/tokenize", json={"model": model, **what}))
        tokens: list[int] = response.json()["tokens"]
        return tokens

    async def _models(self) -> list[JsonObject]:
        response = self._good(await self._ask("GET", "/v1/models"))
        models: list[JsonObject] = response.json()["data"]
        return models

    async def _ask(self, method: str, path: str, **rest: Any) -> httpx.Response:  # noqa: ANN401  # httpx's own
        try:
            return await self._client.request(method, path, **rest)
        except httpx.TransportError as error:
            raise PolicyServerUnavailable(f"vLLM does not answer: {error!r}") from error

    @staticmethod
    def _good(response: httpx.Response) -> httpx.Response:
        if not response.is_success:
            raise PolicyServerUnavailable(f"{response.request.url.path}: {_message(response)}")
        return response

    @staticmethod
    def _same(release: ReleaseName, known: Path, weights: Path) -> None:
        """Refuse a name that stands for other weights: vLLM caches prefixes by name."""
        if known != weights:
            raise AdapterRejected(release, f"is loaded from {known}, not from {weights}")


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.text[:200]}"
