"""Which rows can be trained on."""

import math
from typing import Any

import pytest

from feedbackloop.errors import RunError
from feedbackloop.events import JsonObject
from feedbackloop.training.intake import Admitted, admit
from feedbackloop.training.planner import DEFAULTS
from feedbackloop.training.recipe import Method


def said(role: str, text: str) -> list[JsonObject]:
    return [{"role": role, "content": text}]


def a_row(**changes: object) -> dict[str, Any]:
    row = {"prompt": said("user", "hi"), "completion": said("assistant", "hello"), "label": True}
    return {**row, "weight": 1.0, **changes}


def a_pair(**changes: object) -> dict[str, Any]:
    chosen, rejected = said("assistant", "hello"), said("assistant", "what")
    return {"prompt": said("user", "hi"), "chosen": chosen, "rejected": rejected, **changes}


def admitted(*rows: dict[str, Any], method: Method = Method.KTO) -> Admitted:
    def letters(messages: list[JsonObject]) -> int:
        return sum(len(message["content"]) for message in messages)

    return admit(rows, DEFAULTS[method], count_tokens=letters)


@pytest.mark.parametrize("label", [0.3, 1, None, "true"])
def test_a_label_that_is_no_bool_is_refused(label: object) -> None:
    """TRL casts it: a label of 0.3 would be trained on as desirable."""
    with pytest.raises(RunError, match="row 1: label must be true or false"):
        admitted(a_row(), a_row(label=label))


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, "1"])
def test_a_weight_that_is_no_weight_is_refused(weight: object) -> None:
    """A negative one would turn the label round, and NaN would end the run an hour later."""
    with pytest.raises(RunError, match="row 0: weight"):
        admitted(a_row(weight=weight))


@pytest.mark.parametrize("column", ["prompt", "completion"])
def test_a_row_without_a_part_is_refused_by_number(column: str) -> None:
    """Whoever builds snapshots has to be able to find it."""
    with pytest.raises(RunError, match=f"row 1 has no {column}"):
        admitted(a_row(), a_row(**{column: []}))


def test_a_row_that_does_not_fit_is_left_out_and_counted() -> None:
    """TRL would cut its end off, and teach that a stub is what people liked."""
    found = admitted(a_row(), a_row(completion=said("assistant", "x" * 2_048)))

    assert (len(found.rows), found.left_out["too_long"]) == (1, 1)


def test_the_longer_completion_of_a_pair_has_to_fit() -> None:
    """Cut chosen ones against whole rejected ones teach to stop early."""
    found = admitted(a_pair(rejected=said("assistant", "x" * 2_048)), method=Method.DPO)

    assert (len(found.rows), found.left_out["too_long"]) == (0, 1)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [{}]},
        {"role": "user", "content": [{"type": "image_url"}]},
        {"role": "tool", "content": "3", "tool_call_id": "a"},
    ],
)
def test_a_row_with_more_than_text_is_left_out_and_counted(message: JsonObject) -> None:
    """Chat templates differ in how they write them, and we do not guess."""
    found = admitted(a_row(prompt=[message]))

    assert (len(found.rows), found.left_out["not_text"]) == (0, 1)


def test_rows_of_one_prompt_are_known_as_such() -> None:
    """They must not meet in a batch; what the completion was does not matter."""
    same, other = admitted(a_row(), a_row(label=False)), admitted(a_row(prompt=said("user", "ho")))

    assert same.facts[0].prompt == same.facts[1].prompt != other.facts[0].prompt
