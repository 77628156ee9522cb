"""The processes and commands with their log on Apache Kafka."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from feedbackloop.events import Alias, CompletionServed, ReleaseChanged, ThumbGiven
from feedbackloop.log.port import Offset
from feedbackloop.promotion.release import ReleaseDocument, decode
from services import wiring, wiring_spool
from services.settings import Settings
from tests.apache_kafka import Broker
from tests.builders import a_completion
from tests.services.scheduler.test_process import Process
from tests.services.sidecar.stub import HELLO, Said, Stub
from tests.services.sidecar.test_process import CHAT, a_sidecar

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("lost_sockets"),
]

REPLY = Said(pieces=(b'{"choices":[{"index":0,"message":{"content":"hi"}}]}',))


class Names(msgspec.Struct, frozen=True):
    """Where a test's Kafka is, and its topics there."""

    servers: str
    topic: str

    def log(self, **changed: str) -> dict[str, str]:
        """Return the settings of a log."""
        values = {
            "KIND": "kafka",
            "BOOTSTRAP_SERVERS": self.servers,
            "EVENTS_TOPIC": f"{self.topic}-events",
            "RELEASES_TOPIC": f"{self.topic}-releases",
            "REPLICATION": "1",
            "PARTITIONS": "2",
            "ACK_TIMEOUT_SECONDS": "2",
        }
        return {f"LOG__{name}": value for name, value in (values | changed).items()}

    def settings(self, folder: Path) -> Settings:
        """Return the settings of a process that has its home in a folder."""
        log = {name.removeprefix("LOG__").lower(): value for name, value in self.log().items()}
        return Settings.model_validate({"home": folder / "home", "log": log})


@pytest.fixture
def names(kafka_servers: str, kafka_topic: str) -> Names:
    return Names(kafka_servers, kafka_topic)


async def command(
    folder: Path, *arguments: str, variables: Mapping[str, str]
) -> tuple[int | None, str]:
    """Run ``feedbackloop``; return how it ended and all that it said."""
    ours = {f"FEEDBACKLOOP_{name}": value for name, value in variables.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.cli", *arguments),
        env={**os.environ, "FEEDBACKLOOP_HOME": str(folder / "home"), "COLUMNS": "200", **ours},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


@asynccontextmanager
async def a_sidecar_on_kafka(
    folder: Path, variables: Mapping[str, str]
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient, httpx.AsyncClient]]:
    """Run a sidecar before a stub of vLLM."""
    stub = Stub(socket=folder / "vllm.sock", says=[REPLY])
    async with stub.serving(), a_sidecar(folder, **variables) as parts:
        yield parts


async def answered_and_voted(client: httpx.AsyncClient) -> str:
    """Ask and vote as an app does; return the completion's id."""
    reply = await client.post(CHAT, json=HELLO)
    name = reply.headers["x-request-id"]
    vote = await client.post("/v1/feedback", json={"completion_id": name, "thumb": "up"})
    assert (reply.status_code, vote.status_code) == (200, 202)
    return name


async def metric(admin: httpx.AsyncClient, line: str) -> float:
    """Return a metric's value, 0 if it is not there."""
    text = (await admin.get("/metrics")).text
    return next((float(one.split(" ")[-1]) for one in text.splitlines() if one.startswith(line)), 0)


async def until_metric(admin: httpx.AsyncClient, line: str, least: float) -> None:
    while await metric(admin, line) < least:  # noqa: ASYNC110  # another process' progress
        await asyncio.sleep(0.05)


async def logged(settings: Settings) -> list[Any]:
    log = wiring.open_log(settings, partition=None)
    found: list[Any] = []
    for partition in await log.partitions():
        found += [entry.event async for entry in log.read(after=Offset(partition, -1))]
    await log.close()
    return found


def ids(events: Sequence[Any]) -> tuple[set[str], set[str]]:
    completions = {str(one.completion_id) for one in events if isinstance(one, CompletionServed)}
    thumbs = {str(one.completion_id) for one in events if isinstance(one, ThumbGiven)}
    return completions, thumbs


async def test_topics_are_made_once_and_compared_ever_after(names: Names, tmp_path: Path) -> None:
    """The command is part of a deployment, and runs with each."""
    made = await command(tmp_path, "topics", "create", "--json", variables=names.log())
    again = await command(tmp_path, "topics", "create", "--json", variables=names.log())
    more = await command(tmp_path, "topics", "create", variables=names.log(PARTITIONS="4"))

    assert (made[0], [one["state"] for one in json.loads(made[1])]) == (0, ["made", "made"])
    assert (again[0], [one["state"] for one in json.loads(again[1])]) == (0, ["good", "good"])
    assert more[0] == 1
    assert "2 partitions, wanted 4" in more[1]


async def test_too_few_brokers_for_the_copies_is_said_plainly(names: Names, tmp_path: Path) -> None:
    """On one broker the default of three copies cannot be had."""
    status, says = await command(tmp_path, "topics", "create", variables=names.log(REPLICATION="3"))

    assert status == 1
    assert f"{names.topic}-events was not made" in says
    assert "(set replication to at most the number of brokers)" in says


async def test_the_doctor_looks_at_the_topics(names: Names, tmp_path: Path) -> None:
    """Before the first event, rather than after."""
    _, missing = await command(tmp_path, "doctor", "--json", variables=names.log())
    await command(tmp_path, "topics", "create", variables=names.log())
    _, there = await command(tmp_path, "doctor", "--json", variables=names.log())
    _, away = await command(
        tmp_path, "doctor", "--json", variables=names.log(BOOTSTRAP_SERVERS="127.0.0.1:1")
    )

    found = [finding(says) for says in (missing, there, away)]
    assert [one["outcome"] for one in found] == ["fail", "ok", "fail"]
    assert "feedbackloop topics create" in found[0]["says"]
    assert "127.0.0.1:1" in found[2]["says"]


def finding(says: str) -> dict[str, str]:
    findings: list[dict[str, str]] = json.loads(says)
    return next(one for one in findings if one["check"] == "log")


async def test_the_log_is_printed_from_kafka(names: Names, tmp_path: Path) -> None:
    """What is recorded belongs to whoever runs it."""
    await command(tmp_path, "topics", "create", variables=names.log())
    log = wiring.open_log(names.settings(tmp_path), partition="tests")
    (offset,) = await log.append([a_completion("c1")])
    await log.close()

    status, says = await command(tmp_path, "log", "export", variables=names.log())

    line = json.loads(says)
    assert status == 0
    assert (line["partition"], line["position"]) == (offset.partition, offset.position)
    assert line["event"]["completion_id"] == "c1"


async def test_a_sidecar_starts_and_serves_without_kafka(
    kafka_home: Path, kafka_topic: str, tmp_path: Path
) -> None:
    """Nobody who asks the model cares; what they said is there as soon as Kafka is."""
    broker = Broker(kafka_home, tmp_path / "kafka")
    names = Names(broker.bootstrap_servers, kafka_topic)

    async with a_sidecar_on_kafka(tmp_path, names.log()) as (process, client, admin):
        name = await answered_and_voted(client)
        await until_metric(admin, 'feedbackloop_log_unavailable_total{reason="unreachable"}', 1)
        await asyncio.to_thread(broker.start)
        await until_metric(admin, 'feedbackloop_log_unavailable_total{reason="topic_missing"}', 1)
        await command(tmp_path, "topics", "create", variables=names.log())
        await until_metric(admin, "feedbackloop_events_forwarded_total", 2)
        process.terminate()
        _, log = await process.communicate()
        status = process.returncode

    assert ids(await logged(names.settings(tmp_path))) == ({name}, {name})
    assert status == 0
    assert b"check bootstrap_servers" in log
    assert b"feedbackloop topics create" in log
    assert b"Traceback" not in log
    await asyncio.to_thread(broker.stop)


async def test_a_sidecar_ends_in_time_while_kafka_is_away(tmp_path: Path) -> None:
    """What it could not forward stays in its spool for the next one."""
    names = Names("127.0.0.1:1", "nothing")

    async with a_sidecar_on_kafka(tmp_path, names.log() | {"SIDECAR__DRAIN_SECONDS": "1"}) as (
        process,
        client,
        admin,
    ):
        await answered_and_voted(client)
        await until_metric(admin, 'feedbackloop_log_unavailable_total{reason="unreachable"}', 1)
        process.terminate()
        _, log = await asyncio.wait_for(process.communicate(), 15)

    assert process.returncode == 0
    assert b'"drained": false' in log
    assert b"Traceback" not in log
    assert wiring_spool.spool_behind_bytes(names.settings(tmp_path), "sidecar-0") > 0


async def test_what_is_too_large_is_set_aside_with_its_reason(names: Names, tmp_path: Path) -> None:
    """It is kept for whoever wants to know, and what comes after it goes on."""
    limits = names.log(MAX_MESSAGE_BYTES="65536")
    await command(tmp_path, "topics", "create", variables=limits)

    async with a_sidecar_on_kafka(tmp_path, limits) as (_, client, admin):
        long = {**HELLO, "messages": [{"role": "user", "content": "x" * 100_000}]}
        await client.post(CHAT, json=long)
        name = await answered_and_voted(client)
        # The completion, the vote, and what declares the two records of the large one lost.
        await until_metric(admin, "feedbackloop_events_forwarded_total", 4)
        counted = await metric(admin, 'feedbackloop_dead_letters_total{reason="too_large"}')

    letters = (tmp_path / "home" / "spool" / "sidecar-0.dead-letters.jsonl").read_text()
    assert counted == 1
    assert json.loads(letters)["reason"] == "too_large"
    assert ids(await logged(names.settings(tmp_path))) == ({name}, {name})


async def test_people_notice_nothing_when_kafka_dies_under_load(
    kafka_home: Path, kafka_topic: str, tmp_path: Path
) -> None:
    """They are answered and their votes are taken; all of it is in Kafka once that is back."""
    broker = Broker(kafka_home, tmp_path / "kafka")
    await asyncio.to_thread(broker.start)
    names = Names(broker.bootstrap_servers, kafka_topic)
    await command(tmp_path, "topics", "create", variables=names.log())

    async with a_sidecar_on_kafka(tmp_path, names.log()) as (_, client, admin):
        said = [await answered_and_voted(client)]
        await until_metric(admin, "feedbackloop_events_forwarded_total", 2)
        await asyncio.to_thread(broker.kill)
        starting = asyncio.create_task(asyncio.to_thread(broker.start))
        while not starting.done():
            said.append(await answered_and_voted(client))
        await starting
        said.append(await answered_and_voted(client))
        await until_metric(admin, "feedbackloop_events_forwarded_total", 2 * len(said))

    found = await logged(names.settings(tmp_path))
    assert ids(found) == (set(said), set(said))
    assert len(said) > 2
    await asyncio.to_thread(broker.stop)


async def test_the_leader_publishes_what_the_database_says(names: Names, tmp_path: Path) -> None:
    """Sidecars follow the topic; whoever starts later finds the newest document there."""
    await command(tmp_path, "topics", "create", variables=names.log())
    settings = names.settings(tmp_path)
    document = ReleaseDocument(alias=Alias("assistant"), epoch=1, why="begun")
    await wiring.open_releases(settings).put(document, lease_epoch=1)
    topic = wiring.open_release_topic(settings, partition=None)
    scheduler = Process(tmp_path / "home", **names.log())

    await asyncio.to_thread(scheduler.wait_until_ready)
    while not (held := await topic.latest()):  # noqa: ASYNC110  # another process' progress
        await asyncio.sleep(0.05)
    scheduler.process.terminate()
    _, log = await asyncio.to_thread(scheduler.process.communicate)
    scheduler.end()

    told = [one for one in await logged(settings) if isinstance(one, ReleaseChanged)]
    assert decode(held[Alias("assistant")]) == document
    assert [(one.epoch, one.why) for one in told] == [(1, "begun")]
    assert scheduler.process.returncode == 0
    assert "Traceback" not in log
    await topic.close()
