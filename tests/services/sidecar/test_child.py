"""The process behind the spool: whoever dies, answers go on and nothing is lost or doubled."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import httpx
import pytest

from benchmarks.proxy.cost import tree
from feedbackloop.events import CompletionServed
from feedbackloop.log.completeness import Audit, Completeness
from services import wiring
from services.settings import Settings
from tests.services.sidecar.stub import HELLO, Said, Stub
from tests.services.sidecar.test_process import CHAT, a_sidecar, logged, start

FORWARDED = "feedbackloop_events_forwarded_total"
RESTARTS = "feedbackloop_forwarder_restarts_total"
STUCK = "feedbackloop_forwarder_stuck_total"
ANSWER = Said(pieces=(b'{"model":"base"}',))


def child_of(process: asyncio.subprocess.Process) -> int:
    """Return the number of the one process that a sidecar keeps."""
    _, child = tree(process.pid)
    return child


def lives(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def ended(pid: int) -> None:
    """Wait until a process is gone; the test's own time limit ends it."""
    while lives(pid):  # noqa: ASYNC110  # not ours to wait for
        await asyncio.sleep(0.01)


async def asked(client: httpx.AsyncClient, times: int = 1) -> list[str]:
    """Ask, and return the receipts of the answers."""
    replies = [await client.post(CHAT, json=HELLO) for _ in range(times)]
    assert {reply.status_code for reply in replies} == {200}
    return [reply.headers["x-request-id"] for reply in replies]


async def shown(admin: httpx.AsyncClient, metric: str) -> float:
    """Return what a scrape says, once."""
    lines = (await admin.get("/metrics")).text.splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith(f"{metric} ")]
    return float(value)


async def until_shown(admin: httpx.AsyncClient, metric: str, at_least: float) -> float:
    while (value := await shown(admin, metric)) < at_least:  # noqa: ASYNC110  # another process
        await asyncio.sleep(0.05)
    return value


async def completions(folder: Path) -> Counter[str]:
    """Return how many different events the log has of each completion."""
    found = [one for one in await logged(folder) if isinstance(one, CompletionServed)]
    return Counter(name for name, _ in {(one.completion_id, one.event_id) for one in found})


async def test_a_child_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    """The kernel may choose it when memory runs out; people notice nothing."""
    random, names = Random(1), list[str]()
    stub = Stub(socket=tmp_path / "vllm.sock", says=[ANSWER])
    async with stub.serving(), a_sidecar(tmp_path) as (process, client, admin):
        for times in range(1, 4):
            names += await asked(client, times=10)
            await asyncio.sleep(random.uniform(0, 0.4))
            os.kill(child_of(process), signal.SIGKILL)
            names += await asked(client, times=10)
            await until_shown(admin, RESTARTS, times)
            while len(tree(process.pid)) < 2:  # noqa: ASYNC110  # not ours to wait for
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        status = await process.wait()

    assert status == 0
    assert await completions(tmp_path) == dict.fromkeys(names, 1)


async def test_a_child_that_stands_still_is_replaced_and_loses_nothing(tmp_path: Path) -> None:
    """It does not die, and so the spool would fill until somebody looks."""
    stub = Stub(socket=tmp_path / "vllm.sock", says=[ANSWER])
    patience = {"SIDECAR__FORWARDER_STUCK_SECONDS": "1"}
    async with stub.serving(), a_sidecar(tmp_path, **patience) as (process, client, admin):
        names = await asked(client, times=5)
        child = child_of(process)
        os.kill(child, signal.SIGSTOP)
        names += await asked(client, times=5)
        await until_shown(admin, STUCK, 1)
        await ended(child)
        names += await asked(client, times=5)
        process.send_signal(signal.SIGTERM)
        status = await process.wait()

    assert status == 0
    assert await completions(tmp_path) == dict.fromkeys(names, 1)


async def test_what_was_counted_stays_counted_when_the_child_is_another(tmp_path: Path) -> None:
    """A counter that falls would look like a restart of the sidecar."""
    stub = Stub(socket=tmp_path / "vllm.sock", says=[ANSWER])
    async with stub.serving(), a_sidecar(tmp_path) as (process, client, admin):
        await asked(client, times=3)
        before = await until_shown(admin, FORWARDED, 3)
        os.kill(child_of(process), signal.SIGKILL)
        await until_shown(admin, RESTARTS, 1)
        between = await shown(admin, FORWARDED)
        await asked(client)
        after = await until_shown(admin, FORWARDED, between + 1)

    assert between >= before
    assert after > between


async def test_a_child_does_not_outlive_its_parent_and_a_new_one_starts_at_once(
    tmp_path: Path,
) -> None:
    """Whoever restarts a sidecar that was killed does not wait, and need not try twice."""
    stub = Stub(socket=tmp_path / "vllm.sock", says=[ANSWER])
    async with stub.serving(), a_sidecar(tmp_path) as (process, client, _):
        names = await asked(client, times=5)
        child = child_of(process)
        process.kill()
        async with a_sidecar(tmp_path) as (heir, other, _):
            names += await asked(other)
            await ended(child)
            heir.send_signal(signal.SIGTERM)
            status = await heir.wait()

    assert status == 0
    assert await completions(tmp_path) == dict.fromkeys(names, 1)


async def test_what_the_spool_holds_is_forwarded_at_sigterm_though_the_child_just_died(
    tmp_path: Path,
) -> None:
    """Another child does it, within the time that the sidecar has."""
    stub = Stub(socket=tmp_path / "vllm.sock", says=[ANSWER])
    async with stub.serving(), a_sidecar(tmp_path) as (process, client, _):
        os.kill(child_of(process), signal.SIGKILL)
        names = await asked(client, times=5)
        process.send_signal(signal.SIGTERM)
        status = await process.wait()

    assert status == 0
    assert await completions(tmp_path) == dict.fromkeys(names, 1)


async def test_what_the_spool_holds_is_forwarded_though_the_end_comes_before_the_start(
    tmp_path: Path,
) -> None:
    """A deployment that is taken back at once is no crash, and ends like any other."""
    stub = Stub(socket=tmp_path / "vllm.sock", says=[ANSWER])
    async with stub.serving():
        async with a_sidecar(tmp_path) as (process, client, _):
            child = child_of(process)
            os.kill(child, signal.SIGSTOP)
            names = await asked(client, times=5)
            process.kill()
            os.kill(child, signal.SIGKILL)
        heir = await start(tmp_path)
        while len(tree(heir.pid)) < 2:  # noqa: ASYNC110  # not ours to wait for
            await asyncio.sleep(0.01)
        heir.send_signal(signal.SIGTERM)
        said, _ = await heir.communicate()

    assert (said, heir.returncode) == (b"", 0)
    assert await completions(tmp_path) == dict.fromkeys(names, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_to_the_whole_group_ends_the_sidecar_first(
    tmp_path: Path, number: signal.Signals
) -> None:
    """A terminal and a service manager mean both; the child has to forward what is left."""
    stub = Stub(socket=tmp_path / "vllm.sock", says=[ANSWER])
    async with stub.serving(), a_sidecar(tmp_path) as (process, client, admin):
        os.kill(child_of(process), number)
        names = await asked(client)
        await until_shown(admin, FORWARDED, 1)
        process.send_signal(signal.SIGINT)
        status = await process.wait()

    assert status == 0
    assert list(await completions(tmp_path)) == names


def mount_over(folder: Path) -> None:
    """Put an empty folder in the place of one, as a volume does that is mounted over it."""
    folder.rename(folder.with_name("beneath"))
    folder.mkdir()


async def test_what_lies_beneath_a_volume_is_forwarded_and_what_came_after_is_declared(
    tmp_path: Path,
) -> None:
    """People were told 202 for some of it; and the books must say what nobody recorded."""
    stub = Stub(socket=tmp_path / "vllm.sock", says=[ANSWER])
    async with stub.serving():
        async with a_sidecar(tmp_path) as (process, client, admin):
            child = child_of(process)
            os.kill(child, signal.SIGSTOP)
            names = await asked(client, times=5)
            mount_over(tmp_path / "home" / "spool" / "sidecar-0")
            vote = {"completion_id": names[0], "thumb": "up"}
            refused = await client.post("/v1/feedback", json=vote)
            os.kill(child, signal.SIGCONT)
            await asked(client)
            await until_shown(admin, FORWARDED, 5)
            process.send_signal(signal.SIGTERM)
            statuses = [await process.wait()]
        async with a_sidecar(tmp_path) as (process, _, admin):
            process.send_signal(signal.SIGTERM)
            statuses.append(await process.wait())

    report = await audited(tmp_path)
    assert (refused.status_code, statuses) == (503, [0, 0])
    assert await completions(tmp_path) == dict.fromkeys(names, 1)
    assert (report.expected, report.missing) == (report.seen + sum(report.declared.values()), {})
    assert report.declared.keys() == {"killed"}


async def audited(folder: Path) -> Completeness:
    """Return what the books say, long after."""
    audit = Audit()
    for event in await logged(folder):
        audit.add(event)
    return audit.report(now=datetime.max.replace(tzinfo=UTC))


async def test_settings_that_only_the_child_can_judge_end_the_sidecar(tmp_path: Path) -> None:
    """An operator learns it at the start, and not from a backlog."""
    stub = Stub(socket=tmp_path / "vllm.sock", says=[ANSWER])
    other = wiring.open_log(Settings(home=tmp_path / "home"), partition="sidecar-0")

    async with stub.serving():
        process = await start(tmp_path)
        _, error = await process.communicate()
    await other.close()

    assert process.returncode == 2
    assert b"give this one a name of its own" in error
