"""Which rows can be trained on: the others are refused, or left out and counted."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from feedbackloop.errors import RunError
from feedbackloop.events import JsonObject
from feedbackloop.training.batches import RowFacts
from feedbackloop.training.recipe import Method, Recipe

Row = Mapping[str, Any]
"""A row with the trainer's columns: see ``Trainer.train``. Others are passed over."""

COMPLETIONS = {Method.KTO: ("completion",), Method.DPO: ("chosen", "rejected")}
"""The columns that hold completions, by method."""


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that can be trained on.

    Attributes:
        rows: In the order they came.
        facts: What their order in training depends on, row by row.
        left_out: How many rows were left out, by reason.
    """

    rows: Sequence[Row]
    facts: Sequence[RowFacts]
    left_out: dict[str, int]


def admit(
    rows: Sequence[Row], recipe: Recipe, *, count_tokens: Callable[[list[JsonObject]], int]
) -> Admitted:
    """Leave out the rows that a trainer would mutilate, and refuse those that it would misread.

    Args:
        rows: With the columns of the recipe's method.
        recipe: Names the method and the longest row.
        count_tokens: Length of a conversation as the chat template writes it.

    Raises:
        RunError: If a row is malformed: whoever made the snapshot has a bug.
    """
    kept: list[Row] = []
    facts: list[RowFacts] = []
    left_out = {"not_text": 0, "too_long": 0}
    for number, row in enumerate(rows):
        _check(number, row, recipe.method)
        if not _is_text(row, recipe.method):
            left_out["not_text"] += 1
            continue
        tokens = max(
            count_tokens([*row["prompt"], *row[part]]) for part in COMPLETIONS[recipe.method]
        )
        # TRL would cut the completion's end off and train on the stub under the whole's label.
        if tokens > recipe.max_length:
            left_out["too_long"] += 1
            continue
        kept.append(row)
        facts.append(_facts(number, row, tokens, recipe.method))
    return Admitted(rows=kept, facts=facts, left_out=left_out)


def _check(number: int, row: Row, method: Method) -> None:
    """Refuse what TRL would take and misread."""
    missing = [name for name in ("prompt", *COMPLETIONS[method]) if not row.get(name)]
    if missing:
        raise RunError(f"row {number} has no {', '.join(missing)}")
    if method is Method.KTO:
        # TRL casts it: a label of 0.7 would become True, and one of 0.3 too.
        if not isinstance(row.get("label"), bool):
            raise RunError(f"row {number}: label must be true or false, not {row.get('label')!r}")
        weight = row.get("weight", 1.0)
        if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise RunError(f"row {number}: weight must be a number from 0, not {weight!r}")


def _is_text(row: Row, method: Method) -> bool:
    """Say whether every message is a role and a text; tool calls and images are not."""
    messages = [message for part in ("prompt", *COMPLETIONS[method]) for message in row[part]]
    return all(
        set(message) == {"role", "content"} and isinstance(message["content"], str)
        for message in messages
    )


def _facts(number: int, row: Row, tokens: int, method: Method) -> RowFacts:
    """Say what the order depends on; DPO's rows may meet in a batch as they like."""
    if method is Method.DPO:
        return RowFacts(tokens=tokens, label=True, prompt=str(number))
    prompt = hashlib.sha256(json.dumps(row["prompt"], sort_keys=True).encode()).hexdigest()
    return RowFacts(tokens=tokens, label=row["label"], prompt=prompt)
