"""The completion path, over HTTP, before a model server that fails in every way."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from feedbackloop.capture.record import Closed, Opened
from feedbackloop.errors import LogUnavailable
from feedbackloop.events import BASE, Outcome, ReleaseName
from feedbackloop.log.memory import MemorySpool
from feedbackloop.serving.routing import Routes, Served
from tests.services.sidecar.stub import (
    ALIAS,
    DONE,
    HELLO,
    Said,
    World,
    a_chunk,
    a_stream,
    a_world,
)

CHAT = "/v1/chat/completions"
ONE = Served(release=ReleaseName("assistant.00001.aaaaaaaaaaaa"), seq=1, model="assistant.00001")
LOST = Said(status=404, pieces=(b'{"error":{"message":"no `assistant.00001`","param":"model"}}',))


class BrokenSpool(MemorySpool):
    """A spool with a bug."""

    def offer(self, payload: bytes, **how: Any) -> None:
        raise RuntimeError(len(payload), how)

    def offer_all(self, payloads: Sequence[bytes], **how: Any) -> None:
        raise RuntimeError(len(payloads), how)


class SilentSpool(MemorySpool):
    """A spool whose disk is frozen: it never says whether anything was written."""

    def offer(
        self,
        payload: bytes,
        *,
        durable: bool,
        written: Callable[[Exception | None], None] | None = None,
    ) -> None:
        del written
        super().offer(payload, durable=durable)

    def offer_all(
        self,
        payloads: Sequence[bytes],
        *,
        written: Callable[[Sequence[Exception | None]], None],
    ) -> None:
        del written
        super().offer_all(payloads, written=lambda _: None)


def closed(world: World) -> Closed:
    (record,) = [one for one in world.records() if isinstance(one, Closed)]
    return record


async def test_a_whole_reply_passes_byte_for_byte_but_for_the_model(world: World) -> None:
    """Fields that we have never heard of must survive us."""
    world.stub.says = [Said(pieces=(b'{"id": "x", "model":"base",', b' "new": {"model":"base"} }'))]

    reply = await world.client.post(CHAT, json=HELLO)

    assert reply.content == b'{"id": "x", "model":"assistant", "new": {"model":"base"} }'
    assert reply.headers["x-feedbackloop-release"] == "base"
    assert (reply.headers["x-kept"], "x-hop" in reply.headers) == ("1", False)


async def test_a_request_passes_byte_for_byte_but_for_the_model(world: World) -> None:
    """Neither order nor spaces nor unknown fields are ours; the client's key stays with us."""
    body = b'{ "messages": [{"role":"user","content":"\\u00e9"}], "model":"assistant", "new":1.0 }'
    headers = {"content-type": "application/json", "authorization": "Bearer secret", "cookie": "c"}

    reply = await world.client.post(CHAT, content=body, headers=headers)

    (path, head, sent) = world.stub.requests[0]
    assert (path, sent) == (CHAT.encode(), body.replace(b"assistant", b"base"))
    assert b"secret" not in head
    assert b"cookie" not in head.lower()
    receipt = reply.headers["x-request-id"].removeprefix("chatcmpl-")
    named = [line for line in head.split(b"\r\n") if line.lower().startswith(b"x-request-id:")]
    assert [line.partition(b":")[2].strip() for line in named] == [receipt.encode()]


async def test_a_stream_passes_and_is_recorded_as_it_came(world: World) -> None:
    """The record holds vLLM's bytes; the client gets its own model name."""
    world.stub.says = [a_stream(a_chunk("a")[:9], a_chunk("a")[9:] + a_chunk("b"), DONE)]

    reply = await world.client.post(CHAT, json={**HELLO, "stream": True})

    opened = world.records()[0]
    record = closed(world)
    assert reply.content == a_chunk("a", "assistant") + a_chunk("b", "assistant") + DONE
    assert isinstance(opened, Opened)
    assert opened.completion_id == record.completion_id == reply.headers["x-request-id"]
    assert (record.body, record.outcome) == (a_chunk("a") + a_chunk("b") + DONE, Outcome.COMPLETE)
    assert world.parts.router.counts() == {}


async def test_chunks_pass_on_before_the_reply_is_complete(world: World) -> None:
    """A stream is for reading along."""
    gate = asyncio.Event()
    world.stub.says = [a_stream(a_chunk("a"), a_chunk("b") + DONE, gate=gate)]

    async with world.client.stream("POST", CHAT, json={**HELLO, "stream": True}) as reply:
        pieces = reply.aiter_bytes()
        first = await anext(pieces)
        gate.set()
        rest = b"".join([piece async for piece in pieces])

    assert first == a_chunk("a", "assistant")
    assert rest == a_chunk("b", "assistant") + DONE


async def test_the_record_is_there_before_the_client_sees_the_end(tmp_path: Path) -> None:
    """Whoever saw the end may vote, and a SIGKILL then must not lose what the vote is about."""
    async with a_world(tmp_path, spool=SilentSpool(), wait_seconds=600) as world:
        world.stub.says = [a_stream(a_chunk("a"), DONE)]

        async with world.client.stream("POST", CHAT, json={**HELLO, "stream": True}) as reply:
            first = await anext(pieces := reply.aiter_bytes())
            ending = asyncio.ensure_future(anext(pieces))
            await asyncio.wait({ending}, timeout=0.05)
            waited = not ending.done()
            ending.cancel()

    assert first == a_chunk("a", "assistant")
    assert waited


@pytest.mark.parametrize("spool", [BrokenSpool(), SilentSpool()])
async def test_a_spool_that_fails_harms_no_answer(tmp_path: Path, spool: MemorySpool) -> None:
    """The log can be full, dead or frozen; people get their answers."""
    async with a_world(tmp_path, spool=spool, wait_seconds=0.01) as world:
        world.stub.says = [Said(pieces=(b'{"model":"base"}',)), a_stream(a_chunk("a"), DONE)]

        whole = await world.client.post(CHAT, json=HELLO)
        stream = await world.client.post(CHAT, json={**HELLO, "stream": True})

    assert whole.json() == {"model": "assistant"}
    assert stream.content.endswith(DONE)


async def test_a_full_spool_harms_no_answer(world: World) -> None:
    """What does not fit is shed, and counted there."""
    assert isinstance(world.spool, MemorySpool)
    world.spool.refusing = True

    reply = await world.client.post(CHAT, json=HELLO)

    assert reply.status_code == 200


async def test_a_client_that_leaves_stops_vllm_and_is_recorded(world: World) -> None:
    """Tokens that nobody reads cost as much; and stopping in mid-stream is a signal."""
    gate = asyncio.Event()
    world.stub.says = [a_stream(a_chunk("a"), DONE, gate=gate)]

    async with world.client.stream("POST", CHAT, json={**HELLO, "stream": True}) as reply:
        await anext(reply.aiter_bytes())
    await world.stub.gone.wait()

    record = closed(world)
    assert (record.outcome, record.body) == (Outcome.CLIENT_GONE, a_chunk("a"))
    assert world.parts.router.counts() == {}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b"\xff\xfe", 400, None),
        (b'{"messages":[]}', 400, "model"),
        (b'{"model":7,"messages":[]}', 400, "model"),
        (b'{"model":"assistant"}', 400, "messages"),
        (b'{"model":"assistant","messages":{}}', 400, "messages"),
        (b'{"model":"assistant","messages":[],"user":1}', 400, "user"),
        (b'{"model":"nobody","messages":[]}', 404, "model"),
        (b'{"model":"base","messages":[]}', 404, "model"),
    ],
)
async def test_a_bad_request_is_refused_and_leaves_no_trace(
    world: World, body: bytes, status: int, param: str | None
) -> None:
    """A client that erred learns which field, from a body that its library can read."""
    headers = {"content-type": "application/json"}

    reply = await world.client.post(CHAT, content=body, headers=headers)

    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert (world.records(), world.stub.requests) == ([], [])


@pytest.mark.parametrize(
    ("path", "asked", "param"),
    [
        (CHAT, {**HELLO, "prompt_logprobs": 0}, "prompt_logprobs"),
        ("/v1/completions", {"prompt": "a", "echo": True, "logprobs": 1}, "echo"),
    ],
)
async def test_what_would_kill_vllm_does_not_reach_it(
    world: World, path: str, asked: dict[str, object], param: str
) -> None:
    """With adapters its engine dies of this question as soon as it answers somebody else, too."""
    reply = await world.client.post(path, json={"model": "assistant", **asked})

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert world.stub.requests == []


@pytest.mark.parametrize("asked", [{"echo": True}, {"logprobs": 1}, {"prompt_logprobs": None}])
async def test_what_is_harmless_passes(world: World, asked: dict[str, object]) -> None:
    """Only a question about the prompt's own log-probabilities is refused."""
    body = {"model": "assistant", "prompt": "a", **asked}

    reply = await world.client.post("/v1/completions", json=body)

    assert reply.status_code == 200


async def test_another_content_type_is_refused(world: World) -> None:
    """A form that a browser sends across sites is not JSON."""
    reply = await world.client.post(CHAT, content=b"{}", headers={"content-type": "text/plain"})

    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_content_type")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large_is_refused(world: World, *, declared: bool) -> None:
    """Whether its length is declared or not, it never fills our memory."""
    size = world.parts.max_body_bytes + 1

    async def pieces() -> Any:
        yield b" " * size

    reply = await world.client.post(
        CHAT,
        content=b" " * size if declared else pieces(),
        headers={"content-type": "application/json"},
    )

    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "body_too_large")


async def test_without_a_key_nobody_is_answered(tmp_path: Path) -> None:
    """The refusal has the shape that OpenAI's libraries turn into an error of their own."""
    async with a_world(tmp_path, keys_required=True) as world:
        reply = await world.client.post(CHAT, json=HELLO)

    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/adapters", "/v1/load_lora_adapter", "/tokenize", "/v1/../x"])
async def test_other_routes_of_vllm_do_not_exist_here(world: World, path: str) -> None:
    """Whoever could load an adapter could speak for everybody's model."""
    reply = await world.client.post(path, json={})

    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
    assert world.stub.requests == []


async def test_an_upstream_that_is_away_is_a_503(tmp_path: Path) -> None:
    """Clients retry that by themselves, if it looks like OpenAI's."""
    async with a_world(tmp_path, up=False) as world:
        reply = await world.client.post(CHAT, json=HELLO)

    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "upstream_unreachable")
    assert (reply.headers["retry-after"], closed(world).outcome) == ("1", Outcome.UPSTREAM_FAILED)


async def test_a_failure_of_vllm_is_a_502_in_our_words(world: World) -> None:
    """Its own words may name paths of the machine."""
    world.stub.says = [Said(status=500, pieces=(b"Traceback /models/secret",))]

    reply = await world.client.post(CHAT, json=HELLO)

    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_failed")
    assert "secret" not in reply.text


async def test_a_refusal_of_vllm_passes_under_the_name_that_the_client_knows(world: World) -> None:
    """vLLM knows best what is wrong with a request."""
    said = b'{"error":{"message":"base: too long","type":"x","param":"messages","code":400}}'
    world.stub.says = [Said(status=400, pieces=(said,))]

    reply = await world.client.post(CHAT, json=HELLO)

    assert (reply.status_code, reply.content) == (400, said.replace(b"base", b"assistant"))


async def test_a_stream_that_breaks_off_ends_in_an_error(world: World) -> None:
    """Half an answer that looks whole is worse than none."""
    world.stub.says = [a_stream(a_chunk("a"), cut=True)]

    reply = await world.client.post(CHAT, json={**HELLO, "stream": True})

    events = [event for event in reply.content.split(b"\n\n") if event]
    assert events[0] + b"\n\n" == a_chunk("a", "assistant")
    assert json.loads(events[-1].removeprefix(b"data: "))["error"]["code"] == "upstream_broken"
    assert closed(world).outcome is Outcome.UPSTREAM_FAILED


async def test_a_release_that_vllm_lost_is_answered_by_the_base(world: World) -> None:
    """vLLM forgets adapters when it restarts; the person who asks should not notice."""
    lost: list[ReleaseName] = []
    world.parts.router.on_lost = lost.append
    world.parts.router.set({ALIAS: Routes(alias=ALIAS, epoch=3, stable=ONE)})
    world.stub.says = [LOST, Said(pieces=(b'{"model":"base"}',))]

    reply = await world.client.post(CHAT, json=HELLO)

    opened, record = world.records()
    assert isinstance(opened, Opened)
    assert isinstance(record, Closed)
    assert (reply.json(), reply.headers["x-feedbackloop-release"]) == ({"model": "assistant"}, BASE)
    assert (opened.assigned, record.release, lost) == (ONE.release, BASE, [ONE.release])


async def test_embeddings_pass_on_and_are_not_recorded(world: World) -> None:
    """An app that moves over needs its other routes, too."""
    world.stub.says = [Said(pieces=(b'{"model":"base","data":[]}',))]

    reply = await world.client.post("/v1/embeddings", json={"model": "assistant", "input": "x"})

    assert reply.json() == {"model": "assistant", "data": []}
    assert (world.stub.requests[0][2], world.records()) == (b'{"model":"base","input":"x"}', [])


async def test_a_shed_record_is_known_to_the_spool_alone() -> None:
    """The error that a spool reports is a value to us, not an exception."""
    spool = MemorySpool()
    spool.refusing = True
    errors: list[Exception | None] = []

    spool.offer(b"x", durable=False, written=errors.append)

    assert isinstance(errors[0], LogUnavailable)


EVERYTHING = {
    "model": "assistant",
    "stream": True,
    "stream_options": {"include_usage": True},
    "n": 2,
    "logprobs": True,
    "top_logprobs": 2,
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"model": "base"}}}],
    "reasoning_effort": "low",
    "chat_template_kwargs": {"enable_thinking": False},
    "a_field_of_next_year": {"model": "assistant", "x": [1.50, None]},
    "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": 'what is "model":"assistant"?'},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]},
    ],
}  # fmt: skip
PIECES = (
    b'data: {"id":"x","model":"base","choices":[{"index":1,"delta":{"reasoning":"hm"}}]}\n\n',
    (
        b'data: {"id":"x","model":"base","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,'
        b'"id":"c","type":"function","function":{"name":"f","arguments":"{\\"model\\":\\"base\\"}"}}]},'
        b'"logprobs":{"content":[{"token":"a","logprob":-0.10,"top_logprobs":[]}]}}]}\n\n'
    ),
    b": a comment\n\n",
    b'data: {"id":"x","model":"base","choices":[],"usage":{"prompt_tokens":1}}\n\n',
    b'data: {"id":"x","a_field_of_next_year":{"model":"base"},"choices":[]}\n\n',
)


async def test_whatever_openai_and_vllm_know_passes_as_it_is(world: World) -> None:
    """Only the value of ``model`` is ours, in what is asked and in what is answered."""
    world.stub.says = [a_stream(*PIECES, DONE)]
    asked = json.dumps(EVERYTHING).encode()

    reply = await world.client.post(
        CHAT, content=asked, headers={"content-type": "application/json"}
    )

    sent = world.stub.requests[0][2]
    assert sent == asked.replace(b'"model": "assistant"', b'"model": "base"', 1)
    ours = b"".join(PIECES).replace(b'"id":"x","model":"base"', b'"id":"x","model":"assistant"')
    assert reply.content == ours + DONE
    assert closed(world).body == b"".join(PIECES) + DONE
