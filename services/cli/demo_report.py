"""What ``feedbackloop demo`` measured: the report for programs, and what fell short."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

Json = dict[str, Any]

_SIGNALS = {"ThumbGiven", "OutcomeReported", "RatingGiven", "CorrectionGiven"}
_OURS = {"thanked"}  # outcomes that we inferred: nobody posted them
_VERSIONS = ("feedbackloop", "torch", "transformers", "trl", "peft", "fastapi")


def compare(events: Iterable[Json], ledgers: Sequence[Json]) -> Json:
    """Hold the log against what the simulated people know that they sent."""
    sent = {one for ledger in ledgers for one in ledger["completions"]}
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
        "votes": {"sent": len(voted), "accepted": len(voted), "logged": len(voted & votes)},
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
    if not rest or rest[0]["promoted"] or rest[0]["verdict"] == "pass":
        found.append("the deliberately bad round was not refused")
    if report["capture_loss"]:
        found.append(f"{report['capture_loss']} records are not in the log")
    swap = report["swap"]
    if swap["failed"] is None or swap["failed"]:
        found.append(f"requests failed during the swap: {swap['failed']}")
    if swap["misattributed"]:
        found.append(f"{swap['misattributed']} replies name another release than answered")
    return found


def versions() -> Mapping[str, str]:
    """Name what this was measured with."""
    return {name: version(name) for name in _VERSIONS}


def _change(what: str, before: Json | None, after: Json | None) -> Json:
    if before is None or after is None:
        return {"before": None, "after": None, "interval": None}
    return {
        "before": before[what]["mean"],
        "after": after[what]["mean"],
        "interval": list(after[what]["interval"]),
    }
