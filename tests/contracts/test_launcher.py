"""What a launcher of steps promises, held by a real one and by the fake that loops use."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import pytest

from feedbackloop.events import RunId
from feedbackloop.training.port import Launcher, StepStatus
from feedbackloop.training.run import RunState
from feedbackloop.training.subprocess import SubprocessLauncher
from tests.fakes import MemoryLauncher

RUN = RunId("run-20260101-aaaaaa")
STEP = RunState.TRAIN


class Bench(Protocol):
    """A launcher whose attempts wait until they are told how to end."""

    @property
    def launcher(self) -> Launcher: ...

    async def ready(self, attempt: int) -> None: ...
    def succeed(self, attempt: int) -> None: ...
    def fail(self, attempt: int) -> None: ...
    def vanish(self, attempt: int) -> None: ...
    def advance(self, attempt: int) -> None: ...
    def restarted(self) -> Launcher: ...
    def started(self) -> int: ...


class MemoryBench:
    def __init__(self) -> None:
        self.launcher = MemoryLauncher()

    async def ready(self, attempt: int) -> None:
        await self.launcher.start(RUN, STEP, attempt=attempt)

    def succeed(self, attempt: int) -> None:
        self.launcher.finish(RUN, STEP, attempt=attempt, result={"rows": 3})

    def fail(self, attempt: int) -> None:
        self.launcher.fail(RUN, STEP, attempt=attempt, reason="no rows", retryable=False)

    def vanish(self, attempt: int) -> None:
        self.launcher.fail(RUN, STEP, attempt=attempt, reason="killed", retryable=True)

    def advance(self, attempt: int) -> None:
        self.launcher.advance(RUN, STEP, attempt=attempt, progress=0.5)

    def restarted(self) -> Launcher:
        return self.launcher

    def started(self) -> int:
        return self.launcher.started


class ProcessBench:
    """The step is a shell that reads its orders from a pipe in the home folder."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.launcher = self.restarted()

    def restarted(self) -> SubprocessLauncher:
        orders = (
            'cd "$0/runs/$2/$4/attempt-$6" && echo started >> "$0/starts" && mkfifo orders &&'
            ' while read -r order < orders; do eval "$order"; done'
        )
        command = ("sh", "-c", orders, str(self._home))
        return SubprocessLauncher(
            self._home, command, environment=dict(os.environ), grace_seconds=5
        )

    async def ready(self, attempt: int) -> None:
        await self.launcher.start(RUN, STEP, attempt=attempt)
        orders = self._home / f"runs/{RUN}/{STEP}/attempt-{attempt}/orders"
        while not orders.is_fifo():  # noqa: ASYNC110  # a process tells by its files alone
            await asyncio.sleep(0.01)

    def _order(self, attempt: int, order: str) -> None:
        (self._home / f"runs/{RUN}/{STEP}/attempt-{attempt}/orders").write_text(order + "\n")

    def succeed(self, attempt: int) -> None:
        self._order(attempt, """echo '{"facts": {"rows": 3}}' > new; mv new result.json; exit""")

    def fail(self, attempt: int) -> None:
        self._order(attempt, """echo '{"reason": "no rows"}' > new; mv new result.json; exit 1""")

    def vanish(self, attempt: int) -> None:
        self._order(attempt, "kill -9 $$")

    def advance(self, attempt: int) -> None:
        self._order(attempt, "echo 0.5 > new; mv new progress.json")

    def started(self) -> int:
        return len((self._home / "starts").read_text().split())


@pytest.fixture(params=["memory", "subprocess"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    made: Bench = MemoryBench() if request.param == "memory" else ProcessBench(tmp_path)
    yield made
    for attempt in (1, 2):
        await made.launcher.stop(RUN, STEP, attempt=attempt)


async def until(
    launcher: Launcher, is_so: Callable[[StepStatus], bool], *, attempt: int = 1
) -> StepStatus:
    """Ask until it is so: a process that is nobody's child tells nobody when it changes."""
    while True:
        status = await launcher.status(RUN, STEP, attempt=attempt)
        if is_so(status):
            return status
        await asyncio.sleep(0.01)


async def test_an_attempt_that_nobody_started_is_missing(bench: Bench) -> None:
    """A scheduler that crashed before it started a step has to find that out."""
    status = await bench.launcher.status(RUN, STEP, attempt=1)

    assert status == StepStatus(state="missing")


async def test_a_started_attempt_runs_until_its_result(bench: Bench) -> None:
    """The result becomes the run's facts of that step."""
    await bench.ready(1)
    running = await bench.launcher.status(RUN, STEP, attempt=1)

    bench.succeed(1)

    done = await until(bench.launcher, lambda status: status.state != "running")
    assert running.state == "running"
    assert (done.state, done.result) == ("done", {"rows": 3})


async def test_starting_twice_starts_once(bench: Bench) -> None:
    """Two trainings on one GPU both run out of memory."""
    await bench.ready(1)

    await bench.launcher.start(RUN, STEP, attempt=1)

    assert bench.started() == 1


async def test_a_restarted_scheduler_adopts_what_runs(bench: Bench) -> None:
    """An hour of training must survive an upgrade of the scheduler."""
    await bench.ready(1)

    after = bench.restarted()
    await after.start(RUN, STEP, attempt=1)

    assert (await after.status(RUN, STEP, attempt=1)).state == "running"
    assert bench.started() == 1


async def test_a_failure_says_why_and_that_trying_again_is_useless(bench: Bench) -> None:
    """The same rows fail the same way: the run ends with the reason."""
    await bench.ready(1)

    bench.fail(1)

    status = await until(bench.launcher, lambda status: status.state != "running")
    assert (status.state, status.reason, status.retryable) == ("failed", "no rows", False)


async def test_a_killed_attempt_may_be_tried_again(bench: Bench) -> None:
    """Out of memory, or a reboot: neither says anything about the rows."""
    await bench.ready(1)

    bench.vanish(1)

    status = await until(bench.launcher, lambda status: status.state != "running")
    assert (status.state, status.retryable) == ("failed", True)


async def test_progress_is_told_while_it_runs(bench: Bench) -> None:
    """Whoever waits wants to know for how long."""
    await bench.ready(1)

    bench.advance(1)

    status = await until(bench.launcher, lambda status: status.progress is not None)
    assert (status.state, status.progress) == ("running", 0.5)


async def test_a_stopped_attempt_no_longer_runs(bench: Bench) -> None:
    """A cancelled run must free its GPU before the next one starts."""
    await bench.ready(1)

    await bench.launcher.stop(RUN, STEP, attempt=1)

    assert (await bench.launcher.status(RUN, STEP, attempt=1)).state == "failed"


async def test_stopping_what_does_not_run_is_no_error(bench: Bench) -> None:
    """A cancellation may come before the start, or after the end."""
    await bench.launcher.stop(RUN, STEP, attempt=1)

    assert (await bench.launcher.status(RUN, STEP, attempt=1)).state == "missing"


async def test_attempts_know_nothing_of_each_other(bench: Bench) -> None:
    """The result of a failed attempt must not end the next one."""
    await bench.ready(1)
    bench.fail(1)
    await until(bench.launcher, lambda status: status.state != "running")

    await bench.ready(2)

    assert (await bench.launcher.status(RUN, STEP, attempt=2)).state == "running"
