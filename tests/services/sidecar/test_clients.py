"""The guide for clients: its code is what runs here."""

import asyncio
import importlib.util
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from feedbackloop.capture import votes
from feedbackloop.capture.record import Opened, Voted
from feedbackloop.events import AnySignal, Thumb, ThumbGiven
from tests.services.sidecar.stub import DONE, Said, World, a_stream, a_world
from tests.services.sidecar.test_entrance import a_key

GUIDE = Path("docs/clients.md").read_text()
FILES = Path("docs/clients")
_WHOLE = (
    b'{"id":"chatcmpl-@id","object":"chat.completion","created":1,"model":"base",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"4"},"finish_reason":"stop",'
    b'"logprobs":null}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)
WHOLE = Said(pieces=(_WHOLE,))


def a_chunk(text: str) -> bytes:
    """One event of a stream as vLLM writes it, its id included."""
    return (
        b'data: {"id":"chatcmpl-@id","object":"chat.completion.chunk","created":1,"model":"base",'
        b'"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
        % text.encode()
    )


STREAM = a_stream(a_chunk("6"), a_chunk("!"), DONE)


def blocks(heading: str, language: str) -> str:
    """Return what a section of the guide says in one language."""
    section = GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL))


def completed(world: World) -> list[Opened]:
    return [one for one in world.records() if isinstance(one, Opened)]


def signals(world: World) -> list[AnySignal]:
    records = [one for one in world.records() if isinstance(one, Voted)]
    return [signal for record in records for signal in votes.signals(record)]


@pytest.mark.parametrize(
    ("heading", "thumb", "about"),
    [("The openai SDK", Thumb.UP, 0), ("LangChain", Thumb.DOWN, 1)],
)
async def test_the_guides_python_does_what_it_says(
    tmp_path: Path, heading: str, thumb: Thumb, about: int
) -> None:
    """Whoever pastes it has an answer, a stream and a vote."""
    key = a_key(tmp_path)["authorization"].split()[1]
    async with a_world(tmp_path, keys_required=True) as world:
        world.stub.says = [WHOLE, STREAM]
        code = blocks(heading, "python").replace("http://localhost:8080", world.url)
        await asyncio.to_thread(exec, code.replace("fl_...", key), {})

    whole, streamed = completed(world)
    (vote,) = signals(world)
    assert isinstance(vote, ThumbGiven)
    assert (vote.thumb, vote.completion_id) == (thumb, (whole, streamed)[about].completion_id)
    assert whole.user == streamed.user == vote.user is not None
    assert json.loads(streamed.body)["stream"] is True


@pytest.mark.parametrize("streamed", [True, False])
async def test_curl_shows_what_is_answered(tmp_path: Path, *, streamed: bool) -> None:
    """The guide's line, with `-N` and without."""
    key = a_key(tmp_path)["authorization"].split()[1]
    async with a_world(tmp_path, keys_required=True) as world:
        world.stub.says = [STREAM if streamed else WHOLE]
        line = blocks("curl", "sh").replace("http://localhost:8080", world.url)
        line = line if streamed else line.replace('"stream": true, ', "").replace(" -N", "")
        curl = await asyncio.create_subprocess_shell(
            line.replace("fl_...", key).replace("curl ", "curl -sS "),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await curl.communicate()

    (asked,) = completed(world)
    assert curl.returncode == 0
    assert asked.completion_id.encode() in output
    assert output.endswith(DONE) if streamed else json.loads(output)["model"] == "assistant"


def a_function(name: str) -> Any:
    """Load a function as Open WebUI does: a module of its own, and its one class."""
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return next(getattr(module, kind)() for kind in ("Filter", "Action") if hasattr(module, kind))


def called(handler: Any, first: dict[str, Any], **extra: object) -> Any:
    """Call a handler as Open WebUI does: with those of its extras that it names."""
    wanted = inspect.signature(handler).parameters
    return handler(**first, **{name: value for name, value in extra.items() if name in wanted})


def pieces(stream: bytes) -> Iterator[dict[str, Any]]:
    for line in stream.split(b"\n\n"):
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


async def test_open_webuis_thumbs_reach_the_completion_that_they_are_about(tmp_path: Path) -> None:
    """The filter sees the ids pass, the action votes with them; a restart lies in between."""
    key = a_key(tmp_path)
    ann = {"id": "ann", "name": "Ann", "email": "ann@example.org", "role": "user"}
    told: list[dict[str, Any]] = []

    async def emit(event: dict[str, Any]) -> None:
        told.append(event)

    async with a_world(tmp_path, keys_required=True) as world:
        world.stub.says = [STREAM]
        filters = a_function("open_webui_filter")
        filters.valves = filters.Valves(file=str(tmp_path / "ids.sqlite"))
        body = {
            "model": "assistant",
            "stream": True,
            "messages": [{"role": "user", "content": "?"}],
        }
        asked = called(filters.inlet, {"body": body}, __user__=ann, __metadata__={})
        reply = await world.client.post("/v1/chat/completions", json=asked, headers=key)
        for event in pieces(reply.content):
            metadata = {"chat_id": "chat-1", "message_id": "message-1"}
            assert called(filters.stream, {"event": event}, __metadata__=metadata) == event

        action = a_function("open_webui_action")
        action.valves = action.Valves(
            url=world.url,
            key=key["authorization"].split()[1],
            file=str(tmp_path / "ids.sqlite"),
        )
        for message, thumb in (("message-1", "down"), ("message-2", "up")):
            body = {"model": "assistant", "chat_id": "chat-1", "id": message, "messages": []}
            await called(
                action.action, {"body": body}, __id__=thumb, __user__=ann, __event_emitter__=emit
            )

    (completion,) = completed(world)
    (vote,) = signals(world)
    assert isinstance(vote, ThumbGiven)
    assert (vote.completion_id, vote.thumb) == (completion.completion_id, Thumb.DOWN)
    assert vote.user == completion.user is not None
    assert [event["data"]["type"] for event in told] == ["success", "error"]
    assert [one["id"] for one in action.actions] == ["up", "down"]


async def test_open_webui_says_why_a_vote_was_refused(tmp_path: Path) -> None:
    """The person who clicked reads it, and so does whoever set it up."""
    told: list[dict[str, Any]] = []

    async def emit(event: dict[str, Any]) -> None:
        told.append(event)

    async with a_world(tmp_path, keys_required=True) as world:
        filters = a_function("open_webui_filter")
        filters.valves = filters.Valves(file=str(tmp_path / "ids.sqlite"))
        called(filters.stream, {"event": {"id": "chatcmpl-x"}}, __metadata__={"message_id": "m"})
        action = a_function("open_webui_action")
        action.valves = action.Valves(url=world.url, file=str(tmp_path / "ids.sqlite"))
        await called(action.action, {"body": {"id": "m"}}, __id__="up", __event_emitter__=emit)

    (event,) = told
    assert event["type"] == "notification"
    assert event["data"] == {"type": "error", "content": "incorrect or missing API key"}
    assert signals(world) == []


def test_the_snippet_for_pages_is_as_short_as_it_says() -> None:
    """Thirty lines that a team can read before it pastes them."""
    assert len((FILES / "thumbs.js").read_text().splitlines()) <= 30
