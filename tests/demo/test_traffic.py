"""The simulated people's bookkeeping, against a stand-in for the loop."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from aiohttp import web

from demo.client import Ask, People, people
from demo.reactions import USUAL
from demo.traffic import Crowd, Traffic
from demo.watch import Watch

_EAGER = replace(
    USUAL, thumb_if_happy=1, thumb_if_unhappy=1, retry_if_happy=1, retry_if_unhappy=1, tries=2
)


@dataclass
class StandIn:
    """Answers everybody the same; ``breaks`` says which attempt of a request fails, and how."""

    breaks: Callable[[int], str | None] = lambda _: None
    served: list[str] = field(default_factory=list)
    keys: Counter[str] = field(default_factory=Counter)
    votes: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        key = request.headers["Idempotency-Key"]
        self.keys[key] += 1
        broken = self.breaks(self.keys[key])
        if broken == "unavailable":
            return web.json_response({"error": {"message": "not now"}}, status=503)
        completion_id = f"chatcmpl-{len(self.served)}"
        self.served.append(completion_id)
        if body.get("stream"):
            return await self._stream(request, completion_id, cut=broken == "cut")
        message = {"role": "assistant", "content": "4."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(_about(completion_id, "chat.completion", choice), headers=_RELEASE)

    async def _stream(
        self, request: web.Request, completion_id: str, *, cut: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={**_RELEASE, "content-type": "text/event-stream"})
        await response.prepare(request)
        ends = [None] if cut else [None, "stop"]
        for end in ends:
            choice = {"index": 0, "delta": {"content": "4." if end else ""}, "finish_reason": end}
            chunk = _about(completion_id, "chat.completion.chunk", choice)
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        if not cut:
            await response.write(b"data: [DONE]\n\n")
        return response

    async def vote(self, request: web.Request) -> web.Response:
        body = await request.json()
        key = request.headers["Idempotency-Key"]
        self.keys[key] += 1
        if self.breaks(self.keys[key]) is not None:
            return web.json_response({"error": {"message": "not now"}}, status=503)
        signal = "thumb" if "thumb" in body else "outcome"
        self.votes.append((body["completion_id"], signal))
        return web.json_response({"feedback_id": "f", "accepted": [signal]}, status=202)


_RELEASE = {"x-feedbackloop-release": "base"}


def _about(completion_id: str, kind: str, choice: dict[str, object]) -> dict[str, object]:
    return {
        "id": completion_id,
        "object": kind,
        "created": 0,
        "model": "assistant",
        "choices": [choice],
    }


@asynccontextmanager
async def speaking_to(stand_in: StandIn) -> AsyncIterator[People]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", stand_in.complete)
    app.router.add_post("/v1/feedback", stand_in.vote)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    try:
        async with people(
            f"http://{host}:{port}/v1", model="assistant", in_flight=8, pause_seconds=0
        ) as crowd:
            yield crowd
    finally:
        await runner.cleanup()


def _traffic(crowd: People) -> Traffic:
    quick = Crowd(
        first_answers=12, sessions=4, manners=_EAGER, read_seconds=0, retry_seconds=(0, 0)
    )
    return Traffic(crowd, quick, asyncio.Event())


async def test_what_was_delivered_is_what_was_served() -> None:
    """Capture loss is counted from this ledger, so the ledger must not be wrong."""
    stand_in = StandIn()

    async with speaking_to(stand_in) as crowd:
        await _traffic(crowd).run(lambda: None)

    assert sorted(crowd.ledger.delivered) == sorted(stand_in.served)
    assert sorted(crowd.ledger.accepted) == sorted(stand_in.votes)
    assert (len(stand_in.served), len(crowd.ledger.retries)) == (24, 12)
    assert crowd.ledger.failed == {}


async def test_half_of_the_requests_are_streams() -> None:
    """Streams are recorded in another way, and must be counted on as much."""
    stand_in = StandIn()

    async with speaking_to(stand_in) as crowd:
        await _traffic(crowd).run(lambda: None)

    assert {body.get("stream", False) for body in stand_in.bodies} == {True, False}


async def test_a_refused_attempt_is_made_again_under_the_same_key() -> None:
    """Otherwise an outage would turn one person's vote into two, or into none."""
    stand_in = StandIn(breaks=lambda attempt: "unavailable" if attempt == 1 else None)

    async with speaking_to(stand_in) as crowd:
        await _traffic(crowd).run(lambda: None)

    assert set(stand_in.keys.values()) == {2}
    assert sorted(crowd.ledger.accepted) == sorted(stand_in.votes)
    assert crowd.ledger.failed == {"503": 24}


async def test_a_stream_that_breaks_off_was_not_delivered() -> None:
    """Half an answer is none: its id must not be looked for in the log as a whole one."""
    stand_in = StandIn(breaks=lambda attempt: "cut" if attempt == 1 else None)

    async with speaking_to(stand_in) as crowd:
        reply = await crowd.ask(Ask(prompt="what is 2 + 2?", user="person-1", streamed=True))

    assert reply is not None
    assert crowd.ledger.delivered == [reply.completion_id] == stand_in.served[1:]
    assert crowd.ledger.failed == {"unfinished": 1}


async def test_nobody_waits_for_ever() -> None:
    """A loop that stays down must end the demonstration, not hang it."""
    stand_in = StandIn(breaks=lambda _: "unavailable")

    async with speaking_to(stand_in) as crowd:
        crowd.patience_seconds = 0
        reply = await crowd.ask(Ask(prompt="what is 2 + 2?", user="person-1", streamed=False))
        accepted = await crowd.vote("chatcmpl-0", signal="thumb", value="up")

    assert (reply, accepted) == (None, False)
    assert crowd.ledger.refused == {"503": 1}


async def test_a_watch_sees_every_reply_and_knows_whose_it_is() -> None:
    """Zero failed and zero misattributed mean nothing if nothing was looked at."""
    stop = asyncio.Event()
    async with speaking_to(StandIn()) as crowd:
        watch = Watch(crowd, in_flight=4, seed=0, stop=stop)
        await watch.record()
        asyncio.get_running_loop().call_later(0.1, stop.set)
        await watch.run()

    assert set(watch.releases()) == {"base"}
    assert watch.unanswered == 0
    assert {release for says in watch.known.values() for release in says} == {"base"}
