"""The whole loop with nothing played: vLLM serves, TRL trains, people call over HTTP."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.tiny_server import make_base

pytestmark = pytest.mark.vllm
_PEOPLE = 60
_MIN_AGAINST = 20
"""Votes against that begin a run: a quarter of ``_PEOPLE`` is too few, three quarters suffice."""
_PATIENCE_SECONDS = 300
_SHORT = {"min_tokens": 3, "stop_token_ids": list(range(6, 512, 3))}
"""Lets random weights come to an end of their own: what is cut short is not trained on."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(holds: Callable[[], bool], otherwise: Callable[[], object]) -> None:
    """Look until something holds; say what is there instead if it never does."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.3)


class House:
    """A loop on this machine, started and asked by its own command."""

    def __init__(self, folder: Path) -> None:
        addresses = [f"127.0.0.1:{free_port()}" for _ in range(4)]
        self.bind, self.admin, self.scheduler, archiver = addresses
        self.home = folder / "home"
        self._model = make_base(folder / "base")
        settings = {
            "HOME": str(self.home),
            "SIDECAR__BIND": self.bind,
            "SIDECAR__ADMIN_BIND": self.admin,
            "SIDECAR__CONVERGE_SECONDS": "0.2",
            "SCHEDULER__BIND": self.scheduler,
            "SCHEDULER__TICK_SECONDS": "0.5",
            "SCHEDULER__LEASE_SECONDS": "5",
            "ARCHIVER__BIND": archiver,
            "VLLM__DTYPE": "float32",
            "VLLM__MAX_MODEL_LEN": "64",
            "LABELS__WATERMARK_SECONDS": "1",
            "TRAINING__MIN_MINORITY_LABELS": str(_MIN_AGAINST),
            "TRAINING__REST_SECONDS": "3600",
            "TRAINING__RECIPES": json.dumps({"kto": {"batch_size": 8, "micro_batch_size": 8}}),
        }
        self._environment = {
            **os.environ,
            **{f"FEEDBACKLOOP_{name}": value for name, value in settings.items()},
        }

    def command(self, *arguments: str) -> str:
        """Run ``feedbackloop``; fail with what it said if it failed."""
        done = subprocess.run(  # noqa: S603  # our own command, from this very tree
            [sys.executable, "-m", "services.cli", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr + self.last_words()
        return done.stdout

    def up(self) -> None:
        """Start vLLM, sidecar and scheduler, and wait until they are ready."""
        self.command("up", "--model", str(self._model))

    def down(self) -> None:
        """End them."""
        self.command("down")

    def about(self, kind: str) -> set[str]:
        """Return the completions that the log's events of one kind are about."""
        lines = self.command("log", "export").splitlines()
        events = [json.loads(line)["event"] for line in lines]
        return {event["completion_id"] for event in events if event["type"] == kind}

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs as the command line shows them."""
        found: list[dict[str, Any]] = json.loads(self.command("run", "list", "--json"))
        return found

    def pid(self, name: str) -> int:
        """Return the process of one child of the supervisor."""
        state = json.loads(self.command("status", "--json"))
        pids: list[int] = [one["pid"] for one in state["processes"] if one["name"] == name]
        return pids[0]

    def trainers(self) -> set[int]:
        """Return the processes of steps that run now."""
        found = set()
        for file in self.home.glob("runs/*/*/attempt-*/process.json"):
            with contextlib.suppress(OSError, ValueError):
                pid = int(json.loads(file.read_text())["pid"])
                if b"services.trainer" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.add(pid)
        return found

    def kills_a_trainer(self) -> bool:
        """Say whether a step was running, and has been killed."""
        killed = False
        for pid in self.trainers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed = True
        return killed

    def wait_until_ready(self) -> None:
        """Wait until the sidecar would be sent traffic."""
        eventually(self._is_ready, self.last_words)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"http://{self.admin}/readyz", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def leads(self) -> bool:
        """Say whether the scheduler answers."""
        try:
            return httpx.get(f"http://{self.scheduler}/readyz", timeout=5).is_success
        except httpx.HTTPError:
            return False

    def last_words(self) -> str:
        logs = sorted((self.home / "run").glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"))
    made.up()
    yield made
    made.down()


@pytest.fixture(scope="module")
def client(house: House) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{house.bind}/v1", api_key="none", max_retries=8)


def ask(client: openai.OpenAI, number: int, *, streamed: bool) -> str:
    """Ask as one person; return the completion's id once the reply has ended."""
    question = " ".join(f"w{number % 90 + place}" for place in range(3))
    if not streamed:
        return client.chat.completions.create(
            model="assistant",
            user=f"user-{number}",
            max_tokens=24,
            messages=[{"role": "user", "content": question}],
            extra_body=_SHORT,
        ).id
    chunks = client.chat.completions.create(
        model="assistant",
        user=f"user-{number}",
        max_tokens=24,
        messages=[{"role": "user", "content": question}],
        stream=True,
        extra_body=_SHORT,
    )
    return [chunk.id for chunk in chunks][-1]


def vote(house: House, completion_id: str, thumb: str) -> int:
    body = {"completion_id": completion_id, "thumb": thumb}
    url = f"http://{house.bind}/v1/feedback"
    return httpx.post(url, json=body, headers={"idempotency-key": completion_id}).status_code


def test_what_was_served_and_voted_is_in_the_log(house: House, client: openai.OpenAI) -> None:
    """A vote needs nothing but the id that the official client was given."""
    served = [ask(client, n, streamed=n % 2 == 1) for n in range(_PEOPLE)]
    # Too few are against: no run may begin before the test that kills one.
    votes = [vote(house, one, "up" if n % 4 else "down") for n, one in enumerate(served)]

    assert votes == [202] * _PEOPLE
    wanted = set(served)
    eventually(lambda: house.about("CompletionServed") >= wanted, lambda: len(wanted))
    eventually(lambda: house.about("ThumbGiven") >= wanted, lambda: len(wanted))


def test_a_sidecar_that_is_killed_loses_nothing_and_comes_back(
    house: House, client: openai.OpenAI
) -> None:
    """What a client saw end is there after kill -9; the supervisor starts it again."""
    before = [ask(client, 100 + n, streamed=n % 2 == 1) for n in range(20)]

    os.kill(house.pid("sidecar"), signal.SIGKILL)
    house.wait_until_ready()
    after = ask(client, 200, streamed=True)

    wanted = {*before, after}
    eventually(
        lambda: house.about("CompletionServed") >= wanted,
        lambda: wanted - house.about("CompletionServed"),
    )


def test_a_run_comes_to_a_named_end_whoever_is_killed(house: House, client: openai.OpenAI) -> None:
    """Real rows, real training, a real verdict: on random weights, that there is no evidence."""
    served = [ask(client, n, streamed=False) for n in range(300, 300 + _PEOPLE)]
    assert house.runs() == []
    # Quickly: the run begins a second after the votes that it waits for.
    votes = [vote(house, one, "up" if n % 2 else "down") for n, one in enumerate(served)]
    assert votes == [202] * _PEOPLE
    eventually(house.kills_a_trainer, house.runs)
    os.kill(house.pid("scheduler"), signal.SIGKILL)
    eventually(house.leads, house.last_words)
    deadline = time.monotonic() + _PATIENCE_SECONDS

    while not (
        runs := [r for r in house.runs() if r["state"] in ("refused", "promoted", "failed")]
    ):
        assert time.monotonic() < deadline, house.runs()
        time.sleep(2)

    (run,) = runs
    assert run["state"] in ("refused", "promoted"), run["reason"]
    assert run["reason"]
    assert set(run["facts"]) >= {"snapshot", "train", "evaluate", "times"}, run["reason"]
    assert run["facts"]["evaluate"]["outcome"] in ("pass", "fail", "insufficient")
    attempts = {file.parent.name for file in house.home.glob("runs/*/*/*/process.json")}
    assert "attempt-2" in attempts


@pytest.mark.parametrize("path", ["/adapters", "/invocations", "/v1/load_lora_adapter", "/metrics"])
def test_vllms_own_routes_are_out_of_reach(house: House, path: str) -> None:
    """Whoever reaches them could replace the model for everyone."""
    answer = httpx.post(f"http://{house.bind}{path}", json={})

    assert answer.status_code == 404
    assert answer.json()["error"]["message"]
