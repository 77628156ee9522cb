"""What vLLM answers, and what it does not."""

import pytest

from services.guard import ALLOWED, DENIED, Guard, Message, Receive, Scope, Send


async def _vllm(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, receive
    await send({"type": "passed"})


async def _ask(path: str, kind: str = "http") -> Message:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    await Guard(_vllm)({"type": kind, "path": path}, receive, send)
    return sent[0]


@pytest.mark.parametrize("path", sorted(ALLOWED))
async def test_routes_that_we_use_pass(path: str) -> None:
    """The sidecar would be useless otherwise."""
    said = await _ask(path)

    assert said["type"] == "passed"


@pytest.mark.parametrize(
    "path", [*DENIED, "/adapters/x", "/", "/docs", "/v1", "/V1/models", "/v1/models/", "/sleep"]
)
async def test_every_other_route_does_not_exist(path: str) -> None:
    """A route that vLLM adds next year is closed until we need it."""
    said = await _ask(path)

    assert said["status"] == 404


async def test_web_sockets_are_closed() -> None:
    """We use none."""
    said = await _ask("/v1/models", kind="websocket")

    assert said["type"] == "websocket.close"


async def test_start_and_stop_pass() -> None:
    """vLLM starts its engine there."""
    said = await _ask("", kind="lifespan")

    assert said["type"] == "passed"
