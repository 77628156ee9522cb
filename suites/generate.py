"""Write the built-in suite: demands on form that any chat model can be held to.

Run it as ``python suites/generate.py``: the same items every time. Each demand is one that a
program can check, in the manner of IFEval (Zhou et al., arXiv:2311.07911), in our own words.
"""

import json
from collections.abc import Iterator
from pathlib import Path

SUBJECTS = (
    "the sea",
    "a bicycle",
    "bread",
    "winter",
    "a library",
    "the moon",
    "tea",
    "a bridge",
    "football",
    "a garden",
)
WORDS = (
    "apple",
    "river",
    "candle",
    "window",
    "silver",
    "mountain",
    "paper",
    "yellow",
    "train",
    "cloud",
)

Item = dict[str, object]


def main() -> None:
    """Write the items beside this script."""
    lines = [json.dumps(item) + "\n" for item in items()]
    (Path(__file__).parent / "instructions.jsonl").write_text("".join(lines))


def items() -> Iterator[Item]:
    """Yield every item, by group."""
    for number, (subject, word) in enumerate(zip(SUBJECTS, WORDS, strict=True)):
        for place, (group, prompt, expect) in enumerate(_demands(subject, word, number)):
            yield {
                "id": f"{group}-{number}-{place}",
                "group": group,
                "prompt": [{"role": "user", "content": prompt}],
                "expect": expect,
            }


def _demands(subject: str, word: str, number: int) -> Iterator[tuple[str, str, Item]]:
    yield "length", f"Describe {subject} in at most 20 words.", {"min_words": 3, "max_words": 20}
    yield "length", f"Write at least 30 words about {subject}.", {"min_words": 30}
    yield from _format(subject, word)
    yield from _wording(subject, word)
    total = 17 + 6 * number
    yield (
        "exact",
        f"What is {17 + number} + {5 * number}? Answer with the number only.",
        {"regex": rf"^{total}\.?$"},
    )
    yield (
        "exact",
        f'Repeat this word and say nothing else: "{word}"',
        {"regex": rf'^["\'*]*{word}["\'*.]*$', "ignore_case": True},
    )


def _format(subject: str, word: str) -> Iterator[tuple[str, str, Item]]:
    yield (
        "format",
        f'Answer only with a JSON object. Its keys: "subject" ({subject}), "letters" (of {word}).',
        {"json": ["subject", "letters"]},
    )
    yield (
        "format",
        f"Write a single line about {subject}, without any line break.",
        {"max_lines": 1, "min_words": 2},
    )
    yield (
        "format",
        f'List three facts about {subject}, each on a line of its own that begins with "- ".',
        {"regex": r"(?m)\A(?:[^-\n].*\n+)?(?:^- .+\n*){3}\Z"},
    )


def _wording(subject: str, word: str) -> Iterator[tuple[str, str, Item]]:
    yield (
        "wording",
        f'Write one sentence about {subject} that contains the word "{word}".',
        {"contains": word, "ignore_case": True},
    )
    yield (
        "wording",
        f"Write two sentences about {subject} without using any comma.",
        {"not_contains": ",", "min_words": 5},
    )
    yield (
        "wording",
        f'Write a short note about {subject}. Begin it with the words "Dear reader".',
        {"starts_with": "Dear reader", "min_words": 5},
    )


if __name__ == "__main__":
    main()
