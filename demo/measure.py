"""What nobody in production can measure: how satisfied people are, and what the model can do.

Both are taken on held-out questions through the same HTTP door as the traffic, each by a person
who asks nothing else and never reacts. Intervals are normal ones at 95 %.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from random import Random

from demo.client import Ask, People, Reply
from demo.world import (
    TRAFFIC_TASKS,
    Question,
    Task,
    is_the_gates,
    judge,
    questions,
    satisfaction,
)

_Z = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A mean over questions, and the interval that it lies in.

    Attributes:
        mean: Mean over questions.
        interval: Of the mean, at 95 %.
        n: How many questions.
    """

    mean: float
    interval: tuple[float, float]
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """How one policy did.

    Attributes:
        satisfaction: Probability that a person is satisfied, over sampled replies.
        capability: Share of right greedy answers; each task counts the same.
        by_task: The same by task.
        scores: Every single score by kind and prompt, for paired comparisons.
        releases: How many replies each release gave, by the replies' headers.
        unanswered: Questions without a reply.
    """

    satisfaction: Measured
    capability: Measured
    by_task: Mapping[str, float]
    scores: Mapping[str, Mapping[str, float]]
    releases: Mapping[str, int]
    unanswered: int


def mean_of(values: Sequence[float]) -> Measured:
    """Estimate a mean and its normal interval."""
    n = len(values)
    mean = sum(values) / n
    error = sqrt(sum((value - mean) ** 2 for value in values) / max(n - 1, 1) / n)
    return Measured(mean=mean, interval=(mean - _Z * error, mean + _Z * error), n=n)


def traffic_questions(count: int, *, seed: int) -> list[Question]:
    """Draw held-out questions as people ask them, no wording twice."""
    random = Random(f"{seed}:satisfaction")
    share = count // len(TRAFFIC_TASKS)
    drawn: list[Question] = []
    for task in TRAFFIC_TASKS:
        asked = questions(task, held_out=True)
        drawn += random.sample(asked, min(share, len(asked)))
    rest = [one for one in questions(Task.ADD, held_out=True) if one not in set(drawn)]
    return drawn + random.sample(rest, min(max(0, count - len(drawn)), len(rest)))


def exam_questions(count: int, *, seed: int, gates: bool = False) -> list[Question]:
    """Draw ``count`` held-out questions of every task, or all there are.

    Args:
        count: Of each task.
        seed: Of the choice.
        gates: Draw what the gate asks, and not what the examiners ask: a candidate that passed
            the gate was chosen by its own questions, which therefore measure nothing any more.
    """
    random = Random(f"{seed}:capability")
    drawn: list[Question] = []
    for task in Task:
        asked = [one for one in questions(task, held_out=True) if is_the_gates(one.item) is gates]
        drawn += random.sample(asked, min(count, len(asked)))
    return drawn


async def examine(
    people: People,
    *,
    liked: Sequence[Question],
    known: Sequence[Question],
    progress: Callable[[int, int], None],
) -> Examination:
    """Ask everything once: ``liked`` as people do, ``known`` greedily."""
    done = 0
    # Whoever asks a second time what he asked before has retried: each time others examine.
    board = uuid.uuid4().hex[:8]

    async def ask(number: int, question: Question, temperature: float) -> Reply | None:
        nonlocal done
        user = f"examiner-{board}-{temperature:g}-{number}"
        streamed = number % 2 == 1
        reply = await people.ask(
            Ask(prompt=question.prompt, user=user, streamed=streamed, temperature=temperature)
        )
        done += 1
        progress(done, len(liked) + len(known))
        return reply

    replies = await asyncio.gather(
        *(ask(number, question, 1.0) for number, question in enumerate(liked)),
        *(ask(number, question, 0.0) for number, question in enumerate(known)),
    )
    return _score(liked, replies[: len(liked)], known, replies[len(liked) :])


def _score(
    liked: Sequence[Question],
    liked_replies: Sequence[Reply | None],
    known: Sequence[Question],
    known_replies: Sequence[Reply | None],
) -> Examination:
    pleased = {
        question.prompt: satisfaction(question, reply.text)
        for question, reply in zip(liked, liked_replies, strict=True)
        if reply is not None
    }
    right = {
        question: float(judge(question.item, reply.text).right)
        for question, reply in zip(known, known_replies, strict=True)
        if reply is not None
    }
    tasks = {
        task: [score for question, score in right.items() if question.item.task is task]
        for task in Task
    }
    replies = [reply for reply in (*liked_replies, *known_replies) if reply is not None]
    return Examination(
        satisfaction=mean_of(list(pleased.values())),
        capability=_mean_of_tasks([scores for scores in tasks.values() if scores]),
        by_task={task.value: mean_of(scores).mean for task, scores in tasks.items() if scores},
        scores={
            "satisfaction": pleased,
            "capability": {question.prompt: score for question, score in right.items()},
        },
        releases=dict(Counter(reply.release for reply in replies)),
        unanswered=len(liked) + len(known) - len(replies),
    )


def _mean_of_tasks(tasks: Sequence[Sequence[float]]) -> Measured:
    """Average over tasks, so that a task with more questions counts no more."""
    each = [mean_of(scores) for scores in tasks]
    mean = sum(one.mean for one in each) / len(each)
    errors = [(one.interval[1] - one.mean) / _Z for one in each]
    error = sqrt(sum(error**2 for error in errors)) / len(each)
    interval = (mean - _Z * error, mean + _Z * error)
    return Measured(mean=mean, interval=interval, n=sum(one.n for one in each))
