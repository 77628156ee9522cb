"""``feedbackloop demo``: the whole loop on this machine, with simulated people."""

import json
import signal
import sys
import time
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Annotated

import typer

from services.cli import demo_report
from services.cli.demo_kills import Killer, settle
from services.cli.demo_loop import ALIAS, CLOCK_SCALE, Demo
from services.cli.demo_report import Json
from services.cli.output import REFUSED, err, explained, out

_ENDED = ("promoted", "refused", "failed", "cancelled")
_OTHER = {"method": "kto", "learning_rate": "2e-4", "beta": "0.1", "epochs": "1"}
_BAD = _OTHER | {"learning_rate": "3e-3"}
_SETTLE_SECONDS = 60.0


def demo(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
    seed: Annotated[int, typer.Option(help="Of the model and of the people.")] = 0,
    first_answers: Annotated[int, typer.Option(help="Questions that people ask at most.")] = 20_000,
    kills: Annotated[
        int, typer.Option(help="kill -9 so often, until the canary: sidecar, scheduler, trainer.")
    ] = 0,
    keep: Annotated[bool, typer.Option(help="Leave the loop running.")] = False,
    folder: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".demo"),
) -> None:
    """Let simulated people make a small model better, and see a bad round refused."""
    began = time.monotonic()
    # Told to end, it ends its loop too, as it does at Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    one = Demo(folder, seed=seed)
    with explained():
        one.clear()
        _say("1/8 the model", "a small Llama, made on the spot the first time")
        model = one.model()
        _say("2/8 the loop", "vLLM, sidecar and scheduler; this profile of settings:")
        for name, value in one.profile.items():
            out.print(f"    FEEDBACKLOOP_{name}={value}", markup=False, soft_wrap=True)
        out.print(f"    (the clock: waiting times are a {CLOCK_SCALE}th of the defaults)")
        try:
            one.up(str(model["model"]))
            report = _tell_the_story(one, first_answers=first_answers, kills=kills, seed=seed)
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
    _conclude(report)


def _conclude(report: Json) -> None:
    demo_report.show(report)
    problems = demo_report.shortcomings(report)
    for problem in problems:
        err.print(f"fell short: {problem}", style="red", markup=False)
    if problems:
        raise typer.Exit(REFUSED)


def _tell_the_story(one: Demo, *, first_answers: int, kills: int, seed: int) -> Json:
    _say("3/8 before", "what people think of the base, on questions that nobody trains on")
    before = one.people("measure", "before", "--seed", str(seed))
    one.people("record", "record", *one.probes())
    _say("4/8 traffic", "people ask; thumbs, retries and copies come back, until a run is due")
    voted_at = datetime.now(UTC)
    killer = Killer(one.home, kills=kills, random=Random(seed))  # noqa: S311  # no secret
    with killer.at_work() if kills else nullcontext():
        good = _train(one, first_answers=first_answers, seed=seed)
    settle(one.home, seconds=_SETTLE_SECONDS)
    good, swap = _roll_out(one, good, seed=seed)
    _say("6/8 after", "the same questions again")
    after = one.people("measure", "after", "--seed", str(seed))
    _say("7/8 two more rounds", "KTO on the same window, against what serves by now")
    other = _another_round(one, good, _OTHER, why="the other method")
    out.print(f"    and the same once more at {_BAD['learning_rate']}: the gate has to refuse it")
    bad = _another_round(one, good, _BAD, why="deliberately bad: the learning rate")
    _say("8/8 the way back", "rollback, while nobody waits for it")
    rollback = _rollback(one) if good["state"] == "promoted" else None
    time.sleep(1)
    return {
        **demo_report.compare(one.events(), one.ledgers),
        "feedback_to_served_seconds": demo_report.stages(good, first_vote=voted_at),
        "swap": swap,
        "rollback_seconds": rollback,
        "convergence_seconds": good["facts"].get("canary", {}).get("convergence_seconds"),
        "rounds": [
            demo_report.a_round(good, before, after),
            demo_report.a_round(other, None, None),
            demo_report.a_round(bad, None, None),
        ],
        "kills": dict(killer.killed),
        "machine": demo_report.machine(),
        "versions": dict(demo_report.versions()),
        "clock_scale": float(CLOCK_SCALE),
        "seed": seed,
    }


def _train(one: Demo, *, first_answers: int, seed: int) -> Json:
    """Let people ask until a run is due; follow it to its canary or its end."""
    count = ("--first-answers", str(first_answers))
    with one.meanwhile("traffic", "traffic", "--seed", str(seed), *count) as asked:
        run = one.wait(("train", *_ENDED))
    asked()
    _say("5/8 a round", "snapshot, training, gate; then canary and swap on live traffic")
    return one.wait(("canary", *_ENDED), run=run["run"])


def _roll_out(one: Demo, run: Json, *, seed: int) -> tuple[Json, Json]:
    """See a canary through under traffic, with requests in flight all the time."""
    # What was not measured is null: a round that is refused at the gate swaps nothing.
    told = ("in_flight", "requests", "judged", "misattributed", "unexplained")
    swap: Json = dict.fromkeys((*told, "failed"))
    if run["state"] != "canary":
        return run, swap
    more = ("--first-answers", "0", "--seed", str(seed + 1000))
    with one.meanwhile("watch", "watch", *one.probes()) as watched:
        with one.meanwhile("traffic", "rollout", *more) as rolled_out:
            run = one.wait(_ENDED, run=run["run"])
        rolled_out()
    seen = watched()
    return run, {**{name: seen[name] for name in told}, "failed": seen["failed_in_flight"]}


def _another_round(one: Demo, good: Json, recipe: Json, *, why: str) -> Json:
    """Train on the good round's window in another way; nobody is there to try it on."""
    knobs = [part for name, value in recipe.items() for part in ("--set", f"{name}={value}")]
    rows = ("--snapshot", good["facts"]["snapshot"]["digest"])
    started = json.loads(one.command("run", "start", *knobs, *rows, "--why", why, "--json"))
    run = one.wait(("canary", *_ENDED), run=started["run"])
    if run["state"] == "canary":
        one.command("run", "cancel", run["run"])
        run = one.wait(_ENDED, run=run["run"])
    return run


def _rollback(one: Demo) -> float:
    """Go back to the previous release, and return how long the sidecar took to follow."""
    said = one.command("release", "rollback", ALIAS, "--why", "demonstration", "--json")
    seconds: float = json.loads(said)["seconds"]
    return seconds


def _say(step: str, what: str) -> None:
    out.print(f"[bold]{step}[/]: ", end="")
    out.print(what, markup=False, highlight=False)


def _install_seconds() -> float | None:
    file = Path(sys.prefix) / ".install-seconds"
    with suppress(OSError, ValueError):
        return float(file.read_text())
    return None
