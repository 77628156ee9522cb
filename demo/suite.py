"""What the model must not unlearn, as a suite for the gate: a YAML file about a JSONL file."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from demo.client import MAX_TOKENS
from demo.measure import exam_questions
from demo.world import Question

NAME = "demo-capability"
MARGIN = 0.03
ITEMS_EACH = 200


def write(folder: Path, *, seed: int, items_each: int = ITEMS_EACH) -> Path:
    """Write the suite into ``folder`` and return its YAML file.

    The questions are held out from traffic. With some 750 of them, of which a few in a hundred
    change sides, a loss of the margin's three points is far outside of chance (docs/demo.md).
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked = exam_questions(items_each, seed=seed, gates=True)
    Random(f"{seed}:suite").shuffle(asked)
    lines = (json.dumps(item) for item in _items(asked))
    (folder / f"{NAME}.jsonl").write_text("\n".join(lines) + "\n")
    header = folder / f"{NAME}.yaml"
    header.write_text(
        f"name: {NAME}\n"
        f"items: {NAME}.jsonl\n"
        "kind: generation\n"
        f"max_tokens: {MAX_TOKENS}\n"
        f"margin: {MARGIN}\n"
    )
    return header


def _items(asked: list[Question]) -> Iterator[dict[str, object]]:
    for number, question in enumerate(asked):
        yield {
            "id": f"{question.item.task}-{number:04d}",
            "prompt": [{"role": "user", "content": question.prompt}],
            "expect": {"regex": rf"(^|\s){re.escape(question.item.answer)}\.$"},
            "group": question.item.task.value,
        }
