"""The suite that the demonstration gives to the gate."""

from pathlib import Path

from demo import suite
from demo.measure import exam_questions
from demo.world import Style, reply
from feedbackloop.evaluation.suite import Header, passes, read_header, read_items


def test_the_gate_reads_the_suite_as_it_was_meant(tmp_path: Path) -> None:
    """The simulator shares no code with the gate, so only this holds the two together."""
    written = suite.write(tmp_path, seed=0, items_each=20)

    header = read_header(written.read_bytes(), file=written.name)
    items, problems = read_items((tmp_path / f"{suite.NAME}.jsonl").read_bytes(), file="items")

    assert isinstance(header, Header)
    assert header.margin == suite.MARGIN
    assert problems == ()
    assert {item.group for item in items} == {"add", "capital", "sort", "last"}


def test_every_style_passes_with_the_right_answer_and_none_with_another(tmp_path: Path) -> None:
    """Capability is being right; how it is said is for people to like or not."""
    suite.write(tmp_path, seed=0, items_each=20)
    items, _ = read_items((tmp_path / f"{suite.NAME}.jsonl").read_bytes(), file="items")
    asked = {question.prompt: question.item for question in exam_questions(20, seed=0, gates=True)}

    for item in items:
        about = asked[item.prompt[-1]["content"]]
        assert all(passes(reply(about, style), item.expect) for style in Style)
        assert not any(
            passes(reply(about, style, "x" + about.answer), item.expect) for style in Style
        )
