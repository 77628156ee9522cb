"""Steps as processes: what only a real launcher can get wrong."""

import asyncio
import fcntl
import json
import os
import sys
from pathlib import Path

import pytest

from feedbackloop.events import RunId
from feedbackloop.training.run import RunState
from feedbackloop.training.subprocess import FolderAttempt, SubprocessLauncher

RUN = RunId("run-20260101-aaaaaa")
STEP = RunState.TRAIN


def launcher(home: Path, *command: str, grace_seconds: float = 5) -> SubprocessLauncher:
    return SubprocessLauncher(
        home, command, environment=dict(os.environ), grace_seconds=grace_seconds
    )


def folder(home: Path) -> Path:
    return home / "runs" / RUN / "train" / "attempt-1"


async def ended(steps: SubprocessLauncher) -> None:
    while (await steps.status(RUN, STEP, attempt=1)).state == "running":  # noqa: ASYNC110  # as below
        await asyncio.sleep(0.01)


async def test_a_step_is_told_its_name_and_its_words_are_kept(tmp_path: Path) -> None:
    """`feedbackloop run logs` shows them; they are all that is left of a crash."""
    steps = launcher(tmp_path, sys.executable, "-S", "-c", "import sys; sys.exit(str(sys.argv))")

    await steps.start(RUN, STEP, attempt=1)
    await ended(steps)

    said = (folder(tmp_path) / "log.txt").read_text()
    assert f"'--run', '{RUN}', '--step', 'train', '--attempt', '1'" in said


async def test_a_step_has_a_session_of_its_own(tmp_path: Path) -> None:
    """Ctrl-C in the scheduler's terminal, or its death, must not reach the training."""
    steps = launcher(tmp_path, "sh", "-c", "sleep 60")

    await steps.start(RUN, STEP, attempt=1)
    pid = json.loads((folder(tmp_path) / "process.json").read_bytes())["pid"]
    session = os.getsid(pid)
    await steps.stop(RUN, STEP, attempt=1)

    assert session == pid


async def test_a_recycled_process_number_is_not_mistaken_for_the_step(tmp_path: Path) -> None:
    """After a crash the number may be a database's: it must be neither awaited nor killed."""
    steps = launcher(tmp_path)
    folder(tmp_path).mkdir(parents=True)
    ours = json.dumps({"pid": os.getpid(), "started": 1, "boot": "another"})
    (folder(tmp_path) / "process.json").write_text(ours)

    await steps.stop(RUN, STEP, attempt=1)

    status = await steps.status(RUN, STEP, attempt=1)
    assert (status.state, status.retryable) == ("failed", True)


async def test_a_step_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    """A hung CUDA call hears no SIGTERM, and still has to free the GPU."""
    steps = launcher(
        tmp_path, "sh", "-c", "trap '' TERM; touch $0/trapped; sleep 60 & wait; sleep 60",
        str(tmp_path), grace_seconds=0.1,
    )  # fmt: skip
    await steps.start(RUN, STEP, attempt=1)
    while not (tmp_path / "trapped").exists():  # noqa: ASYNC110  # a process tells by files alone
        await asyncio.sleep(0.01)

    await steps.stop(RUN, STEP, attempt=1)

    assert (await steps.status(RUN, STEP, attempt=1)).state == "failed"


async def test_a_claim_without_a_process_may_be_tried_again(tmp_path: Path) -> None:
    """The scheduler died between the claim and the start: nobody works on it."""
    folder(tmp_path).mkdir(parents=True)

    status = await launcher(tmp_path).status(RUN, STEP, attempt=1)

    assert (status.state, status.retryable) == ("failed", True)


@pytest.mark.parametrize("content", ["", "[]", '{"facts": 3}'])
async def test_a_broken_result_is_a_failure_and_no_crash(tmp_path: Path, content: str) -> None:
    """A full disk must not stop the scheduler."""
    folder(tmp_path).mkdir(parents=True)
    (folder(tmp_path) / "result.json").write_text(content)

    status = await launcher(tmp_path).status(RUN, STEP, attempt=1)

    assert (status.state, status.retryable) == ("failed", True)


async def test_what_a_step_says_of_itself_is_what_the_launcher_reads(tmp_path: Path) -> None:
    """Two processes, perhaps of two versions, and one folder between them."""
    attempt = FolderAttempt(tmp_path, RUN, STEP, attempt=1)
    attempt.finish({"rows": 3})
    other = FolderAttempt(tmp_path, RUN, STEP, attempt=2)
    other.fail("no rows", retryable=False)

    done, failed = [await launcher(tmp_path).status(RUN, STEP, attempt=n) for n in (1, 2)]

    assert (done.state, done.result) == ("done", {"rows": 3})
    assert (failed.state, failed.reason, failed.retryable) == ("failed", "no rows", False)


def test_an_attempt_takes_over_what_the_last_one_left(tmp_path: Path) -> None:
    """An hour of checkpoints must not be lost to a reboot."""
    for number in (1, 2):
        (FolderAttempt(tmp_path, RUN, STEP, attempt=number).folder / "partial").write_text("x")
    third = FolderAttempt(tmp_path, RUN, STEP, attempt=3)

    third.inherit("partial")

    assert (third.folder / "partial").read_text() == "x"
    assert not (third.folder.parent / "attempt-2" / "partial").exists()
    assert (third.folder.parent / "attempt-1" / "partial").exists()


def test_there_may_be_nothing_to_take_over(tmp_path: Path) -> None:
    """The first attempt has nobody before it."""
    first = FolderAttempt(tmp_path, RUN, STEP, attempt=1)

    first.inherit("partial")

    assert list(first.folder.iterdir()) == []


def test_two_attempts_never_work_on_a_run_at_once(tmp_path: Path) -> None:
    """A scheduler may lose sight of a process; its successor then waits for the GPU."""
    attempt = FolderAttempt(tmp_path, RUN, STEP, attempt=1)

    with (
        attempt.claim(),
        (tmp_path / "runs" / RUN / "claim").open() as file,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_claim_ends_with_the_work(tmp_path: Path) -> None:
    """Otherwise the next attempt would wait for ever."""
    for number in (1, 2):
        with FolderAttempt(tmp_path, RUN, STEP, attempt=number).claim():
            pass

    assert (tmp_path / "runs" / RUN / "claim").exists()
