"""``/v1/responses``: named in its body, streamed without ``[DONE]``."""

import asyncio
import json
from typing import Any

import pytest
from openai import AsyncOpenAI

from feedbackloop.capture.record import Closed, Opened
from feedbackloop.events import Outcome
from services.sidecar.splice import RESPONSES, StreamSplicer
from tests.capture.test_responses import WHOLE, a_delta, a_stream
from tests.services.sidecar import stub
from tests.services.sidecar.stub import Said, World

PATH = "/v1/responses"
ASKED = {"model": "assistant", "input": "Where?"}


def a_response(model: str = "base", **changed: Any) -> dict[str, Any]:
    return {**WHOLE, "metadata": {"model": "base"}, "model": model, **changed}


def a_reply(model: str = "base") -> bytes:
    """A stream, in which the client's own metadata also names a model."""
    begun = a_response(model, output=[], status="in_progress")
    return a_stream(
        {"type": "response.created", "response": begun},
        a_delta("Paris."),
        {"type": "response.completed", "response": a_response(model)},
    )


async def test_a_response_is_named_by_its_receipt(world: World) -> None:
    """vLLM takes the name from the body, and a client's own would be no receipt."""
    world.stub.says = [Said(pieces=(json.dumps(a_response()).encode(),))]

    reply = await world.client.post(PATH, json={**ASKED, "request_id": "mine"})
    vote = await world.client.post(
        "/v1/feedback", json={"completion_id": reply.headers["x-request-id"], "thumb": "up"}
    )

    sent = json.loads(world.stub.requests[0][2])
    assert sent["request_id"] == reply.headers["x-request-id"]
    assert sent["request_id"].startswith("resp_")
    assert (sent["model"], reply.json()["model"]) == ("base", "assistant")
    assert reply.json()["metadata"] == {"model": "base"}
    assert vote.status_code == 202


async def test_a_stream_ends_with_its_last_event(world: World) -> None:
    """It is held until the record is safe, as ``[DONE]`` is for a chat."""
    world.stub.says = [stub.a_stream(a_reply())]

    reply = await world.client.post(PATH, json={**ASKED, "stream": True})

    opened, closed = world.records()
    assert reply.content == a_reply("assistant")
    assert isinstance(opened, Opened)
    assert isinstance(closed, Closed)
    assert (opened.endpoint, closed.outcome, closed.body) == (
        "responses", Outcome.COMPLETE, a_reply(),
    )  # fmt: skip


async def test_a_stream_without_its_last_event_has_failed(world: World) -> None:
    """Half an answer is not to be taken for a whole one."""
    world.stub.says = [stub.a_stream(a_stream(a_delta("Par")))]

    await world.client.post(PATH, json={**ASKED, "stream": True})

    assert world.records()[1].outcome is Outcome.UPSTREAM_FAILED  # type: ignore[union-attr]  # closed


async def test_a_client_that_leaves_is_recorded(world: World) -> None:
    """As on the other routes."""
    gate = asyncio.Event()
    first = a_stream(a_delta("Par"))
    world.stub.says = [stub.a_stream(first, a_reply(), gate=gate)]

    async with world.client.stream("POST", PATH, json={**ASKED, "stream": True}) as reply:
        await anext(reply.aiter_bytes())
    await world.stub.gone.wait()

    closed = world.records()[1]
    assert isinstance(closed, Closed)
    assert (closed.outcome, closed.body) == (Outcome.CLIENT_GONE, first)


@pytest.mark.parametrize(
    ("changed", "param"),
    [({"background": True}, "background"), ({"input": 7}, "input"), ({"model": None}, "model")],
)
async def test_what_cannot_be_served_here_is_refused(
    world: World, changed: dict[str, object], param: str
) -> None:
    """A reply that comes later, on another route, would pass us by."""
    reply = await world.client.post(PATH, json={**ASKED, **changed})

    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert world.records() == []


def test_a_stream_cut_anywhere_comes_out_the_same() -> None:
    """The network cuts where it likes."""
    for cut in range(1, len(a_reply())):
        splicer = StreamSplicer("base", "assistant", form=RESPONSES)
        out = splicer.feed(a_reply()[:cut]) + splicer.feed(a_reply()[cut:])

        assert out + splicer.finish() == a_reply("assistant")


async def test_the_official_client_reads_it(world: World) -> None:
    """Whole and streamed, unchanged."""
    world.stub.says = [
        Said(pieces=(json.dumps(a_response(created_at=1, tools=[], tool_choice="auto",
                                           parallel_tool_calls=True)).encode(),)),
        stub.a_stream(a_reply()),
    ]  # fmt: skip
    async with AsyncOpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0) as openai:
        whole = await openai.responses.create(model="assistant", input="Where?")
        stream = await openai.responses.create(model="assistant", input="Where?", stream=True)
        kinds = [event.type async for event in stream]

    assert (whole.model, whole.output_text) == ("assistant", "Paris.")
    assert kinds == ["response.created", "response.output_text.delta", "response.completed"]
