"""What a person does after reading a reply: votes, asks again, copies it, or says nothing.

The rates are those of ``docs/demo.md``: far more generous than real thumbs (one to three in a
hundred), so that minutes of traffic stand for weeks, and noisy like them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from demo.world import TRAFFIC_TASKS, Question, questions


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """Probabilities of each reaction, given whether the person is satisfied.

    Attributes:
        thumb_if_unhappy: A vote on a reply that disappointed.
        thumb_if_happy: A vote on a reply that pleased.
        slip_share: Of votes, those that say the opposite of what the person thinks.
        retry_if_unhappy: The same question again.
        retry_if_happy: The same, from curiosity: a retry that means nothing.
        copy_if_happy: The first reply is made use of.
        copy_if_unhappy: A reply is made use of although it disappointed.
        copy_after_retry: A reply that pleases after all is made use of.
        tries: Most times that anybody asks the same.
    """

    thumb_if_unhappy: float = 0.3
    thumb_if_happy: float = 0.18
    slip_share: float = 0.05
    retry_if_unhappy: float = 0.55
    retry_if_happy: float = 0.06
    copy_if_happy: float = 0.35
    copy_if_unhappy: float = 0.04
    copy_after_retry: float = 0.6
    tries: int = 3


USUAL = Manners()
"""How people are unless somebody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What one person does about one reply.

    Attributes:
        happy: What the person thinks; nobody but the simulator knows.
        thumb: ``up``, ``down`` or nothing.
        copied: Whether the reply is made use of.
        retries: Whether the same is asked again.
    """

    happy: bool
    thumb: str | None
    copied: bool
    retries: bool


def react(satisfied_share: float, *, attempt: int, manners: Manners, random: Random) -> Reaction:
    """Draw a reaction to a reply that satisfies ``satisfied_share`` of those who asked for it.

    Args:
        satisfied_share: From ``world.satisfaction``, in [0, 1].
        attempt: 1 for the first reply to a question, 2 for the reply to its retry, ...
        manners: How likely is what.
        random: Chance.
    """
    happy = random.random() < satisfied_share
    thumb = None
    if random.random() < (manners.thumb_if_happy if happy else manners.thumb_if_unhappy):
        slips = random.random() < manners.slip_share
        thumb = "up" if happy is not slips else "down"
    retry_share = manners.retry_if_happy if happy else manners.retry_if_unhappy
    retries = random.random() < retry_share and attempt < manners.tries
    copied = not retries and random.random() < _copy_share(manners, attempt, happy=happy)
    return Reaction(happy=happy, thumb=thumb, copied=copied, retries=retries)


def topics(user: int, *, seed: int) -> Iterator[Question]:
    """Yield what one person asks, in order, without end in practice: never the same twice.

    A question asked a second time would be a retry, and people in this world know what they do.
    """
    random = Random(f"{seed}:{user}")
    asked: set[str] = set()
    while True:
        question = random.choice(questions(random.choice(TRAFFIC_TASKS), held_out=False))
        if question.item.subject not in asked:
            asked.add(question.item.subject)
            yield question


def _copy_share(manners: Manners, attempt: int, *, happy: bool) -> float:
    if not happy:
        return manners.copy_if_unhappy
    return manners.copy_if_happy if attempt == 1 else manners.copy_after_retry
