"""The process as a whole: started from settings, killed, frozen, ended by a signal."""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from feedbackloop.events import AnyEvent
from feedbackloop.log.continuity import lineage_of
from feedbackloop.log.port import EventLog
from services import wiring
from services.settings import Settings
from tests.builders import a_completion
from tests.conftest import S3Server

PARTITION = "sidecar-0"


class House:
    """A home folder with a log in it, and settings of an archiver."""

    def __init__(self, folder: Path, **changed: str) -> None:
        self.home = folder / "home"
        values = {
            "HOME": str(self.home),
            "ARCHIVER__BIND": "127.0.0.1:0",
            "ARCHIVER__POLL_SECONDS": "0.02",
            "ARCHIVER__ROTATE_SECONDS": "0.05",
            **changed,
        }
        self._environment = {
            **os.environ,
            **{f"FEEDBACKLOOP_{name}": value for name, value in values.items()},
        }
        archive = {
            name.removeprefix("ARCHIVE__").lower(): value
            for name, value in values.items()
            if name.startswith("ARCHIVE__")
        }
        given = {"archive": archive} if archive else {}
        self.settings = Settings(home=self.home, **given)  # type: ignore[arg-type]  # as a file's
        self.log: EventLog = wiring.open_log(self.settings, partition=PARTITION)

    async def start(self, **changed: str) -> asyncio.subprocess.Process:
        more = {f"FEEDBACKLOOP_{name}": value for name, value in changed.items()}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.archiver"),
            env={**self._environment, **more},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    @asynccontextmanager
    async def archiver(
        self, **changed: str
    ) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
        process = await self.start(**changed)
        assert process.stdout is not None
        ready = json.loads(await process.stdout.readline())["ready"]
        try:
            yield process, f"http://{ready['archiver']}"
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def archived(self) -> list[object]:
        """Return the events that are in the archive now."""
        archive = wiring.open_archive(self.settings, wiring.open_store(self.settings))
        lineage = lineage_of(await self.log.identity(PARTITION), PARTITION)
        files = archive.chain(lineage, archive.ledger()).files
        return [entry.event for file in files for entry in archive.entries(file)]

    async def until(self, count: int) -> list[object]:
        """Wait until so many events are in the archive."""
        while len(found := await self.archived()) < count:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)
        return found


@pytest.fixture(params=["folder", "s3"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    if request.param == "folder":
        return House(tmp_path)
    server: S3Server = request.getfixturevalue("s3_server")
    return House(
        tmp_path,
        ARCHIVE__KIND="object",
        ARCHIVE__URL=server.url(secrets.token_hex(8)),
        ARCHIVE__ENDPOINT=server.endpoint,
        ARCHIVE__REGION="us-east-1",
        ARCHIVE__ACCESS_KEY=server.access_key,
        ARCHIVE__SECRET_KEY=server.secret_key,
    )


def completions(count: int, *, first: int = 0) -> Sequence[AnyEvent]:
    return [a_completion(f"c{first + n}") for n in range(count)]


async def test_what_is_logged_while_it_runs_is_archived(house: House) -> None:
    """Within the time after which a file is published."""
    async with house.archiver() as (process, _):
        await house.log.append(completions(50))
        found = await house.until(50)
        process.send_signal(signal.SIGTERM)
        status = await process.wait()

    assert (found, status) == (list(completions(50)), 0)
    await house.log.close()


async def read_something(url: str) -> dict[str, Any]:
    """Wait until an archiver has read what it has not published; return its health."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        while True:
            health: dict[str, Any] = (await client.get("/readyz")).json()
            if any(one["lag_seconds"] for one in health["partitions"].values()):
                return health
            await asyncio.sleep(0.02)


async def test_what_was_read_is_published_at_sigterm(tmp_path: Path) -> None:
    """Whatever the file's age: a deployment leaves nothing half done."""
    house = House(tmp_path)
    await house.log.append(completions(20))
    async with house.archiver(ARCHIVER__ROTATE_SECONDS="3600") as (process, url):
        ready = await read_something(url)
        process.send_signal(signal.SIGTERM)
        await process.wait()

    assert ready["ready"]
    assert list(ready["partitions"]) == [PARTITION]
    assert len(await house.archived()) == 20
    await house.log.close()


async def test_kills_at_any_moment_lose_and_double_nothing(house: House) -> None:
    """Some SIGKILLs while events keep coming."""
    random = Random(7)
    for number in range(6):
        await house.log.append(completions(40, first=40 * number))
        process = await house.start()
        await asyncio.sleep(random.uniform(0.3, 1.0))
        process.kill()
        await process.communicate()

    async with house.archiver():
        found = await house.until(240)

    assert found == list(completions(240))
    await house.log.close()


async def test_an_archiver_that_was_frozen_is_harmless(tmp_path: Path) -> None:
    """It comes back with half a file in its hands, after somebody else has gone on."""
    house = House(tmp_path)
    await house.log.append(completions(30))
    async with house.archiver(ARCHIVER__ROTATE_SECONDS="3600") as (zombie, url):
        await read_something(url)
        zombie.send_signal(signal.SIGSTOP)
        # Its lock would keep the next one away on this machine; another machine knows no lock.
        (house.home / "run" / "archiver" / f"{PARTITION}.lock").unlink()
        async with house.archiver():
            await house.until(30)
            await house.log.append(completions(30, first=30))
            await house.until(60)

            zombie.send_signal(signal.SIGCONT)
            zombie.send_signal(signal.SIGTERM)
            await zombie.wait()

    assert await house.archived() == list(completions(60))
    await house.log.close()


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("ARCHIVER__BIND", "127.0.0.1", "ARCHIVER__BIND"),
        ("ARCHIVER__ROTATE", "1", "ARCHIVER__ROTATE"),
        ("ARCHIVE__URL", "ftp://x", "ARCHIVE__URL"),
        ("ARCHIVE__KIND", "tape", "ARCHIVE: "),
    ],
)
async def test_wrong_settings_end_the_process_and_name_themselves(
    tmp_path: Path, name: str, value: str, named: str
) -> None:
    """An operator reads one line and knows which."""
    kind = {"ARCHIVE__KIND": "object"} if name == "ARCHIVE__URL" else {}
    house = House(tmp_path)

    process = await house.start(**{name: value, **kind})
    _, error = await process.communicate()

    assert process.returncode == 2
    assert f"FEEDBACKLOOP_{named}".encode() in error
    await house.log.close()
