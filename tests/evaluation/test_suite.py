"""Suites are data that people write: what they say must count, and mistakes must be named."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.errors import SettingsError
from feedbackloop.evaluation.filesystem import lint, load_suite
from feedbackloop.evaluation.suite import (
    Expect,
    Header,
    Item,
    Problem,
    assemble,
    failures,
    passes,
    read_header,
    read_items,
)

ASK = ({"role": "user", "content": "2 + 2?"},)


def an_item(**changed: Any) -> dict[str, Any]:
    return {"id": "sum", "prompt": ASK, "expect": {"number": 4}} | changed


def written(folder: Path, header: str, *items: dict[str, Any]) -> Path:
    (folder / "sums.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(items))
    path = folder / "sums.yaml"
    path.write_text(header)
    return path


@pytest.mark.parametrize(
    ("expect", "right", "wrong"),
    [
        (Expect(equals="four"), " four\n", "four."),
        (Expect(equals=("4", "four")), "four", "five"),
        (Expect(equals="Four", ignore_case=True), "FOUR", "4"),
        (Expect(contains=("red", "blue")), "blue and red", "red"),
        (Expect(contains_any=("red", "blue")), "blue", "green"),
        (Expect(not_contains="sorry"), "gladly", "I am sorry"),
        (Expect(starts_with="Dear"), "Dear all", "Hello"),
        (Expect(ends_with=("!", "?")), "Really?", "Really."),
        (Expect(regex=r"^\d{4}$"), "2026", "year 2026"),
        (Expect(not_regex=r"\d"), "none", "1"),
        (Expect(number=1234.5), "about 3, so 1,234.5 in all", "1,234.5 of 2"),
        (Expect(number=-0.3), "it is -0.3", "it is 0.3"),
        (Expect(number=10, tolerance=0.5), "10.4", "10.6"),
        (Expect(number=1), "1.", "one"),
        (Expect(json=True), "```json\n[1, 2]\n```", "[1, 2"),
        (Expect(json=("name",)), '{"name": "ann"}', '{"age": 3}'),
        (Expect(json=("name",)), '{"name": null}', '["name"]'),
        (Expect(json=True), "[[]]", "[" * 9_999),
        (Expect(min_words=2), "two words", "one"),
        (Expect(max_words=2), "two words", "now three words"),
        (Expect(max_lines=1), "one\n\n", "one\ntwo"),
    ],
)
def test_each_check_tells_right_from_wrong(expect: Expect, right: str, wrong: str) -> None:
    """No judge and no model: the same completion always gets the same answer."""
    assert passes(right, expect)
    assert not passes(wrong, expect)


def test_what_failed_is_named() -> None:
    """Whoever reads a report wants to know which of several demands it was."""
    expect = Expect(contains="4", max_words=1, json=True)

    assert failures("it is 4", expect) == ("json", "max_words")


@given(st.text())
def test_a_suite_that_demands_nothing_passes_everything(completion: str) -> None:
    """The suite's own checks default to this."""
    assert passes(completion, Expect())


@given(st.text(), st.text(min_size=1))
def test_containing_and_not_containing_are_opposites(completion: str, text: str) -> None:
    """For each completion exactly one of the two holds."""
    assert passes(completion, Expect(contains=text)) != passes(
        completion, Expect(not_contains=text)
    )


def test_a_suite_is_read_with_its_terms(tmp_path: Path) -> None:
    """What is left out has a default that suits."""
    path = written(tmp_path, "name: sums\nitems: sums.jsonl\nmargin: 0.03\n", an_item(group="add"))

    suite = load_suite(path)

    assert (suite.header.name, suite.header.margin, suite.header.blocking) == ("sums", 0.03, True)
    assert suite.items[0].group == "add"


@pytest.mark.parametrize(
    ("header", "place", "message"),
    [
        ("name: sums\nitems: a.jsonl\nmargins: 0.1\n", 3, "unknown field `margins`"),
        ("name: sums\nitems: a.jsonl\nmargin: 3\n", 3, "`$.margin`"),
        ("name: Sums!\nitems: a.jsonl\n", 1, "`$.name`"),
        ("name: sums\nkind: essay\nitems: a.jsonl\n", 2, "`$.kind`"),
        ("name: sums\n", 0, "missing required field `items`"),
        ("name: [\n", 2, "expected YAML"),
        ("\tname: sums", 1, "expected YAML"),
        ("- a list\n", 0, "Expected `object`"),
    ],
)
def test_a_mistake_in_the_header_is_named_with_its_line(
    header: str, place: int, message: str
) -> None:
    """An operator mends it without reading our code."""
    found = read_header(header.encode(), file="sums.yaml")

    assert isinstance(found, Problem)
    assert message in found.message
    assert found.line == place


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (an_item(expects={}), "unknown field `expects`"),
        (an_item(expect={"number": "4"}), "`$.expect.number`"),
        (an_item(expect={"max_words": 0}), "`$.expect.max_words`"),
        (an_item(expect={"regex": "("}), "expect.regex: expected a regular expression"),
        (an_item(expect={}), "expect: expected at least one check"),
        (an_item(prompt=[]), "`$.prompt`"),
        (an_item(prompt=[{"role": "robot", "content": "hi"}]), "prompt[0].role: expected one of"),
        (an_item(prompt=[{"role": "user"}]), "prompt[0].content: expected text"),
        (an_item(prompt=[{"role": "assistant", "content": "hi"}]), "to be the user's"),
        (an_item(id=""), "`$.id`"),
    ],
)
def test_a_mistake_in_an_item_is_named_with_its_line(item: dict[str, Any], message: str) -> None:
    """One of a thousand lines is wrong: say which."""
    raw = msgspec.json.Encoder().encode_lines([an_item(id="fine"), item])

    _, problems = read_items(raw, file="sums.jsonl")

    assert message in str(problems[0])
    assert str(problems[0]).startswith("sums.jsonl:2: ")


def test_an_id_is_used_once() -> None:
    """Results are paired and reported by it."""
    _, problems = read_items(msgspec.json.Encoder().encode_lines([an_item()] * 2), file="f")

    assert [problem.message for problem in problems] == ["id: 'sum' is taken"]


def test_a_suite_without_items_measures_nothing() -> None:
    """It would pass every candidate."""
    _, problems = read_items(b"\n\n", file="f")

    assert problems[0].message == "expected at least one item"


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    """Nobody should have to run it ten times to find ten mistakes."""
    path = written(tmp_path, "name: sums\nitems: sums.jsonl\n", an_item(expect={}), an_item(id=""))

    with pytest.raises(SettingsError, match=r"sums\.jsonl:1: .*; .*sums\.jsonl:2: "):
        load_suite(path)


@pytest.mark.parametrize("header", [None, "name: sums\nitems: nowhere.jsonl\n"])
def test_a_missing_file_is_named(tmp_path: Path, header: str | None) -> None:
    """A typing error in the settings is the likeliest mistake of all."""
    path = tmp_path / "sums.yaml"
    if header is not None:
        path.write_text(header)

    suite, problems = lint(path)

    assert suite is None
    assert "expected a file" in problems[0].message


def test_a_suites_digest_is_of_what_it_says(tmp_path: Path) -> None:
    """Another margin is another suite; another blank is not."""
    item = Item(id="a", prompt=ASK, expect=Expect(number=4.0))
    header = Header(name="sums", items="sums.jsonl", margin=0.03)
    spaced = written(tmp_path, "margin:   0.03\nname: sums\nitems: sums.jsonl\n", an_item(id="a"))

    looser = assemble(msgspec.structs.replace(header, margin=0.1), [item])

    assert load_suite(spaced).digest == assemble(header, [item]).digest != looser.digest
