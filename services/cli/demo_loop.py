"""The loop of a demonstration: a folder, the processes in it, and people who talk to them.

The people are another program that shares nothing with the loop: it is started as a process, and
talks to the loop over HTTP like anybody's client.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from feedbackloop.errors import FeedbackLoopError, StateUnavailable
from services import supervisor
from services.cli.api import Api
from services.cli.demo_report import Json, short
from services.cli.output import out, telling
from services.sections.learning import Canary, Labels, Training

CLOCK_SCALE = 200
"""How much faster than in production time passes: an hour of waiting is 18 seconds here."""

ALIAS = "assistant"
_POLL_SECONDS = 0.5
_RUN_SECONDS = 900.0
_WATCHERS = 16
_GOODBYE_SECONDS = 90.0

PROFILE = {
    "VLLM__DTYPE": "float32",
    "VLLM__MAX_MODEL_LEN": "512",
    "SIDECAR__CONVERGE_SECONDS": "0.2",
    "SCHEDULER__TICK_SECONDS": "0.5",
    "SCHEDULER__LEASE_SECONDS": "5",
    "RETRIES__MAX_PER_MINUTE": "0",
    "LABELS__WATERMARK_SECONDS": f"{Labels().watermark_seconds / CLOCK_SCALE:g}",
    "DATASET__HOLDOUT_SHARE": "0.2",
    "DATASET__MAX_RATIO": "1.0",
    "TRAINING__MIN_PAIRS": "800",
    "TRAINING__MIN_MINORITY_LABELS": "100000",
    "TRAINING__REST_SECONDS": f"{Training().rest_seconds / CLOCK_SCALE:g}",
    "TRAINING__RECIPES": json.dumps(
        {"dpo": {"learning_rate": 1e-3, "beta": 0.1, "epochs": 3, "nll_weight": 3.0}}
    ),
    "CANARY__SHARES": "[0.5]",
    "CANARY__DWELL_SECONDS": f"{Canary().dwell_seconds / CLOCK_SCALE:g}",
    "CANARY__MATURITY_SECONDS": f"{Canary().maturity_seconds / CLOCK_SCALE:g}",
}
"""Ordinary settings: the waiting times are the defaults on the faster clock, a run waits for pairs
and not for labels, the recipe suits so small a base, and half of the people meet the canary."""


class Demo:
    """One demonstration: a folder, a loop in it, and people who talk to it."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._port = os.environ.get("FEEDBACKLOOP_SIDECAR__BIND", "127.0.0.1:8080")
        self.home = folder / "home"
        suite = folder / "suite" / "demo-capability.yaml"
        self.profile = PROFILE | {"GATE__SUITES": json.dumps([str(suite.resolve())])}
        ours = {f"FEEDBACKLOOP_{name}": value for name, value in self.profile.items()}
        self._environment = {
            **os.environ,
            **ours,
            "FEEDBACKLOOP_HOME": str(self.home.resolve()),
            "HF_HUB_OFFLINE": "1",
        }
        self.ledgers: list[Json] = []
        self._api = Api()

    def model(self) -> Json:
        """Make the base, or find it made."""
        out_folder = str(self._folder / "model")
        return self._people("demo.model", "--out", out_folder, "--seed", str(self._seed))

    def up(self, model: str) -> None:
        """Start the loop in a fresh home, with the gate's suite beside it."""
        self._people("demo.users", "suite", "--out", str(self._folder / "suite"))
        self.command("up", "--model", model)

    def down(self) -> None:
        """End the loop."""
        with suppress(FeedbackLoopError):
            self.command("down")

    def command(self, *arguments: str) -> str:
        """Run one of our own commands; return what it printed."""
        done = subprocess.run(  # noqa: S603  # this very program
            [sys.executable, "-m", "services.cli", *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise FeedbackLoopError(f"`feedbackloop {' '.join(arguments)}` failed")
        return done.stdout

    def people(self, mode: str, name: str, *arguments: str) -> Json:
        """Let people do something to its end; return their report."""
        report, ledger = self._folder / f"{name}.json", self._folder / f"{name}.ledger.json"
        files = ("--out", str(report), "--ledger", str(ledger))
        self._people("demo.users", mode, *self._where(), *files, *arguments)
        return self._read(report, ledger)

    @contextmanager
    def meanwhile(self, mode: str, name: str, *arguments: str) -> Iterator[Callable[[], Json]]:
        """Let people do something for as long as the context lasts."""
        report, ledger = self._folder / f"{name}.json", self._folder / f"{name}.ledger.json"
        files = ("--out", str(report), "--ledger", str(ledger))
        command = (sys.executable, "-m", "demo.users", mode, *self._where(), *files, *arguments)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603  # as below
        try:
            yield lambda: self._read(report, ledger)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_GOODBYE_SECONDS)

    def events(self) -> Iterator[Json]:
        """Read the log, as anyone can."""
        for line in self.command("log", "export").splitlines():
            yield json.loads(line)["event"]

    def runs(self, run: str | None) -> list[Json]:
        """Return one run, or all of them, newest first."""
        found: list[Json] = self._api.get("/api/runs")
        return [one for one in found if run is None or one["run"] == run]

    def probes(self) -> tuple[str, ...]:
        """Return what those who watch a swap ask, and where they note what each release says."""
        known = str(self._folder / "known.json")
        return ("--watchers", str(_WATCHERS), "--known", known, "--seed", str(self._seed))

    def wait(self, states: Collection[str], *, run: str | None = None) -> Json:
        """Wait until a run is in one of ``states``; show how far it is.

        Args:
            states: Where it may stop.
            run: Which one; None for the first that there is.

        Raises:
            FeedbackLoopError: If that takes minutes too long; the message says where it stands.
        """
        deadline = time.monotonic() + _RUN_SECONDS
        stands = "no run was started"
        with telling("waiting for a run ...") as tell:
            while time.monotonic() < deadline:
                with suppress(StateUnavailable):  # a scheduler that was killed is started again
                    found = self.runs(run)
                    stands = _stands(found[-1]) if found else self._due()
                    if found and found[-1]["state"] in states:
                        out.print(f"    {stands}", markup=False, soft_wrap=True)
                        return found[-1]
                tell(stands)
                time.sleep(_POLL_SECONDS)
        raise FeedbackLoopError(f"not {' or '.join(states)} after {_RUN_SECONDS:.0f} s: {stands}")

    def clear(self) -> None:
        """Begin with an empty home; what an earlier demonstration left is no use to this one.

        Raises:
            FeedbackLoopError: If a loop is up there.
        """
        if supervisor.read_state(self.home.resolve()) is not None:
            raise FeedbackLoopError(f"a loop is up in {self.home}: end it with `feedbackloop down`")
        shutil.rmtree(self.home, ignore_errors=True)
        (self._folder / "known.json").unlink(missing_ok=True)

    def _due(self) -> str:
        return str(self._api.get(f"/api/plan/{ALIAS}")["reason"])

    def _where(self) -> tuple[str, ...]:
        return ("--base-url", f"http://{self._port}/v1", "--model", ALIAS)

    def _read(self, report: Path, ledger: Path) -> Json:
        self.ledgers.append(json.loads(ledger.read_text()))
        found: Json = json.loads(report.read_text())
        return found

    def _start(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603  # the demonstration's own program
            [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True
        )

    def _people(self, module: str, *arguments: str) -> Json:
        """Run a program of the demonstration, showing its progress; return its last line."""
        process = self._start(module, *arguments)
        last: Json = {}
        assert process.stdout is not None  # noqa: S101  # asked for above
        try:
            with telling(f"{module} ...") as tell:
                for line in process.stdout:
                    with suppress(ValueError):
                        last = json.loads(line)
                        tell(f"{module}: {short(last)}")
        except BaseException:
            process.terminate()  # nobody goes on asking when the demonstration was told to end
            raise
        finally:
            code = process.wait(_GOODBYE_SECONDS)
        if code != 0:
            raise FeedbackLoopError(f"{module} ended with {code}")
        return last


def _stands(run: Json) -> str:
    return f"{run['run']} is in {run['state']}: {run['reason']}"
