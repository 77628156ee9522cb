"""``feedbackloop demo``: the whole loop on this machine, with simulated people.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from feedbackloop.errors import FeedbackLoopError
from services import supervisor
from services.cli import demo_report
from services.cli.demo_report import Json
from services.cli.output import REFUSED, err, explained, out, table

_ALIAS = "assistant"
_ENDED = {"promoted", "refused", "failed", "cancelled"}
_POLL_SECONDS = 0.5
_RUN_SECONDS = 420.0
_BAD = {"method": "kto", "learning_rate": "3e-3", "beta": "0.1", "epochs": "1"}

PROFILE = {
    "VLLM__DTYPE": "float32",
    "VLLM__MAX_MODEL_LEN": "512",
    "SIDECAR__CONVERGE_SECONDS": "0.2",
    "SCHEDULER__TICK_SECONDS": "0.5",
    "RETRIES__MIN_GAP_SECONDS": "0",
    "LABELS__WATERMARK_SECONDS": "3",
    "DATASET__HOLDOUT_SHARE": "0.2",
    "DATASET__MAX_RATIO": "1.0",
    "TRAINING__MIN_PAIRS": "560",
    "TRAINING__MIN_MINORITY_LABELS": "100000",
    "TRAINING__REST_SECONDS": "3600",
    "TRAINING__RECIPES": json.dumps(
        {"dpo": {"learning_rate": 5e-4, "beta": 0.1, "epochs": 2, "nll_weight": 3.0}}
    ),
    "CANARY__SHARES": "[0.5]",
    "CANARY__DWELL_SECONDS": "10",
    "CANARY__MATURITY_SECONDS": "4",
    "CANARY__MIN_UNITS": "100",
}
"""Ordinary settings: waiting times for a clock on which a day lasts a minute or so."""


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
        process = self._start("demo.users", mode, *self._where(), *files, *arguments)
        try:
            yield lambda: self._read(report, ledger)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)

    def events(self) -> Iterator[Json]:
        """Read the log, as anyone can."""
        for line in self.command("log", "export").splitlines():
            yield json.loads(line)["event"]

    def runs(self) -> list[Json]:
        """List the runs, newest first."""
        found: list[Json] = json.loads(self.command("run", "list", "--json"))
        return found

    def _where(self) -> tuple[str, ...]:
        return ("--base-url", f"http://{self._port}/v1", "--model", _ALIAS)

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
        with err.status(f"{module} ...") as status:
            for line in process.stdout:
                with suppress(ValueError):
                    last = json.loads(line)
                    status.update(f"{module}: {_short(last)}")
        if process.wait() != 0:
            raise FeedbackLoopError(f"{module} ended with {process.returncode}")
        return last


def demo(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
    seed: Annotated[int, typer.Option(help="Of the model and of the people.")] = 0,
    first_answers: Annotated[int, typer.Option(help="Questions that people begin with.")] = 6_000,
    keep: Annotated[bool, typer.Option(help="Leave the loop running.")] = False,
    folder: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".demo"),
) -> None:
    """Let simulated people make a small model better, and see a bad round refused."""
    began = time.monotonic()
    one = Demo(folder, seed=seed)
    with explained():
        _clear(one.home)
        _say("1/8 the model", "a small Llama, made on the spot the first time")
        model = one.model()
        _say("2/8 the loop", "vLLM, sidecar and scheduler; this profile of settings:")
        for name, value in one.profile.items():
            out.print(f"    FEEDBACKLOOP_{name}={value}", markup=False, highlight=False)
        try:
            one.up(str(model["model"]))
            report = _tell_the_story(one, first_answers=first_answers, seed=seed)
        finally:
            if not keep:
                one.down()
    report["seconds"] = {
        "install": _install_seconds(),
        "model": model["seconds"],
        "total": round(time.monotonic() - began, 1),
    }
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2))
    _show(report)
    problems = demo_report.shortcomings(report)
    for problem in problems:
        err.print(f"fell short: {problem}", style="red", markup=False)
    if problems:
        raise typer.Exit(REFUSED)


def _tell_the_story(one: Demo, *, first_answers: int, seed: int) -> Json:
    _say("3/8 before", "what people think of the base, on questions that nobody trains on")
    before = one.people("measure", "before", "--seed", str(seed))
    _say("4/8 traffic", f"{first_answers} questions; thumbs, retries and copies come back")
    voted_at = datetime.now(UTC)
    count = ("--first-answers", str(first_answers))
    one.people("traffic", "traffic", "--seed", str(seed), *count)
    _say("5/8 a round", "the scheduler has noticed: snapshot, training, gate, canary, swap")
    known = str(one.home.parent / "known.json")
    watch = ("--watchers", "16", "--known", known, "--seed", str(seed))
    more = ("--first-answers", "0", "--seed", str(seed + 1000))
    good = _wait(one, {"canary", *_ENDED}, nth=1)
    # What was not measured is null: a round that is refused at the gate swaps nothing.
    swap: Json = dict.fromkeys(("in_flight", "requests", "failed_in_flight", "misattributed"))
    if good["state"] == "canary":
        with one.meanwhile("watch", "watch", *watch) as watched:
            with one.meanwhile("traffic", "rollout", *more) as rolled_out:
                good = _wait(one, _ENDED, nth=1)
            rolled_out()
        swap = watched()
    _say("6/8 after", "the same questions again")
    after = one.people("measure", "after", "--seed", str(seed))
    _say("7/8 a bad round", f"the same rows, and {_BAD}: the gate has to refuse it")
    bad = _bad_round(one, good)
    _say("8/8 the way back", "rollback, while nobody waits for it")
    rollback = _rollback(one) if good["state"] == "promoted" else None
    time.sleep(1)
    return {
        **demo_report.compare(one.events(), one.ledgers),
        "feedback_to_served_seconds": demo_report.stages(good, first_vote=voted_at),
        "swap": {
            "in_flight": swap["in_flight"],
            "requests": swap["requests"],
            "failed": swap["failed_in_flight"],
            "misattributed": swap["misattributed"],
        },
        "rollback_seconds": rollback,
        "convergence_seconds": good["facts"].get("canary", {}).get("convergence_seconds"),
        "rounds": [
            demo_report.a_round(good, before, after),
            demo_report.a_round(bad, None, None),
        ],
        "machine": {
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        },
        "versions": dict(demo_report.versions()),
        "clock_scale": 1.0,
        "seed": seed,
    }


def _bad_round(one: Demo, good: Json) -> Json:
    """Train on the good round's rows with a rate that breaks the model."""
    knobs = [part for name, value in _BAD.items() for part in ("--set", f"{name}={value}")]
    digest = good["facts"]["snapshot"]["digest"]
    one.command("run", "start", *knobs, "--snapshot", digest, "--why", "deliberately bad: the rate")
    return _wait(one, _ENDED, nth=2)


def _rollback(one: Demo) -> float:
    """Go back to the previous release, and return how long the sidecar took to follow."""
    said = one.command("release", "rollback", _ALIAS, "--why", "demonstration", "--json")
    seconds: float = json.loads(said)["seconds"]
    return seconds


def _wait(one: Demo, states: set[str], *, nth: int) -> Json:
    """Wait until the ``nth`` run is in one of ``states``; show how far it is."""
    deadline = time.monotonic() + _RUN_SECONDS
    with err.status("waiting for a run ...") as status:
        while time.monotonic() < deadline:
            runs = one.runs()
            if len(runs) >= nth:
                run = runs[-nth]
                status.update(f"{run['run']} is in {run['state']}: {run['reason']}")
                if run["state"] in states:
                    out.print(f"    {run['run']}: {run['state']}: {run['reason']}", markup=False)
                    return run
            time.sleep(_POLL_SECONDS)
    raise FeedbackLoopError(f"no run came to {', '.join(sorted(states))} in {_RUN_SECONDS:.0f} s")


def _say(step: str, what: str) -> None:
    out.print(f"[bold]{step}[/]: ", end="")
    out.print(what, markup=False, highlight=False)


def _short(values: Json) -> str:
    return ", ".join(f"{k} {v}" for k, v in values.items() if isinstance(v, str | int | float))


def _clear(home: Path) -> None:
    """Begin with an empty home; what an earlier demonstration left is no use to this one."""
    if supervisor.read_state(home.resolve()) is not None:
        raise FeedbackLoopError(f"a loop is up in {home}: end it with `feedbackloop down`")
    shutil.rmtree(home, ignore_errors=True)


def _install_seconds() -> float | None:
    file = Path(sys.prefix) / ".install-seconds"
    with suppress(OSError, ValueError):
        return float(file.read_text())
    return None


def _show(report: Json) -> None:
    """Print the table that everything was for."""
    rows: list[tuple[Any, ...]] = []
    for one in report["rounds"]:
        said, able = one["satisfaction"], one["capability"]
        rows.append(
            (
                one["run"],
                f"{one['method']}, {one['rows']} rows",
                f"{one['loss'][0]:.3f} to {one['loss'][1]:.3f}" if one["loss"][0] else "",
                one["verdict"],
                "promoted" if one["promoted"] else "not shipped",
                _arrow(said),
                _arrow(able),
                one["reason"],
            )
        )
    columns = ("run", "trained", "loss", "gate", "end", "satisfaction", "capability", "why")
    table(columns, rows, title="Rounds")
    seconds = report["feedback_to_served_seconds"]
    swap = report["swap"]
    facts = [
        ("completions sent, logged", _pair(report["completions"], "sent", "logged")),
        ("votes sent, logged", _pair(report["votes"], "sent", "logged")),
        ("retries sent, detected, false", _pair(report["retries"], "sent", "detected", "false")),
        ("capture loss", report["capture_loss"]),
        ("feedback to served, seconds", _short({k: v for k, v in seconds.items() if v})),
        ("swap: requests, failed", _pair(swap, "requests", "failed", "misattributed")),
        (
            "convergence, rollback, seconds",
            _pair(report, "convergence_seconds", "rollback_seconds"),
        ),
        ("seconds", _short({k: v for k, v in report["seconds"].items() if v is not None})),
    ]
    table(("what", "measured"), facts, title="The loop")


def _arrow(change: Json) -> str:
    if change["before"] is None:
        return ""
    low, high = change["interval"]
    return f"{change['before']:.3f} to {change['after']:.3f} ({low:.3f} to {high:.3f})"


def _pair(values: Json, *names: str) -> str:
    return ", ".join(str(values[name]) for name in names)
