from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.fragments import Report, score_fragments
from feedbackloop.capture.retries import Implied

FRAGMENTS = Path(__file__).with_name("fragments.jsonl")


@pytest.fixture(scope="module")
def report() -> Report:
    """The detector on our own dialogues, in eight languages."""
    return score_fragments(FRAGMENTS.read_text("utf-8").splitlines())


def test_the_detector_is_right_about_our_dialogues(report: Report) -> None:
    """A wrong rejection poisons a label; a missed one is only a label fewer."""
    rejected, accepted = report.implied["rejected"], report.implied["accepted"]

    assert len(report.lines) >= 60
    assert report.unreadable == 0
    assert (rejected.precision or 0) >= 0.97
    assert (rejected.recall or 0) >= 0.9
    assert (accepted.precision or 0) >= 0.97


def test_every_kind_of_retry_is_found(report: Report) -> None:
    """A mean hides a kind that is never recognised."""
    kinds = ("regenerate", "edit", "rephrase", "correction", "stopped")

    recalls = {kind: report.kinds[kind].recall or 0 for kind in kinds}

    assert min(recalls.values()) >= 0.75, recalls


def test_a_line_that_cannot_be_read_is_named(report: Report) -> None:
    """Teams write these files by hand."""
    del report

    found = score_fragments(["", "{", '{"first": {}}', b"\xff", "[" * 100_000])

    assert found.unreadable == 4
    assert [line.line for line in found.lines] == [2, 3, 4, 5]
    assert all(line.error for line in found.lines)


def test_truth_is_optional() -> None:
    """A team first looks at what the detector says, and labels later."""
    line = (
        '{"id": 7, "first": {"messages": [{"role": "user", "content": "Hi"}], "response": "Ho",'
        ' "at": 0}, "second": {"messages": [{"role": "user", "content": "Hi"}], "at": 9}}'
    )

    found = score_fragments([line])

    assert (found.lines[0].id, found.lines[0].implied) == ("7", Implied.REJECTED)
    assert (found.implied, found.kinds) == ({}, {})


@given(st.text() | st.binary())
def test_no_line_breaks_the_command(line: str | bytes) -> None:
    """One bad line in ten thousand is a number in the report."""
    found = score_fragments([line])

    assert len(found.lines) == bool(line.strip())
