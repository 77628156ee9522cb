"""Votes: checked, stored, then answered."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from feedbackloop.capture import votes
from feedbackloop.capture.exchange import moment
from feedbackloop.capture.record import Voted
from feedbackloop.events import SignalWithdrawn, ThumbGiven, ThumbWithdrawn
from feedbackloop.log.memory import MemorySpool
from tests.services.sidecar.stub import HELLO, NOON_NS, World, a_world

CHAT = "/v1/chat/completions"
FEEDBACK = "/v1/feedback"


async def a_completion_id(world: World, **changed: object) -> str:
    reply = await world.client.post(CHAT, json={**HELLO, **changed})
    return reply.headers["x-request-id"]


def voted(world: World) -> list[Voted]:
    return [one for one in world.records() if isinstance(one, Voted)]


async def test_a_thumb_is_stored_and_then_accepted(world: World) -> None:
    """202 is a promise."""
    name = await a_completion_id(world, user="ann")

    reply = await world.client.post(FEEDBACK, json={"completion_id": name, "thumb": "up"})

    (record,) = voted(world)
    (signal,) = votes.signals(record)
    assert (reply.status_code, reply.json()["accepted"]) == (202, ["thumb"])
    assert isinstance(signal, ThumbGiven)
    assert (signal.completion_id, signal.user is None) == (name, False)


async def test_a_vote_that_cannot_be_stored_is_a_503(world: World) -> None:
    """The client keeps it and comes again: nothing is promised that is not kept."""
    name = await a_completion_id(world)
    assert isinstance(world.spool, MemorySpool)
    world.spool.refusing = True

    reply = await world.client.post(FEEDBACK, json={"completion_id": name, "thumb": "up"})

    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json()["error"]["code"] == "feedback_not_stored"


async def test_the_same_call_twice_is_one_fact(world: World) -> None:
    """A phone in a tunnel repeats itself."""
    name = await a_completion_id(world)
    body, headers = {"completion_id": name, "thumb": "up"}, {"idempotency-key": "k"}

    one = await world.client.post(FEEDBACK, json=body, headers=headers)
    two = await world.client.post(FEEDBACK, json=body, headers=headers)

    ids = {signal.event_id for record in voted(world) for signal in votes.signals(record)}
    assert one.json() == two.json()
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("changed", "status", "param"),
    [
        ({"rating": 9}, 422, "rating"),
        ({"correction": ""}, 422, "correction"),
        ({"thumb": "sideways"}, 422, "thumb"),
        ({}, 422, "thumb"),
        ({"thumb": "up", "typo": 1}, 422, "typo"),
        ({"thumb": "up", "completion_id": "nonsense"}, 404, "completion_id"),
        ({"thumb": "up", "completion_id": "chatcmpl-" + "A" * 90}, 404, "completion_id"),
        ({"thumb": "up", "user": "bob"}, 403, "user"),
    ],
)
async def test_bad_feedback_names_its_field_and_is_not_kept(
    world: World, changed: dict[str, Any], status: int, param: str
) -> None:
    """A wrong vote that is silently kept trains the model."""
    name = await a_completion_id(world, user="ann")

    reply = await world.client.post(FEEDBACK, json={"completion_id": name, **changed})

    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)
    assert voted(world) == []


async def test_a_forged_completion_id_is_refused(world: World) -> None:
    """Only who saw a completion can judge it."""
    name = await a_completion_id(world)
    forged = name[:-2] + ("AA" if not name.endswith("AA") else "BA")

    reply = await world.client.post(FEEDBACK, json={"completion_id": forged, "thumb": "up"})

    assert (reply.status_code, reply.json()["error"]["param"]) in {
        (403, "completion_id"),
        (404, "completion_id"),
    }


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b" " * (2**20 + 1), "application/json", 413),
    ],
)
async def test_a_body_that_is_no_feedback_is_refused(
    world: World, content: bytes, kind: str, status: int
) -> None:
    """Every refusal has OpenAI's shape."""
    reply = await world.client.post(FEEDBACK, content=content, headers={"content-type": kind})

    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_vote_can_be_taken_back(world: World) -> None:
    """As if it had not been given."""
    name = await a_completion_id(world)

    reply = await world.client.delete(f"{FEEDBACK}/{name}", params={"signal": "thumb"})

    (record,) = voted(world)
    (signal,) = votes.signals(record)
    assert reply.status_code == 202
    assert isinstance(signal, ThumbWithdrawn)


@pytest.mark.parametrize("signal", ["rating", "correction", "comment", "outcome", "choice"])
async def test_everything_that_was_said_can_be_taken_back(world: World, signal: str) -> None:
    """Nobody has to stand by a correction that they regret."""
    name = await a_completion_id(world)

    reply = await world.client.delete(f"{FEEDBACK}/{name}", params={"signal": signal})

    (record,) = voted(world)
    (taken,) = votes.signals(record)
    assert (reply.status_code, reply.json()["accepted"]) == (202, [signal])
    assert isinstance(taken, SignalWithdrawn)
    assert taken.signal == signal


async def test_what_is_no_signal_cannot_be_taken_back(world: World) -> None:
    """A typing error must not look like success."""
    name = await a_completion_id(world)

    reply = await world.client.delete(f"{FEEDBACK}/{name}", params={"signal": "thumbs"})

    assert (reply.status_code, reply.json()["error"]["param"]) == (422, "signal")
    assert voted(world) == []


@pytest.mark.parametrize(("choice", "status"), [(2, 202), (3, 422)])
async def test_a_choice_that_was_not_offered_is_refused(
    world: World, choice: int, status: int
) -> None:
    """How many there were stands in the completion id: nothing is looked up."""
    name = await a_completion_id(world, n=3)

    reply = await world.client.post(FEEDBACK, json={"completion_id": name, "choice": choice})

    assert reply.status_code == status
    assert len(voted(world)) == (status == 202)


async def test_each_prompt_of_a_completion_has_its_choices(world: World) -> None:
    """Two prompts and two choices each are four, numbered through."""
    body = {"model": "assistant", "prompt": ["a", "b"], "n": 2}
    name = (await world.client.post("/v1/completions", json=body)).headers["x-request-id"]

    replies = [
        await world.client.post(FEEDBACK, json={"completion_id": name, "choice": choice})
        for choice in (3, 4)
    ]

    assert [reply.status_code for reply in replies] == [202, 422]


async def test_a_vote_counts_from_when_it_was_given(world: World) -> None:
    """An app sends what it collected in a tunnel; its clock is half a minute ahead."""
    name = await a_completion_id(world)
    ahead = moment(NOON_NS) + timedelta(seconds=30)

    reply = await world.client.post(
        FEEDBACK, json={"completion_id": name, "thumb": "up", "at": ahead.isoformat()}
    )

    (record,) = voted(world)
    (signal,) = votes.signals(record)
    assert reply.status_code == 202
    assert signal.at == moment(record.received_ns)


async def test_a_vote_from_another_century_is_refused(world: World) -> None:
    """The latest vote counts; one from 2099 would count for ever."""
    name = await a_completion_id(world)
    body = {"completion_id": name, "thumb": "up", "at": "2099-01-01T00:00:00Z"}

    reply = await world.client.post(FEEDBACK, json=body)

    assert (reply.status_code, reply.json()["error"]["param"]) == (422, "at")


async def test_each_item_of_a_batch_has_its_own_result(world: World) -> None:
    """One bad row of an import must not cost the other 999."""
    name = await a_completion_id(world)
    items = [{"completion_id": name, "rating": 9}, {"completion_id": name, "rating": 4}]

    reply = await world.client.post(f"{FEEDBACK}/batch", json={"items": items})

    assert [result["status"] for result in reply.json()["results"]] == [422, 202]
    assert len(voted(world)) == 1


async def test_a_batch_that_is_sent_again_holds_the_same_facts(world: World) -> None:
    """An import that timed out is repeated as a whole."""
    name = await a_completion_id(world)
    items = [{"completion_id": name, "rating": 4}, {"completion_id": name, "comment": "good"}]
    headers = {"idempotency-key": "import-7"}

    one, two = [
        await world.client.post(f"{FEEDBACK}/batch", json={"items": items}, headers=headers)
        for _ in range(2)
    ]

    ids = {signal.event_id for record in voted(world) for signal in votes.signals(record)}
    assert one.json() == two.json()
    assert len(ids) == 2


@pytest.mark.parametrize("body", [{"items": []}, {"items": 1}, {}, {"items": [{}] * 1_001}])
async def test_a_batch_that_is_none_is_refused(world: World, body: dict[str, Any]) -> None:
    """Empty and endless batches are mistakes."""
    reply = await world.client.post(f"{FEEDBACK}/batch", json=body)

    assert (reply.status_code, reply.json()["error"]["param"]) == (422, "items")


async def test_without_a_key_nobody_votes(tmp_path: Path) -> None:
    """A key of the app stands for its people."""
    async with a_world(tmp_path, keys_required=True) as world:
        reply = await world.client.post(FEEDBACK, json={"completion_id": "x", "thumb": "up"})

    assert (reply.status_code, voted(world)) == (401, [])


async def test_models_are_aliases(world: World) -> None:
    """Releases come and go; what a client may name stays."""
    listed = await world.client.get("/v1/models")
    missing = await world.client.get("/v1/models/base")

    assert [model["id"] for model in listed.json()["data"]] == ["assistant"]
    assert missing.status_code == 404


async def test_every_status_of_feedback_is_documented(world: World) -> None:
    """A client made from our OpenAPI must know what can come back."""
    reply = await world.client.get("/openapi.json")

    documented = reply.json()["paths"]["/v1/feedback"]["post"]["responses"]
    expected = {"202", "400", "401", "403", "404", "410", "413", "415", "422", "429", "503"}
    assert set(documented) >= expected
    body = reply.json()["paths"]["/v1/feedback"]["post"]["requestBody"]
    assert "completion_id" in json.dumps(body)
