"""Commands that read files which people wrote: dialogues, word tables, texts, suites."""

import json
from pathlib import Path

import pytest

from feedbackloop.capture.fragments import HALVES
from tests.services.cli.calling import call, told

pytestmark = pytest.mark.usefixtures("home")


def test_dialogues_are_scored_line_by_line(tmp_path: Path) -> None:
    """A team tries the detector on its own data before it believes it."""
    message = {"role": "user", "content": "What is the capital of Australia?"}
    line = {
        "id": "one",
        "implied": "rejected",
        "first": {"messages": [message], "response": "Sydney", "finish_reason": "stop", "at": 0},
        "second": {"messages": [message], "at": 20},
    }
    file = tmp_path / "dialogues.jsonl"
    file.write_text(json.dumps(line) + "\nnot json\n")

    report = told("retries", "score", str(file))

    assert report["lines"][0]["implied"] == "rejected"
    assert report["implied"]["rejected"]["recall"] == 1.0
    assert report["unreadable"] == 1
    assert call("retries", "score", str(file)).exit_code == 0


def test_one_half_of_a_labelled_set_can_be_scored(tmp_path: Path) -> None:
    """Thresholds are set on one half, and what is reported is the other."""
    line = {
        "first": {"messages": [{"role": "user", "content": "Hi"}], "response": "Ho", "at": 0},
        "second": {"messages": [{"role": "user", "content": "Hi"}], "at": 9},
    }
    file = tmp_path / "talks.jsonl"
    file.write_text("".join(json.dumps(line | {"id": f"f{n}"}) + "\n" for n in range(40)))

    halves = [told("retries", "score", str(file), "--half", half) for half in HALVES]

    ids = [{one["id"] for one in half["lines"]} for half in halves]
    assert ids[0] | ids[1] == {f"f{n}" for n in range(40)}
    assert not ids[0] & ids[1]
    assert call("retries", "score", str(file), "--half", "third").exit_code == 2


DEEP = "[" * 9_999
TOO_DEEP: dict[str, tuple[tuple[str, ...], str, int]] = {
    "a word table": (("retries", "lint"), f"[da]\ndenial = {DEEP}", 1),
    "dialogues": (("retries", "score"), f'{{"x": {DEEP}', 0),
    "a suite": (("suite", "lint"), DEEP, 1),
    "a set with planted values": (("redact", "score"), f'{{"x": {DEEP}', 2),
    "a verdict": (("gate", "report"), f'{{"x": {DEEP}', 2),
}


@pytest.mark.parametrize(("command", "content", "status"), TOO_DEEP.values(), ids=TOO_DEEP)
def test_what_is_nested_too_deeply_is_named(
    tmp_path: Path, command: tuple[str, ...], content: str, status: int
) -> None:
    """A file that a machine wrote, or a slip of a key: a traceback tells nobody which."""
    file = tmp_path / "such"
    file.write_text(content)

    said = call(*command, str(file))

    assert said.exit_code == status
    assert isinstance(said.exception, SystemExit | None)
    assert "nested too deeply" in said.output or "recursion depth" in said.output


def test_a_suites_item_that_is_nested_too_deeply_is_named(tmp_path: Path) -> None:
    """With its line, like any other slip."""
    (tmp_path / "sums.yaml").write_text("name: sums\nitems: sums.jsonl\n")
    (tmp_path / "sums.jsonl").write_text(f'{{"id": "a", "prompt": {DEEP}\n')

    said = call("suite", "lint", str(tmp_path / "sums.yaml"))

    assert said.exit_code == 1
    assert "sums.jsonl:1" in said.stdout.replace("\n", "")


def test_word_tables_are_checked_before_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slip in a table must not stop a sidecar at three in the morning, nor pass unseen."""
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('[da]\ndenial = ["nej"]\n')
    bad.write_text('[da]\ndenials = ["nej"]\n')

    assert told("retries", "lint", str(good))["tables"] == {str(good): {"da": 1}}
    refused = call("retries", "lint", str(good), str(bad), "--json")
    monkeypatch.setenv("FEEDBACKLOOP_RETRIES__WORDS", json.dumps([str(bad)]))
    unused = call("retries", "score", str(good))

    assert refused.exit_code == 1
    assert "denials: no such list" in json.loads(refused.stdout)["problems"][0]
    assert unused.exit_code == 2
    assert "bad.toml" in unused.stderr


def test_a_text_is_shown_as_it_would_reach_the_log(tmp_path: Path) -> None:
    """A team tries its own examples before it trusts anybody."""
    file = tmp_path / "said.txt"
    file.write_text("Write to jane@example.org, thanks.")

    assert told("redact", "text", str(file))["removed"] == {"EMAIL": 1}
    assert call("redact", "text", str(file)).stdout == "Write to [EMAIL_1], thanks."
    assert call("redact", "text", str(tmp_path / "none.txt")).exit_code == 2


def test_what_redaction_finds_is_measured_on_a_set_of_ones_own(tmp_path: Path) -> None:
    """Figures on somebody else's texts say little about yours."""
    file = tmp_path / "texts.jsonl"
    found = {"text": "jane@example.org", "spans": [{"start": 0, "end": 16, "kind": "EMAIL"}]}
    missed = {"text": "Jane Roe", "spans": [{"start": 0, "end": 8, "kind": "PERSON"}]}
    file.write_text(f"{json.dumps(found)}\n{json.dumps(missed)}\n")

    report = told("redact", "score", str(file))

    assert report["total"]["recall"] == 0.5
    assert report["kinds"]["PERSON"]["recall"] == 0.0
    assert call("redact", "score", str(file)).exit_code == 0
    file.write_text("no json\n")
    refused = call("redact", "score", str(file))
    assert (refused.exit_code, "line 1" in refused.stderr) == (2, True)


def test_the_synthetic_set_can_be_taken_away_and_scored(tmp_path: Path) -> None:
    """Whoever has another tool measures it on the same texts."""
    file = tmp_path / "planted.jsonl"
    file.write_text(call("redact", "plant", "--half", "tuned").stdout)

    taken, own = told("redact", "score", str(file)), told("redact", "score", "--each", "1")

    assert taken["texts"] > 30
    assert own["total"]["recall"] > 0.9
    assert call("redact", "score", "--half", "third").exit_code == 2
    assert call("redact", "plant", "--half", "third").exit_code == 2
