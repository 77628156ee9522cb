"""The process as a whole: started from settings, ended by a signal."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from feedbackloop.events import AnyEvent, CaptureGap, CompletionServed, ThumbGiven
from feedbackloop.log.port import Offset
from services import keyring, wiring
from services.settings import Settings
from services.sidecar.__main__ import stuck_seconds
from tests.services.sidecar.stub import DONE, HELLO, Said, Stub, a_chunk, a_stream

CHAT = "/v1/chat/completions"


def variables(folder: Path, **changed: str) -> dict[str, str]:
    """Settings of a sidecar that is alone on this machine."""
    sidecar = {
        "HOME": str(folder / "home"),
        "SIDECAR__MARKS": str(folder),
        "SIDECAR__UPSTREAM": f"unix:{folder / 'vllm.sock'}",
        "SIDECAR__UPSTREAM_GUARD": "off",
        "SIDECAR__BIND": "127.0.0.1:0",
        "SIDECAR__ADMIN_BIND": "127.0.0.1:0",
        "KEYS__REQUIRED": "false",
        "ALIASES__ASSISTANT__BASE": "base",
    }
    ours = {f"FEEDBACKLOOP_{name}": value for name, value in (sidecar | changed).items()}
    return {**os.environ, **ours}


async def start(folder: Path, **changed: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.sidecar",
        env=variables(folder, **changed),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def a_sidecar(
    folder: Path, **changed: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient, httpx.AsyncClient]]:
    """Run a sidecar; yield it with a client of either listener."""
    process = await start(folder, **changed)
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())["ready"]
    front, back = (f"http://{ready[name]}" for name in ("sidecar", "admin"))
    try:
        async with (
            httpx.AsyncClient(base_url=front, timeout=10, trust_env=False) as client,
            httpx.AsyncClient(base_url=back, timeout=10, trust_env=False) as admin,
        ):
            yield process, client, admin
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def logged(folder: Path) -> list[AnyEvent]:
    """Return what is in the log."""
    log = wiring.open_log(Settings(home=folder / "home"), partition=None)
    entries = [entry.event async for entry in log.read(after=Offset("sidecar-0", -1))]
    return [event for event in entries if isinstance(event, AnyEvent)]


async def test_a_stream_that_runs_at_sigterm_runs_to_its_end(tmp_path: Path) -> None:
    """A deployment is no reason to cut people short."""
    gate = asyncio.Event()
    stub = Stub(socket=tmp_path / "vllm.sock", says=[a_stream(a_chunk("a"), DONE, gate=gate)])

    async with stub.serving(), a_sidecar(tmp_path) as (process, client, _):
        async with client.stream("POST", CHAT, json={**HELLO, "stream": True}) as reply:
            pieces = reply.aiter_bytes()
            await anext(pieces)
            process.send_signal(signal.SIGTERM)
            gate.set()
            rest = b"".join([piece async for piece in pieces])
        status = await process.wait()

    (event,) = await logged(tmp_path)
    assert (rest, status) == (DONE, 0)
    assert isinstance(event, CompletionServed)


async def test_what_a_client_saw_survives_a_sigkill(tmp_path: Path) -> None:
    """The machine's memory keeps what was written, however the writer dies."""
    stub = Stub(socket=tmp_path / "vllm.sock", says=[Said(pieces=(b'{"model":"base"}',))])
    async with stub.serving():
        async with a_sidecar(tmp_path) as (process, client, _):
            reply = await client.post(CHAT, json=HELLO)
            name = reply.headers["x-request-id"]
            vote = await client.post("/v1/feedback", json={"completion_id": name, "thumb": "up"})
            process.kill()

        async with a_sidecar(tmp_path) as (process, _, _):
            process.send_signal(signal.SIGTERM)
            await process.wait()

    # What was forwarded just before the kill is forwarded again: under the same ids.
    found = await logged(tmp_path)
    completions = {one.completion_id for one in found if isinstance(one, CompletionServed)}
    thumbs = {one.completion_id for one in found if isinstance(one, ThumbGiven)}
    assert vote.status_code == 202
    assert (completions, thumbs) == ({name}, {name})


async def test_a_disk_that_fails_at_the_start_keeps_nobody_from_an_answer(tmp_path: Path) -> None:
    """What could not be recorded is declared once it works, and votes are taken again."""
    keyring.load(tmp_path / "home")
    volume = tmp_path / "volume"
    (tmp_path / "home" / "spool").symlink_to(volume)
    stub = Stub(socket=tmp_path / "vllm.sock", says=[Said(pieces=(b'{"model":"base"}',))])

    async with stub.serving(), a_sidecar(tmp_path) as (process, client, admin):
        unrecorded = await client.post(CHAT, json=HELLO)
        vote = {"completion_id": unrecorded.headers["x-request-id"], "thumb": "up"}
        refused = await client.post("/v1/feedback", json=vote)
        notes = (await admin.get("/readyz")).json()["notes"]
        volume.mkdir()
        while (taken := await client.post("/v1/feedback", json=vote)).status_code == 503:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)
        recorded = await client.post(CHAT, json=HELLO)
        process.send_signal(signal.SIGTERM)
        status = await process.wait()

    found = await logged(tmp_path)
    served = [one.completion_id for one in found if isinstance(one, CompletionServed)]
    gaps = [one for one in found if isinstance(one, CaptureGap)]
    assert (unrecorded.status_code, refused.status_code, taken.status_code) == (200, 503, 202)
    assert notes[1].startswith("the spool's disk takes no records: [Errno 17]")
    assert status == 0
    assert served == [recorded.headers["x-request-id"]]
    assert {(gap.first, gap.reason) for gap in gaps} >= {(0, "disk_refused")}
    assert [one.completion_id for one in found if isinstance(one, ThumbGiven)] == [
        vote["completion_id"]
    ]


@pytest.mark.parametrize(
    ("asked", "ack_timeout", "given"), [(60.0, 5.0, 60.0), (1.0, 5.0, 20.0), (60.0, 30.0, 120.0)]
)
def test_nobody_is_taken_for_stuck_who_waits_for_the_log(
    asked: float, ack_timeout: float, given: float
) -> None:
    """Killed in each outage, it would begin anew each time."""
    log = {"kind": "kafka", "bootstrap_servers": "k:1", "ack_timeout_seconds": ack_timeout}
    settings = Settings.model_validate({"log": log, "sidecar": {"forwarder_stuck_seconds": asked}})

    assert stuck_seconds(settings) == given


async def test_a_file_in_place_of_a_folder_is_a_wrong_setting(tmp_path: Path) -> None:
    """No disk will ever mend that: an operator has to."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "spool").write_text("not a folder")

    process = await start(tmp_path)
    _, error = await process.communicate()

    assert process.returncode == 2
    assert b"FEEDBACKLOOP_HOME" in error
    assert b"home/spool is no folder" in error


async def test_without_keys_there_is_no_start(tmp_path: Path) -> None:
    """Nobody could be told apart, and no receipt signed."""
    (tmp_path / "home").symlink_to(tmp_path / "volume")

    process = await start(tmp_path)
    _, error = await process.communicate()

    assert process.returncode == 2
    assert b"keyring" in error


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIDECAR__BIND", "0.0.0.0:0"),
        ("SIDECAR__UPSTREAM", "ftp://x"),
        ("SIDECAR__DRAIN", "1"),
        ("SIDECARS__BIND", "127.0.0.1:0"),
    ],
)
async def test_wrong_settings_end_the_process_and_name_themselves(
    tmp_path: Path, name: str, value: str
) -> None:
    """An operator reads one line and knows which."""
    process = await start(tmp_path, **{name: value})

    _, error = await process.communicate()

    assert process.returncode == 2
    assert f"FEEDBACKLOOP_{name}".encode() in error
