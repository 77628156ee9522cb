"""A release goes live and back on a real vLLM, while people ask."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from feedbackloop.events import BASE, Alias, ReleaseName
from feedbackloop.log.port import ReleaseTopic
from feedbackloop.promotion.changes import next_release, promote, rollback, stage, widen
from feedbackloop.promotion.release import ReleaseDocument, encode
from feedbackloop.serving.vllm import VllmPolicyServer, open_client
from services import wiring
from services.settings import Settings
from tests.services.sidecar.test_process import a_sidecar
from tests.tiny_server import make_adapter, recorded

pytestmark = pytest.mark.vllm
ALIAS = Alias("assistant")
WORDS = [f"w{number} w{2 * number} w3" for number in range(20, 36)]
PATIENCE_SECONDS = 120


class Heard(NamedTuple):
    """One reply: whose it claims to be, and what it says."""

    asked: str
    release: str
    text: str


class People:
    """Sixteen who ask all the time, each his own question, half of them streams."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.heard: list[Heard] = []
        self.refused: list[int] = []

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._keep_asking(n)) for n in range(len(WORDS))]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def hear(self, release: str) -> None:
        """Wait until every one of them was answered by a release, anew."""
        begun = len(self.heard)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self._all_heard(release, since=begun):  # noqa: ASYNC110  # it comes in pieces
                await asyncio.sleep(0.1)

    async def hear_both(self, one: str, other: str) -> None:
        """Wait until either of two releases has answered as often as there are people."""
        begun = len(self.heard)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not all(  # noqa: ASYNC110  # it comes in pieces
                sum(heard.release == name for heard in self.heard[begun:]) >= len(WORDS)
                for name in (one, other)
            ):
                await asyncio.sleep(0.1)

    def _all_heard(self, release: str, *, since: int) -> bool:
        return {one.asked for one in self.heard[since:] if one.release == release} == set(WORDS)

    async def _keep_asking(self, number: int) -> None:
        for turn in count():
            # Always somebody new: who has begun a conversation stays with its release.
            asked = request(ALIAS, WORDS[number]) | {"user": f"user-{number}-{turn}"}
            if (number + turn) % 2:
                asked["stream"] = True
            reply = await self._client.post("/v1/chat/completions", json=asked)
            if reply.status_code != 200:
                self.refused.append(reply.status_code)
                continue
            release = reply.headers["x-feedbackloop-release"]
            self.heard.append(Heard(WORDS[number], release, spoken(reply)))


def request(model: str, words: str) -> dict[str, object]:
    messages = [{"role": "user", "content": words}]
    plain = {"model": model, "messages": messages, "temperature": 0, "ignore_eos": True}
    return plain | {"max_tokens": 8}


def spoken(reply: httpx.Response) -> str:
    """Return a reply's text, whole or streamed."""
    if reply.headers["content-type"].startswith("application/json"):
        text: str = reply.json()["choices"][0]["message"]["content"]
        return text
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
    return "".join(json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines)


async def words_of(upstream: str, model: str) -> dict[str, str]:
    """Ask vLLM itself what a release says."""
    async with open_client(upstream) as vllm:
        said = {}
        for words in WORDS:
            said[words] = spoken(
                await vllm.post("/v1/chat/completions", json=request(model, words))
            )
        return said


def published(topic: ReleaseTopic) -> Callable[[object], Awaitable[ReleaseDocument]]:
    """Publish a change as the scheduler does; it must have been allowed."""

    async def publish(changed: object) -> ReleaseDocument:
        assert isinstance(changed, ReleaseDocument), changed
        await topic.publish(ALIAS, encode(changed), epoch=changed.epoch)
        return changed

    return publish


async def fill_slots(upstream: str, folder: Path) -> None:
    """Put weights into every slot that vLLM has: no reply may get any of them."""
    async with open_client(upstream) as vllm:
        server = VllmPolicyServer(vllm)
        for seed in range(Settings().vllm.max_loras):
            name = ReleaseName(f"others.{seed:05d}.{folder.name}")
            await server.load(name, make_adapter(folder / f"other-{seed}", seed=50 + seed))
            await server.unload(name)


async def test_a_release_goes_live_and_back_and_nobody_is_refused(
    tmp_path: Path, vllm_upstream: str, tiny_base: Path
) -> None:
    """The promise of the whole: each reply is by the release that it names, at every moment."""
    await fill_slots(vllm_upstream, tmp_path)
    settings = Settings(home=tmp_path / "home")
    adapters = wiring.open_adapters(settings)
    digest = adapters.put(make_adapter(tmp_path / "adapter", seed=11))
    probes = await asyncio.to_thread(recorded, tiny_base, adapters.path(digest))
    publish = published(wiring.open_release_topic(settings, partition="scheduler"))
    document = ReleaseDocument(alias=ALIAS)
    release = next_release(document, digest=digest, probes=probes)
    changed = {
        "SIDECAR__UPSTREAM": vllm_upstream,
        "SIDECAR__UPSTREAM_GUARD": "required",
        "SIDECAR__CONVERGE_SECONDS": "0.2",
        "ALIASES__ASSISTANT__BASE": "tiny",
    }

    async with (
        a_sidecar(tmp_path, **changed) as (_, client, _),
        httpx.AsyncClient(
            base_url=client.base_url, timeout=PATIENCE_SECONDS, trust_env=False
        ) as patient,
    ):
        people = People(patient)
        async with people.asking():
            await people.hear(BASE)
            staged = await publish(stage(document, release, salt="s", by="test"))
            shared = await publish(widen(staged, share=0.5, by="test"))
            await people.hear_both(BASE, release.name)
            promoted = await publish(promote(shared, by="test"))
            await people.hear(release.name)
            says: dict[str, dict[str, str]] = {
                BASE: await words_of(vllm_upstream, "tiny"),
                release.name: await words_of(vllm_upstream, release.name),
            }
            await publish(rollback(promoted, by="test"))
            await people.hear(BASE)

    assert people.refused == []
    assert all(says[BASE][words] != says[release.name][words] for words in WORDS)
    assert [one for one in people.heard if one.text != says[one.release][one.asked]] == []
