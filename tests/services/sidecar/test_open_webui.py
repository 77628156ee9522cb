"""Our two functions inside of a real Open WebUI: added, enabled and called by its own code."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from feedbackloop.events import Thumb, ThumbGiven
from tests.services.sidecar.stub import World, a_world
from tests.services.sidecar.test_clients import STREAM, completed, signals
from tests.services.sidecar.test_entrance import a_key

pytestmark = pytest.mark.open_webui

FILES = Path("docs/clients").resolve()
PYTHON = os.environ.get("OPEN_WEBUI_PYTHON")
PAGE = {"chat_id": "local:chat-1", "session_id": "session-1"}
"""What a page says of itself: a chat that is not kept, and a socket that nobody listens to."""
TASKS = "/api/tasks/chat/local:chat-1"


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def variables(folder: Path, sidecar: str, key: str) -> dict[str, str]:
    """Settings of an Open WebUI that asks nobody but the sidecar."""
    return os.environ | {
        "DATA_DIR": str(folder),
        "STATIC_DIR": str(folder / "static"),
        "OPENAI_API_BASE_URLS": f"{sidecar}/v1",
        "OPENAI_API_KEYS": key,
        "ENABLE_OLLAMA_API": "false",
        "WEBUI_SECRET_KEY": "a secret of this test, and of no other one",
        "OFFLINE_MODE": "true",
        # What it needs for search and speech is not installed.
        "USE_SLIM_DOCKER": "true",
        # Its own command sets this: pages lie in the package.
        "FROM_INIT_PY": "true",
        "PYTHONPATH": "",
    }


@asynccontextmanager
async def an_open_webui(folder: Path, world: World, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Start one; yield a client that is signed in as its first user, an administrator."""
    if PYTHON is None:
        pytest.skip("no Open WebUI: OPEN_WEBUI_PYTHON names the Python of its environment")
    port = a_free_port()
    command = [PYTHON, "-m", "uvicorn", "open_webui.main:app", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        *command, env=variables(folder, world.url, key), stdout=sys.stderr, stderr=sys.stderr
    )
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
            await until_up(client)
            ann = {"name": "Ann", "email": "ann@example.org", "password": "not a secret"}
            signed = await client.post("/api/v1/auths/signup", json=ann)
            client.headers["authorization"] = f"Bearer {signed.json()['token']}"
            yield client
    finally:
        process.terminate()
        await process.wait()


async def until_up(client: httpx.AsyncClient) -> None:
    while True:
        try:
            if (await client.get("/health")).is_success:
                return
        except httpx.TransportError:
            await asyncio.sleep(0.2)


async def add(client: httpx.AsyncClient, name: str, **valves: str) -> None:
    """Do what an administrator does under *Functions*: paste, set the valves, enable for all."""
    function = {
        "id": name,
        "name": name,
        "content": (FILES / f"{name}.py").read_text(),
        "meta": {"description": name},
    }
    for path, body in (
        ("create", function),
        (f"id/{name}/valves/update", valves),
        (f"id/{name}/toggle", {}),
        (f"id/{name}/toggle/global", {}),
    ):
        reply = await client.post(f"/api/v1/functions/{path}", json=body)
        assert reply.is_success, reply.text


async def ask(client: httpx.AsyncClient, message: str) -> None:
    """Do what its page does with a question; return once the answer is through."""
    chat = {
        "model": "assistant",
        "stream": True,
        "messages": [{"role": "user", "content": "2 + 2?"}],
        "id": message,
        **PAGE,
    }
    reply = await client.post("/api/chat/completions", json=chat)
    assert reply.is_success, reply.text
    while (await client.get(TASKS)).json()["task_ids"]:  # noqa: ASYNC110  # another process
        await asyncio.sleep(0.05)


async def click(client: httpx.AsyncClient, message: str, button: str) -> None:
    """Do what its page does with a button under an answer."""
    body = {"model": "assistant", "id": message, "messages": [], **PAGE}
    reply = await client.post(f"/api/chat/actions/{button}", json=body)
    assert reply.is_success, reply.text


async def test_thumbs_in_a_real_open_webui_reach_the_completion_that_they_are_about(
    tmp_path: Path,
) -> None:
    """Its interface for functions is nobody's standard: a new version may call them otherwise."""
    key = a_key(tmp_path)["authorization"].split()[1]
    async with a_world(tmp_path, keys_required=True) as world:
        world.stub.says = [STREAM]
        async with an_open_webui(tmp_path / "webui", world, key) as client:
            await add(client, "open_webui_filter")
            await add(client, "open_webui_action", url=world.url, key=key)
            (model,) = (await client.get("/api/models")).json()["data"]
            up, down = [one["id"] for one in model["actions"]]
            for message, button in (("message-1", down), ("message-2", up)):
                await ask(client, message)
                await click(client, message, button)

    asked, given = completed(world), signals(world)
    assert [(one.completion_id, one.thumb) for one in given if isinstance(one, ThumbGiven)] == [
        (asked[0].completion_id, Thumb.DOWN),
        (asked[1].completion_id, Thumb.UP),
    ]
    assert {one.user for one in (*asked, *given)} == {asked[0].user} != {None}
