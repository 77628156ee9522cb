"""The scheduler as a process: from settings alone to a ready line, through kills, to exit 0."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

_PATIENCE_SECONDS = 60


class Process:
    """A scheduler that was started from settings, and answers."""

    def __init__(self, home: Path, **settings: str) -> None:
        given = {
            "HOME": str(home),
            "SCHEDULER__BIND": "127.0.0.1:0",
            "SCHEDULER__TICK_SECONDS": "0.1",
            "SCHEDULER__LEASE_SECONDS": "1",
            "SIDECAR__ADMIN_BIND": "127.0.0.1:1",
            "KEYS__REQUIRED": "false",
            **settings,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.scheduler"],
            env={**os.environ, **{f"FEEDBACKLOOP_{name}": value for name, value in given.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.address = ""

    def wait_until_ready(self) -> None:
        """Read the one line on stdout."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.address = json.loads(line)["ready"]["scheduler"]

    def get(self, path: str) -> Any:
        return httpx.get(f"http://{self.address}{path}", trust_env=False, timeout=10).json()

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(f"http://{self.address}{path}", json=body, trust_env=False, timeout=10)

    def leads(self) -> bool:
        return bool(self.get("/readyz")["leader"])

    def end(self) -> None:
        """Kill it if it still runs, and close its pipes."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def make(**settings: str) -> Process:
        started.append(Process(tmp_path / "home", **settings))
        return started[-1]

    yield make
    for process in started:
        process.end()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_is_ready_leads_sees_a_run_to_its_end_and_stops_when_told(
    start: Callable[..., Process],
) -> None:
    """Real processes, real files: the steps of this run are a trainer's."""
    scheduler = start()
    scheduler.wait_until_ready()
    eventually(scheduler.leads)

    run = scheduler.post("/api/runs", {"alias": "assistant", "why": "a try"}).json()["run"]
    eventually(lambda: scheduler.get(f"/api/runs/{run}")["state"] == "refused")
    reason = scheduler.get(f"/api/runs/{run}")["reason"]
    scheduler.process.send_signal(signal.SIGTERM)

    assert reason.startswith("Nothing to train")
    assert scheduler.process.wait(_PATIENCE_SECONDS) == 0


def test_after_a_kill_the_next_one_goes_on_and_after_a_goodbye_it_need_not_wait(
    start: Callable[..., Process],
) -> None:
    """A crash costs a lease's length; a restart costs nothing."""
    first = start()
    first.wait_until_ready()
    eventually(first.leads)
    run = first.post("/api/runs", {"alias": "assistant"}).json()["run"]
    first.process.kill()
    first.process.wait()

    second = start(SCHEDULER__LEASE_SECONDS="3600")
    second.wait_until_ready()
    eventually(second.leads)
    eventually(lambda: second.get(f"/api/runs/{run}")["state"] == "refused")
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(_PATIENCE_SECONDS) == 0

    third = start()
    third.wait_until_ready()
    eventually(third.leads)
    assert len(third.get("/api/runs")) == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"SCHEDULER__BIND": "192.0.2.1:9091"}, "KEYS__REQUIRED"),
        ({"SCHEDULER__BIND": "192.0.2.1:9091", "KEYS__REQUIRED": "true"}, "SCHEDULER__BIND"),
        ({"SCHEDULER__TICK": "1"}, "SCHEDULER__TICK"),
    ],
)
def test_wrong_settings_end_it_with_2_and_their_name(
    settings: dict[str, str], named: str, start: Callable[..., Process]
) -> None:
    """A supervisor need not try again, and a person knows what to change."""
    scheduler = start(**settings)

    _, said = scheduler.process.communicate(timeout=_PATIENCE_SECONDS)

    assert scheduler.process.returncode == 2
    assert f"FEEDBACKLOOP_{named}" in said
