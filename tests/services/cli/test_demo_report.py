"""What the demonstration tells about itself: every claim in it could come out the other way."""

from typing import Any

import pytest

from services.cli import demo_report

Json = dict[str, Any]


def an_exam(scores: dict[str, float]) -> Json:
    """An examination in which each question scored so."""
    measured = {"mean": sum(scores.values()) / len(scores), "interval": (0.0, 1.0)}
    return {
        "satisfaction": measured,
        "capability": measured,
        "scores": {"satisfaction": scores, "capability": scores},
    }


def a_run(**changed: Any) -> Json:
    return {"run": "run-1", "state": "promoted", "reason": "", "facts": {}, **changed}


def a_round(**changed: Any) -> Json:
    """A round that was promoted, and rightly."""
    return {
        "promoted": True,
        "verdict": "pass",
        "satisfaction": {"gain": {"interval": [0.2, 0.4]}},
        "capability": {"before": 0.99, "after": 0.98},
        **changed,
    }


def a_report(**changed: Any) -> Json:
    """A demonstration in which everything went well."""
    good = a_round()
    bad = a_round(promoted=False, verdict="fail")
    other = a_round(promoted=False, verdict="insufficient")
    return {
        "rounds": [good, other, bad],
        "votes": {"sent": 9, "accepted": 9},
        "retries": {"sent": 9, "detected": 9},
        "capture_loss": 0,
        "swap": a_swap(),
        "rollback_seconds": 0.2,
        **changed,
    }


def a_swap(**changed: Any) -> Json:
    return {"failed": 0, "judged": 9, "misattributed": 0, "unexplained": 0, **changed}


def a_ledger(**changed: Any) -> Json:
    return {"completions": [], "votes_sent": [], "votes": [], "retries": [], **changed}


def served(completion_id: str) -> Json:
    return {"type": "CompletionServed", "outcome": "complete", "completion_id": completion_id}


def test_a_completion_or_vote_that_is_not_in_the_log_is_a_loss() -> None:
    """The one number that says whether the promise of no loss was kept."""
    ledger = a_ledger(
        completions=["a", "b"],
        votes_sent=[["a", "thumb"], ["b", "outcome"], ["b", "thumb"]],
        votes=[["a", "thumb"], ["b", "outcome"]],
    )
    events = [served("a"), {"type": "ThumbGiven", "completion_id": "a"}]

    found = demo_report.compare(events, [ledger])

    assert found["completions"] == {"sent": 2, "logged": 1}
    assert found["votes"] == {"sent": 3, "accepted": 2, "logged": 1}
    assert found["capture_loss"] == 2


def test_retries_are_held_against_what_people_really_did() -> None:
    """A retry that nobody made would teach the opposite of what people think."""
    ledger = a_ledger(retries=[["a", "b"], ["c", "d"]])
    events = [
        {"type": "PromptRetried", "completion_id": "a", "retry_id": "b"},
        {"type": "PromptRetried", "completion_id": "x", "retry_id": "y"},
    ]

    found = demo_report.compare(events, [ledger])

    assert found["retries"] == {"sent": 2, "detected": 1, "false": 1}


def test_a_gain_is_measured_question_by_question() -> None:
    """Means 0.2 and 0.3: half as much again. The rests after - 1.5 * before are 0.1 and -0.1."""
    before, after = an_exam({"p": 0.0, "q": 0.4}), an_exam({"q": 0.5, "p": 0.1})

    gain = demo_report.a_round(a_run(), before, after)["satisfaction"]["gain"]

    error = (0.01 / 2) ** 0.5 / 0.2
    assert gain["relative"] == pytest.approx(0.5)
    assert gain["interval"] == pytest.approx([0.5 - 1.96 * error, 0.5 + 1.96 * error])


def test_a_question_that_stayed_open_once_is_left_out() -> None:
    """Nothing can be paired with it."""
    before, after = an_exam({"p": 0.2, "q": 0.9}), an_exam({"p": 0.4})

    gain = demo_report.a_round(a_run(), before, after)["satisfaction"]["gain"]

    assert gain["relative"] == pytest.approx(1.0)


def test_what_was_not_measured_is_null() -> None:
    """A zero would read like a measurement."""
    told = demo_report.a_round(a_run(state="refused"), None, None)

    assert told["satisfaction"] == {"before": None, "after": None, "interval": None, "gain": None}
    assert told["release"] is None


def test_nothing_falls_short_where_everything_went_well() -> None:
    """Otherwise the demonstration could never succeed."""
    assert demo_report.shortcomings(a_report()) == []


REFUSED = a_round(promoted=False, verdict="fail")


@pytest.mark.parametrize(
    "changed",
    [
        {"rounds": [a_round(promoted=False), REFUSED]},
        {"rounds": [a_round()]},
        {"rounds": [a_round(), a_round(promoted=False)]},
        {"rounds": [a_round(satisfaction={"gain": {"interval": [-0.1, 0.4]}}), REFUSED]},
        {"rounds": [a_round(capability={"before": 0.99, "after": 0.96}), REFUSED]},
        {"capture_loss": 1},
        {"rounds": [a_round(), REFUSED, a_round(promoted=False, verdict="insufficient")]},
        {"rounds": [a_round(), REFUSED, a_round(promoted=False)]},
        {"votes": {"sent": 9, "accepted": 8}},
        {"retries": {"sent": 9, "detected": 8}},
        {"swap": a_swap(failed=1)},
        {"swap": a_swap(failed=None)},
        {"swap": a_swap(judged=0)},
        {"swap": a_swap(misattributed=1)},
        {"swap": a_swap(unexplained=1)},
        {"rollback_seconds": None},
    ],
)
def test_whatever_the_loop_did_not_do_is_named(changed: Json) -> None:
    """A demonstration that cannot fail shows nothing."""
    assert len(demo_report.shortcomings(a_report(**changed))) == 1
