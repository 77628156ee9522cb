"""What ``feedbackloop demo`` measured: for programs, as a table, and what fell short."""

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from math import sqrt
from statistics import mean
from typing import Any

from services.cli.output import out, table

Json = dict[str, Any]

_SIGNALS = {"ThumbGiven", "OutcomeReported", "RatingGiven", "CorrectionGiven"}
_OURS = {"thanked"}  # outcomes that we inferred: nobody posted them
_Z = 1.96
_CAPABILITY_POINTS = 0.02
_UNEXPLAINED_SHARE = 0.01  # a near tie between two words can fall otherwise in another batch
_VERSIONS = ("feedbackloop", "torch", "transformers", "trl", "peft", "fastapi")


def compare(events: Iterable[Json], ledgers: Sequence[Json]) -> Json:
    """Hold the log against what the simulated people know that they sent."""
    sent = {one for ledger in ledgers for one in ledger["completions"]}
    tried = {tuple(one) for ledger in ledgers for one in ledger["votes_sent"]}
    voted = {tuple(one) for ledger in ledgers for one in ledger["votes"]}
    retried = {tuple(one) for ledger in ledgers for one in ledger["retries"]}
    served: set[str] = set()
    votes: set[tuple[str, ...]] = set()
    found: set[tuple[str, ...]] = set()
    for event in events:
        kind = event["type"]
        if kind == "CompletionServed" and event["outcome"] == "complete":
            served.add(event["completion_id"])
        elif kind in _SIGNALS and event.get("outcome") not in _OURS:
            name = "thumb" if kind == "ThumbGiven" else "outcome"
            votes.add((event["completion_id"], name))
        elif kind == "PromptRetried":
            found.add((event["completion_id"], event["retry_id"]))
    return {
        "completions": {"sent": len(sent), "logged": len(sent & served)},
        "votes": {"sent": len(tried), "accepted": len(voted), "logged": len(voted & votes)},
        "retries": {
            "sent": len(retried),
            "detected": len(retried & found),
            "false": len(found - retried),
        },
        "capture_loss": len(sent - served) + len(voted - votes),
    }


def stages(run: Json, *, first_vote: datetime | None) -> Json:
    """Work out how long each stage took, in seconds, from a run's own record."""
    times = {name: datetime.fromisoformat(at) for name, at in run["facts"]["times"].items()}
    order = ("snapshot", "train", "evaluate", "canary", "promoted")
    if any(name not in times for name in order):
        return dict.fromkeys(("total", "labels", "dataset", "train", "gate", "canary", "swap"))

    def between(start: str, end: str) -> float:
        return round((times[end] - times[start]).total_seconds(), 2)

    start = first_vote or times["snapshot"]
    return {
        "total": round((times["promoted"] - start).total_seconds(), 2),
        "labels": round((times["snapshot"] - start).total_seconds(), 2),
        "dataset": between("snapshot", "train"),
        "train": between("train", "evaluate"),
        "gate": between("evaluate", "canary"),
        "canary": between("canary", "promoted"),
        "swap": run["facts"].get("canary", {}).get("convergence_seconds"),
    }


def a_round(run: Json, before: Json | None, after: Json | None) -> Json:
    """Describe one run; what was not measured around it is null."""
    facts = run["facts"]
    report = facts.get("train", {}).get("report", {})
    return {
        "run": run["run"],
        "method": report.get("method"),
        "rows": report.get("rows"),
        "verdict": facts.get("evaluate", {}).get("outcome"),
        "promoted": run["state"] == "promoted",
        "reason": run["reason"],
        "release": facts.get("canary", {}).get("release"),
        "loss": [report.get("first_loss"), report.get("last_loss")],
        "satisfaction": _change("satisfaction", before, after),
        "capability": _change("capability", before, after),
    }


def shortcomings(report: Json) -> list[str]:
    """Say in words what the loop did not do that it had to."""
    found = []
    good, *rest = report["rounds"] or [None]
    if good is None or not good["promoted"]:
        found.append("the first round was not promoted")
    if not rest or rest[-1]["promoted"] or rest[-1]["verdict"] != "fail":
        found.append("the deliberately bad round was not refused")
    found += _not_better(good) if good is not None and good["promoted"] else []
    found += _not_captured(report)
    swap = report["swap"]
    if swap["failed"] is None or swap["failed"]:
        found.append(f"requests failed during the swap: {swap['failed']}")
    if not swap["judged"]:
        found.append("nothing tells which release answered during the swap")
    if swap["misattributed"]:
        found.append(f"{swap['misattributed']} replies name another release than answered")
    if swap["unexplained"] and swap["unexplained"] > _UNEXPLAINED_SHARE * swap["judged"]:
        found.append(f"{swap['unexplained']} replies say what no release is known to say")
    if good is not None and good["promoted"] and report["rollback_seconds"] is None:
        found.append("nothing was rolled back")
    return found


def _not_captured(report: Json) -> list[str]:
    """Say what people sent and the log does not have."""
    found = []
    if report["capture_loss"]:
        found.append(f"{report['capture_loss']} records are not in the log")
    refused = report["votes"]["sent"] - report["votes"]["accepted"]
    if refused:
        found.append(f"{refused} votes were not taken")
    missed = report["retries"]["sent"] - report["retries"]["detected"]
    if missed:
        found.append(f"{missed} retries were not detected")
    return found


def _not_better(promoted: Json) -> list[str]:
    """Say what people and examiners hold against a release that was promoted."""
    found = []
    if promoted["satisfaction"]["gain"]["interval"][0] <= 0:
        found.append("people are not shown to be happier with the new release")
    if promoted["capability"]["after"] < promoted["capability"]["before"] - _CAPABILITY_POINTS:
        found.append(f"capability fell by more than {_CAPABILITY_POINTS:.0%}")
    return found


def versions() -> Mapping[str, str]:
    """Name what this was measured with."""
    return {name: version(name) for name in _VERSIONS}


def _change(what: str, before: Json | None, after: Json | None) -> Json:
    if before is None or after is None:
        return {"before": None, "after": None, "interval": None, "gain": None}
    first, second = before["scores"][what], after["scores"][what]
    return {
        "before": before[what]["mean"],
        "after": after[what]["mean"],
        "interval": list(after[what]["interval"]),
        "gain": _relative_gain(
            [(first[asked], second[asked]) for asked in first if asked in second]
        ),
    }


def _relative_gain(pairs: Sequence[tuple[float, float]]) -> Json:
    """Compare two scores of the same questions: the ratio of their means, less one.

    The interval is normal, at 95 %, by the delta method: the error of a ratio r of paired means
    is that of the mean of ``after - r * before``, over the mean before.
    """
    before = mean(one for one, _ in pairs)
    ratio = mean(other for _, other in pairs) / before
    rests = [other - ratio * one for one, other in pairs]
    error = sqrt(mean(rest**2 for rest in rests) / len(rests)) / before
    return {"relative": ratio - 1, "interval": [ratio - 1 - _Z * error, ratio - 1 + _Z * error]}


def machine() -> Json:
    """Say what this was measured on."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cores": os.cpu_count(), "memory_gib": round(memory_bytes / 2**30)}


def show(report: Json) -> None:
    """Print the table that everything was for."""
    rounds = report["rounds"]
    columns = ("run", "trained", "loss", "gate", "end", "satisfaction", "capability")
    table(columns, [_row(one) for one in rounds], title="Rounds")
    for one in rounds:
        out.print(f"{one['run']}: {one['reason']}", markup=False, soft_wrap=True)
    seconds = report["feedback_to_served_seconds"]
    swap = report["swap"]
    facts = [
        ("completions sent, logged", _pair(report["completions"], "sent", "logged")),
        ("votes sent, logged", _pair(report["votes"], "sent", "logged")),
        ("retries sent, detected, false", _pair(report["retries"], "sent", "detected", "false")),
        ("capture loss", report["capture_loss"]),
        ("feedback to served, seconds", short({k: v for k, v in seconds.items() if v})),
        (
            "swap: requests, failed, judged, misattributed, unexplained",
            _pair(swap, "requests", "failed", "judged", "misattributed", "unexplained"),
        ),
        (
            "convergence, rollback, seconds",
            _pair(report, "convergence_seconds", "rollback_seconds"),
        ),
        ("seconds", short({k: v for k, v in report["seconds"].items() if v is not None})),
    ]
    table(("what", "measured"), facts, title="The loop")


def _row(one: Json) -> tuple[str | None, ...]:
    """Put a round into one row."""
    first, last = one["loss"]
    return (
        one["run"],
        f"{one['method']}, {one['rows']} rows",
        "" if first is None else f"{first:.3f} to {last:.3f}",
        one["verdict"],
        "promoted" if one["promoted"] else "not shipped",
        _arrow(one["satisfaction"]),
        _arrow(one["capability"]),
    )


def _arrow(change: Json) -> str:
    if change["before"] is None:
        return ""
    low, high = change["gain"]["interval"]
    relative = f"{change['gain']['relative']:+.0%}, {low:+.0%} to {high:+.0%}"
    return f"{change['before']:.3f} to {change['after']:.3f} ({relative})"


def _pair(values: Json, *names: str) -> str:
    return ", ".join(str(values[name]) for name in names)


def short(values: Json) -> str:
    """Put a few figures into one line."""
    return ", ".join(f"{k} {v}" for k, v in values.items() if isinstance(v, str | int | float))
