"""A small world to talk about: questions, four ways to answer them, and what people like.

Nothing here depends on the loop or on a model. Every question has one right answer, every right
answer is the last word of a reply, and a hash decides which questions are held out. What people
like is known to the simulator alone: it depends on what a person asked for, never on a release.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import blake2b
from itertools import product
from random import Random


class Task(StrEnum):
    """What a question is about."""

    ADD = "add"
    CAPITAL = "capital"
    SORT = "sort"
    LAST = "last"


class Intent(StrEnum):
    """What the person wants: the answer, or to understand it."""

    QUICK = "quick"
    EXPLAIN = "explain"


class Style(StrEnum):
    """A way of answering."""

    TERSE = "terse"
    EXPLAINED = "explained"
    PADDED = "padded"
    HEDGED = "hedged"


TRAFFIC_TASKS = (Task.ADD, Task.CAPITAL)
"""What people ask about. The other tasks are only ever examined: what training must not cost."""

LARGEST_ADDEND = 29
COUNTRIES = 80
HELD_OUT_SHARE = 0.2

PARAPHRASES: Mapping[Intent, tuple[str, ...]] = {
    Intent.QUICK: ("what is {}?", "{}, please.", "just tell me {}.", "quick: {}?", "give me {}."),
    Intent.EXPLAIN: (
        "explain {}.",
        "how do i find {}?",
        "walk me through {}.",
        "teach me {}.",
        "show me why: {}?",
    ),
}

SATISFIED: Mapping[Intent, Mapping[Style, float]] = {
    Intent.QUICK: {
        Style.TERSE: 0.95,
        Style.EXPLAINED: 0.25,
        Style.PADDED: 0.1,
        Style.HEDGED: 0.1,
    },
    Intent.EXPLAIN: {
        Style.TERSE: 0.15,
        Style.EXPLAINED: 0.95,
        Style.PADDED: 0.2,
        Style.HEDGED: 0.1,
    },
}
"""Probability that a person is satisfied by a right answer, by what they wanted and got."""

WRONG_FACTOR = 0.05
"""A wrong answer satisfies this much less often."""

HABITS: Mapping[Intent, Mapping[Style, float]] = {
    Intent.QUICK: {
        Style.TERSE: 0.26,
        Style.EXPLAINED: 0.2,
        Style.PADDED: 0.28,
        Style.HEDGED: 0.26,
    },
    Intent.EXPLAIN: {
        Style.TERSE: 0.2,
        Style.EXPLAINED: 0.26,
        Style.PADDED: 0.28,
        Style.HEDGED: 0.26,
    },
}
"""How often the base answers in each style: like a pre-trained model, it half knows better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something that can be asked, whatever the words.

    Attributes:
        task: What it is about.
        subject: How it is named in a question.
        answer: One word of letters or digits.
        working: How an explanation gets there, up to the answer.
        held_out: Whether people never ask it where the loop could learn from it.
    """

    task: Task
    subject: str
    answer: str
    working: str
    held_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An item asked in some words with some intent."""

    item: Item
    intent: Intent
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a reply is.

    Attributes:
        style: How it answers; None if it reads like none of the styles.
        right: Whether its last word is the answer.
    """

    style: Style | None
    right: bool


def is_held_out(task: Task, subject: str) -> bool:
    """Say whether people never ask about ``subject``: one hash decides for all its wordings."""
    return _share(f"{task}:{subject}") < HELD_OUT_SHARE


def is_the_gates(item: Item) -> bool:
    """Say whether the gate asks about a held-out item; the examiners ask about the others."""
    return _share(f"gate:{item.task}:{item.subject}") < 1 / 2


def _share(text: str) -> float:
    """Hash a text to a number in [0, 1)."""
    digest = blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@cache
def items(task: Task) -> tuple[Item, ...]:
    """Return every item of a task, always in the same order."""
    made = {Task.ADD: _sums, Task.CAPITAL: _capitals, Task.SORT: _sorted, Task.LAST: _lasts}
    return tuple(made[task]())


@cache
def questions(task: Task, *, held_out: bool) -> tuple[Question, ...]:
    """Return every question of a task that is, or is not, held out."""
    chosen = (item for item in items(task) if item.held_out is held_out)
    return tuple(
        Question(item=item, intent=intent, prompt=words.format(item.subject))
        for item, intent in product(chosen, Intent)
        for words in PARAPHRASES[intent]
    )


def reply(item: Item, style: Style, answer: str | None = None) -> str:
    """Write what an answerer with ``style`` says; ``answer`` replaces the right one."""
    word = item.answer if answer is None else answer
    match style:
        case Style.TERSE:
            return f"the answer to that is {word}."
        case Style.EXPLAINED:
            return f"{item.working} {word}."
        case Style.PADDED:
            return f"great question! happy to help: {word}."
        case Style.HEDGED:
            return f"i am not sure, i guess {word}."


def judge(item: Item, text: str) -> Judgement:
    """Say what style a reply has, and whether its answer is right."""
    last = _LAST_WORD.search(text)
    word = last.group(1) if last else ""
    styles = (style for style in Style if text.strip() == reply(item, style, word))
    return Judgement(style=next(styles, None), right=word == item.answer)


def satisfaction(question: Question, text: str) -> float:
    """Return the probability that the person who asked is satisfied by the reply."""
    verdict = judge(question.item, text)
    liked = SATISFIED[question.intent][verdict.style] if verdict.style else WRONG_FACTOR
    return liked if verdict.right else liked * WRONG_FACTOR


def lesson(question: Question, random: Random) -> str:
    """Write a reply such as the base learns from: right, in one of its habitual styles."""
    habits = HABITS[question.intent]
    (style,) = random.choices(list(habits), weights=list(habits.values()))
    return reply(question.item, style)


_LAST_WORD = re.compile(r"([a-z0-9]+)\.\s*$")


def _item(task: Task, subject: str, answer: str, working: str) -> Item:
    return Item(
        task=task,
        subject=subject,
        answer=answer,
        working=working,
        held_out=is_held_out(task, subject),
    )


def _sums() -> Iterator[Item]:
    for one, other in product(range(LARGEST_ADDEND + 1), repeat=2):
        working = f"{one} and {other} make"
        yield _item(Task.ADD, f"{one} + {other}", str(one + other), working)


def _capitals() -> Iterator[Item]:
    random = Random(48)  # the map is part of the world: every seed visits the same countries
    names: set[str] = set()
    while len(names) < 2 * COUNTRIES:
        names.add("".join(random.choice("bdfgklmnprstvz") + random.choice("aeiou") for _ in "xyz"))
    shuffled = random.sample(sorted(names), 2 * COUNTRIES)
    for country, city in zip(shuffled[:COUNTRIES], shuffled[COUNTRIES:], strict=True):
        working = f"{country} is ruled from"
        yield _item(Task.CAPITAL, f"the capital of {country}", city, working)


def _sorted() -> Iterator[Item]:
    for digits in product("0123456789", repeat=3):
        word = "".join(sorted(digits))
        working = f"{word[0]} first, {word[2]} last:"
        yield _item(Task.SORT, f"{' '.join(digits)} in order", word, working)


def _lasts() -> Iterator[Item]:
    for digits in product("0123456789", repeat=4):
        working = f"after {digits[2]} comes the last,"
        yield _item(Task.LAST, f"the last digit of {' '.join(digits)}", digits[3], working)
