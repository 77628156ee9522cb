"""What an exchange leaves behind when it has ended."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from services.sidecar.exchange import Exchange
from tests.services.sidecar.stub import DONE, HELLO, Said, World, a_chunk, a_stream

CHAT = "/v1/chat/completions"
WHOLE = Said(pieces=(b'{"model":"base"}',))
ENDS = {
    "whole": WHOLE,
    "stream": a_stream(a_chunk("a"), DONE),
    "broken off": a_stream(a_chunk("a"), cut=True),
    "failed": Said(status=500, pieces=(b"{}",)),
    "refused": Said(status=400, pieces=(b'{"error":{}}',)),
}


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Let no circle of objects be freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive() -> int:
    # Not isinstance: it asks each object for its class, at which some of other libraries' warn.
    return sum(type(one) is Exchange for one in gc.get_objects())


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("end", ENDS)
async def test_an_exchange_that_has_ended_is_freed_at_once(world: World, end: str) -> None:
    """A circle of one request's objects waits for the collector, which stops all others."""
    before = alive()
    world.stub.says = [ENDS[end]]

    await world.client.post(CHAT, json={**HELLO, "stream": end in ("stream", "broken off")})

    assert alive() == before


@pytest.mark.usefixtures("uncollected")
async def test_an_exchange_whose_client_left_is_freed_at_once(world: World) -> None:
    """So is one that nobody waited for."""
    before = alive()
    world.stub.says = [a_stream(a_chunk("a"), DONE, gate=asyncio.Event())]

    async with world.client.stream("POST", CHAT, json={**HELLO, "stream": True}) as reply:
        await anext(reply.aiter_bytes())
        assert alive() == before + 1
    await world.stub.gone.wait()

    assert alive() == before
