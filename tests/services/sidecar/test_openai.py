"""The official client, unchanged."""

import asyncio
import json

import pytest
from openai import AsyncOpenAI, NotFoundError
from openai.types.chat import ChatCompletionMessageParam

from tests.services.sidecar.stub import DONE, Said, World, a_chunk, a_stream

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
WHOLE = (
    b'{"id":"chatcmpl-x","object":"chat.completion","created":1,"model":"base","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"hi"},"finish_reason":"stop","logprobs":null}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)


@pytest.fixture
def openai(world: World) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0)


async def test_a_whole_reply_reads_well(world: World, openai: AsyncOpenAI) -> None:
    """Changing the base URL is all that an app has to do."""
    world.stub.says = [Said(pieces=(WHOLE,))]

    async with openai:
        reply = await openai.chat.completions.create(model="assistant", messages=MESSAGES)

    assert (reply.model, reply.choices[0].message.content) == ("assistant", "hi")


async def test_a_stream_reads_well(world: World, openai: AsyncOpenAI) -> None:
    """Chunk by chunk."""
    world.stub.says = [a_stream(a_chunk("a") + a_chunk("b"), DONE)]

    async with openai:
        stream = await openai.chat.completions.create(
            model="assistant",
            messages=MESSAGES,
            stream=True,
        )
        chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "ab"
    assert {chunk.model for chunk in chunks} == {"assistant"}


async def test_an_error_reads_well(openai: AsyncOpenAI) -> None:
    """The client turns our body into its own exception."""
    async with openai:
        with pytest.raises(NotFoundError) as caught:
            await openai.chat.completions.create(model="nobody", messages=MESSAGES)

    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("asked_first", [True, False])
async def test_curl_shows_a_stream_as_it_comes(world: World, *, asked_first: bool) -> None:
    """The first thing that anybody tries, with and without curl's ``Expect``."""
    gate = asyncio.Event()
    world.stub.says = [a_stream(a_chunk("a"), a_chunk("b") + DONE, gate=gate)]
    body = json.dumps({"model": "assistant", "stream": True, "messages": MESSAGES})
    expect = "expect: 100-continue" if asked_first else "expect:"

    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sN", "--noproxy", "*", "--max-time", "20", "-d", body),
        *("-H", "content-type: application/json", "-H", expect),
        f"{world.url}/v1/chat/completions",
        stdout=asyncio.subprocess.PIPE,
    )
    assert curl.stdout is not None
    first = await curl.stdout.readuntil(b"\n\n")
    gate.set()
    rest = await curl.stdout.read()

    assert await curl.wait() == 0
    assert first == a_chunk("a", "assistant")
    assert rest == a_chunk("b", "assistant") + DONE
