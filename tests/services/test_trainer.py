"""One step of a run as a process: what it leaves behind, and how it ends."""

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Timer
from typing import Any

import msgspec
import pytest

from feedbackloop.events import RunId
from feedbackloop.training.port import StepStatus
from feedbackloop.training.run import Run, RunState
from services import wiring
from services.settings import Settings, load
from services.trainer.__main__ import main
from tests.builders import ALIAS, NOON, voted
from tests.tiny import make_base

RUN = RunId("run-2026-03-05-aaaaaa")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_base(tmp_path_factory.mktemp("base")))


@pytest.fixture
def settings(tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home folder and few rows; in the environment, since that is where a process looks."""
    monkeypatch.setenv("FEEDBACKLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FEEDBACKLOOP_VLLM__MODEL", base)
    monkeypatch.setenv("FEEDBACKLOOP_TRAINING__MIN_MINORITY_LABELS", "20")
    monkeypatch.setenv("FEEDBACKLOOP_TRAINING__THREADS", "1")
    monkeypatch.setenv("FEEDBACKLOOP_GATE__MAX_HOLDOUT_ROWS", "20")
    return load()


@pytest.fixture(autouse=True)
def _same_handler() -> Iterator[None]:
    """A process sets its own; the suite's is put back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def prepare(settings: Settings, **changes: Any) -> Run:
    """Write a run into the state database, and people's votes into the log."""
    until = NOON + timedelta(days=1)
    values: dict[str, Any] = {
        "run": RUN,
        "alias": ALIAS,
        "slot": "first",
        "state": RunState.SNAPSHOT,
        "attempt": 1,
        "version": 0,
        "epoch": 1,
        "reason": "",
        "recipe": {"micro_batch_size": 4, "batch_size": 4, "learning_rate": 1e-3, "rank": 8},
        "created_at": until,
        "changed_at": until,
        "facts": {},
    }

    async def write() -> Run:
        log = wiring.open_log(settings, partition="sidecar-0")
        await log.append(voted(80))
        await log.close()
        return await wiring.open_runs(settings).create(Run(**values | changes))

    return asyncio.run(write())


def step(step: str, attempt: int = 1) -> int:
    return main(["--run", RUN, "--step", step, "--attempt", str(attempt)])


def status(settings: Settings, step: RunState, attempt: int = 1) -> StepStatus:
    return asyncio.run(wiring.open_launcher(settings).status(RUN, step, attempt=attempt))


def advance(settings: Settings, run: Run, after: RunState) -> Run:
    """Do what the scheduler does with a step's result."""
    facts = status(settings, run.state).result
    assert facts is not None

    async def write() -> Run:
        runs = wiring.open_runs(settings)
        lease = await runs.acquire("me", now=NOON, seconds=60)
        assert lease is not None
        moved = msgspec.structs.replace(
            run, state=after, epoch=lease.epoch, facts={**run.facts, run.state.value: facts}
        )
        return await runs.replace(run, moved)

    return asyncio.run(write())


def test_a_snapshot_step_leaves_its_facts_and_says_so(settings: Settings) -> None:
    """The scheduler reads them from the folder, whether or not it was there meanwhile."""
    prepare(settings)

    code = step("snapshot")

    found = status(settings, RunState.SNAPSHOT)
    assert (code, found.state) == (0, "done")
    assert found.result is not None
    assert wiring.open_snapshots(settings).digests() == [found.result["digest"]]


def test_another_attempt_finds_the_same_snapshot(settings: Settings) -> None:
    """A retry after a crash must not train on other rows than the facts say."""
    prepare(settings)
    step("snapshot")

    step("snapshot", attempt=2)

    first, second = (status(settings, RunState.SNAPSHOT, number).result for number in (1, 2))
    assert first is not None
    assert second is not None
    assert first["digest"] == second["digest"]


def test_a_step_of_an_unknown_run_fails_for_good(settings: Settings) -> None:
    """Trying again would not make it known."""
    code = step("train")

    found = status(settings, RunState.TRAIN)
    assert code == 1
    assert (found.reason, found.retryable) == (f"there is no run {RUN}", False)


def test_a_recipe_that_cannot_be_fails_for_good_and_names_the_field(settings: Settings) -> None:
    """It reaches the operator through `feedbackloop run show`."""
    prepare(settings, recipe={"learnin_rate": 1.0})

    step("snapshot")

    found = status(settings, RunState.SNAPSHOT)
    assert "learnin_rate" in (found.reason or "")
    assert not found.retryable


def test_what_we_did_not_foresee_may_be_tried_again(settings: Settings) -> None:
    """A GPU out of memory is such a thing; attempts are bounded."""
    prepare(settings, state=RunState.TRAIN)

    code = step("train")

    found = status(settings, RunState.TRAIN)
    assert code == 1
    assert (found.state, found.retryable) == ("failed", True)
    assert "KeyError" in (found.reason or "")


def test_what_we_did_not_foresee_is_told_without_what_a_person_said(
    settings: Settings, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is shown to operators, and logged; a base's own template may quote a prompt."""
    quoting = shutil.copytree(base, tmp_path / "quoting")
    (quoting / "chat_template.jinja").write_text("{{ raise_exception(messages[0]['content']) }}")
    run = prepare(settings)
    step("snapshot")
    advance(settings, run, RunState.TRAIN)
    monkeypatch.setenv("FEEDBACKLOOP_VLLM__MODEL", str(quoting))

    code = step("train")

    reason = status(settings, RunState.TRAIN).reason or ""
    assert (code, reason.startswith("TemplateError at "), "w0" in reason) == (1, True, False)


def test_a_step_that_is_asked_to_stop_says_so(settings: Settings) -> None:
    """A cancelled run, or a machine that shuts down: the next attempt goes on."""
    prepare(settings)
    other = wiring.open_attempt(settings, RUN, RunState.SNAPSHOT, attempt=1)
    asked = Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))

    with other.claim():
        asked.start()
        code = step("snapshot", attempt=2)

    found = status(settings, RunState.SNAPSHOT, attempt=2)
    assert code == 1
    assert (found.reason, found.retryable) == ("it was asked to stop", True)


def test_the_launcher_starts_this_process(settings: Settings) -> None:
    """Two files name the command's arguments; this is where they meet."""
    prepare(settings)

    async def run() -> StepStatus:
        launcher = wiring.open_launcher(settings)
        await launcher.start(RUN, RunState.SNAPSHOT, attempt=1)
        while True:
            found = await launcher.status(RUN, RunState.SNAPSHOT, attempt=1)
            if found.state != "running":
                return found
            await asyncio.sleep(0.05)

    found = asyncio.run(run())

    assert found.state == "done", found.reason


def test_a_run_goes_from_votes_to_a_verdict(settings: Settings) -> None:
    """Real training and real scores, on a base of two layers: the parts fit together."""
    run = prepare(settings)

    step("snapshot")
    run = advance(settings, run, RunState.TRAIN)
    step("train")
    run = advance(settings, run, RunState.EVALUATE)
    step("evaluate")

    trained, judged = run.facts["train"], status(settings, RunState.EVALUATE).result
    assert wiring.open_adapters(settings).digests() == [trained["digest"]]
    assert judged is not None
    assert judged["outcome"] in {"pass", "fail", "insufficient"}
    assert isinstance(judged["inputs"], dict)
    assert judged["inputs"]["candidate"] == trained["digest"]
