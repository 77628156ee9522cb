"""Completions served elsewhere: recorded, judged and learnt from like ours."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from feedbackloop.capture.attribution import Attribution
from feedbackloop.capture.exchange import moment
from feedbackloop.capture.record import Recorded
from feedbackloop.dataset.dpo import dpo_rows
from feedbackloop.events import ELSEWHERE, AnyEvent, CompletionServed, PromptRetried
from feedbackloop.labels.gather import Gathering
from feedbackloop.labels.resolve import resolve
from feedbackloop.log.memory import MemorySpool
from feedbackloop.log.port import Frame
from services.sidecar.entrance import Rates, Rules
from services.sidecar.translator import Translator
from tests.services.sidecar.stub import KEYS, NOON_NS, World, a_world
from tests.services.sidecar.test_entrance import OTHERS, TENANTS, a_key

RECORD = "/v1/completions:record"
FEEDBACK = "/v1/feedback"
CREATED = NOON_NS // 10**9 - 600


def told(question: str = "2 + 2?", text: str = "5", **changed: Any) -> dict[str, Any]:
    """A chat of one turn, ten minutes ago."""
    created = CREATED + changed.pop("later", 0)
    return {
        "source": "old-gateway",
        "user": "ann",
        "request": {"model": "assistant", "messages": [{"role": "user", "content": question}]},
        "response": {
            "id": f"theirs-{text}",
            "created": created,
            "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        },
        **changed,
    }


def forwarded(world: World) -> list[AnyEvent]:
    """Return what the forwarder makes of the spool."""
    translator = Translator({"default": KEYS, "acme": OTHERS}, Attribution(), lambda *_: None)  # type: ignore[dict-item]  # names are tenants
    entries = [entry for entry in world.spool.read(after=-1) if isinstance(entry, Frame)]
    return translator.events(entries)


async def test_a_completion_served_elsewhere_can_be_judged(world: World) -> None:
    """It gets an id of ours, and nothing else is needed to say something about it."""
    reply = await world.client.post(RECORD, json=told())
    name = reply.json()["completion_id"]

    vote = await world.client.post(FEEDBACK, json={"completion_id": name, "thumb": "down"})

    completion, thumb = forwarded(world)
    assert (reply.status_code, vote.status_code) == (202, 202)
    assert isinstance(completion, CompletionServed)
    assert (completion.source, completion.source_id) == ("old-gateway", "theirs-5")
    assert (completion.release, completion.propensity) == (ELSEWHERE, 1.0)
    assert completion.accepted_at == moment(CREATED * 10**9)
    assert completion.completion_id == name
    assert thumb.completion_id == name  # type: ignore[union-attr]  # it is a signal


async def test_what_was_told_twice_is_one_completion(world: World) -> None:
    """An import that broke off begins anew."""
    names = [(await world.client.post(RECORD, json=told())).json()["completion_id"]] * 2
    names.append((await world.client.post(RECORD, json=told())).json()["completion_id"])
    other = (await world.client.post(RECORD, json=told(text="6"))).json()["completion_id"]

    gathering = Gathering()
    for event in forwarded(world):
        gathering.add(event)
    assert len(set(names)) == 1
    assert other not in names
    assert len(list(gathering.completions())) == 2


async def test_retries_labels_and_pairs_come_of_what_was_served_elsewhere(world: World) -> None:
    """The chain is hashed alike: a first answer elsewhere, the second one here or there."""
    first = await world.client.post(RECORD, json=told(text="5"))
    again = await world.client.post(RECORD, json=told(text="4", later=30))
    chosen = again.json()["completion_id"]
    await world.client.post(FEEDBACK, json={"completion_id": chosen, "thumb": "up"})

    gathering = Gathering()
    events = forwarded(world)
    for event in events:
        gathering.add(event)
    gathered = list(gathering.completions())
    labels = {one.completion_id: resolve(one.completion_id, one.signals) for one in gathered}
    (pair,) = dpo_rows(gathered, {name: label for name, label in labels.items() if label})
    assert any(isinstance(event, PromptRetried) for event in events)
    assert (pair.rejected_id, pair.chosen_id) == (first.json()["completion_id"], chosen)
    assert (pair.rejected[0]["content"], pair.chosen[0]["content"]) == ("5", "4")


async def test_a_batch_answers_for_each(world: World) -> None:
    """One bad row of an import must not cost the other 999."""
    items = [told(), {**told(), "source": "proxy"}, told(text="7")]

    reply = await world.client.post(RECORD, json={"items": items})

    results = reply.json()["results"]
    assert reply.status_code == 200
    assert [result["status"] for result in results] == [202, 422, 202]
    assert results[1]["error"]["param"] == "source"
    assert sum(isinstance(one, Recorded) for one in world.records()) == 2


@pytest.mark.parametrize(
    ("changed", "status", "param"),
    [
        ({"request": {"model": "nobodys", "messages": []}}, 404, "model"),
        ({"request": {"messages": []}}, 422, "request.model"),
        ({"request": {"model": "assistant", "messages": "x"}}, 422, "request.messages"),
        ({"request": []}, 422, "request"),
        ({"response": {}}, 422, "response"),
    ],
)
async def test_what_cannot_be_recorded_names_its_field(
    world: World, changed: dict[str, Any], status: int, param: str
) -> None:
    """And nothing of it is kept."""
    reply = await world.client.post(RECORD, json={**told(), **changed})

    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)
    assert world.records() == []


async def test_what_cannot_be_stored_is_a_503(world: World) -> None:
    """202 is a promise here, too."""
    assert isinstance(world.spool, MemorySpool)
    world.spool.refusing = True

    reply = await world.client.post(RECORD, json=told())

    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json()["error"]["code"] == "completion_not_stored"


async def test_each_choice_can_be_picked(world: World) -> None:
    """How many there are is read from the reply."""
    body = told()
    body["response"]["choices"] = [{"message": {"content": text}} for text in ("4", "5")]
    name = (await world.client.post(RECORD, json=body)).json()["completion_id"]

    statuses = [
        (await world.client.post(FEEDBACK, json={"completion_id": name, "choice": n})).status_code
        for n in (1, 2)
    ]

    assert statuses == [202, 422]


async def test_keys_tenants_and_limits_hold_for_it(tmp_path: Path) -> None:
    """The same rules as for what is served here."""
    rules = Rules(completions=Rates(key=1))
    acme, voter = a_key(tmp_path, "acme"), a_key(tmp_path, "acme", ("feedback",))
    async with a_world(tmp_path, rules=rules, keys_required=True, tenants=TENANTS) as world:
        strangers = await world.client.post(RECORD, json=told())
        wrong = await world.client.post(RECORD, json=told(), headers=voter)
        replies = [await world.client.post(RECORD, json=told(), headers=acme) for _ in range(2)]
        events = forwarded(world)

    assert (strangers.status_code, wrong.status_code) == (401, 403)
    assert [reply.status_code for reply in replies] == [202, 429]
    assert [event.tenant for event in events] == ["acme"]


async def test_every_route_of_openais_can_be_told(world: World) -> None:
    """Each id begins as its route's ids do."""
    said = {"type": "message", "content": [{"type": "output_text", "text": "4"}]}
    response = {"created_at": CREATED, "status": "completed", "output": [said]}
    text = {"created": CREATED, "choices": [{"text": "4"}]}
    bodies = (
        told(),
        told(request={"model": "assistant", "prompt": "2 + 2 ="}, response=text),
        told(request={"model": "assistant", "input": "2 + 2?"}, response=response),
    )

    replies = [await world.client.post(RECORD, json=body) for body in bodies]

    names = [reply.json()["completion_id"].split("-")[0].split("_")[0] for reply in replies]
    assert names == ["chatcmpl", "cmpl", "resp"]
    assert {event.replies[0].text for event in forwarded(world)} == {"4", "5"}  # type: ignore[union-attr]  # completions


async def test_it_ended_when_its_source_says(world: World) -> None:
    """What a person does a second after the end is a person's doing."""
    at = moment(CREATED * 10**9)
    ended = at + timedelta(seconds=7)

    await world.client.post(RECORD, json=told(at=at.isoformat(), ended_at=ended.isoformat()))

    (completion,) = forwarded(world)
    assert isinstance(completion, CompletionServed)
    assert (completion.accepted_at, completion.ended_at) == (at, ended)
