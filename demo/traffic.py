"""People who ask, read, and react: each first answer is the start of one person's session."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from demo.client import Ask, People, Reply
from demo.reactions import USUAL, Manners, Reaction, react, topics
from demo.world import Question, satisfaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Who asks how much, and how fast.

    Attributes:
        first_answers: Questions asked before retries; 0 goes on until ``stop`` is set.
        sessions: Most people at a time, reading ones included.
        per_second: Most first questions in a second; 0 is as fast as answers come.
        users: People there are.
        seed: Of who asks what and how they feel.
        manners: How likely they react in which way.
        read_seconds: Longest that anybody reads before a vote.
        retry_seconds: Shortest and longest until the same is asked again. A client's own repeat
            comes within a second; a person's does not.
    """

    first_answers: int
    sessions: int = 256
    per_second: float = 0.0
    users: int = 3_000
    seed: int = 0
    manners: Manners = USUAL
    read_seconds: float = 0.8
    retry_seconds: tuple[float, float] = (1.3, 2.5)


@dataclass(slots=True, kw_only=True)
class Mood:
    """How satisfying replies were, by release: what the simulator knows and the loop has to guess.

    Attributes:
        replies: How many.
        satisfied: Sum of the probabilities that the person was satisfied.
    """

    replies: int = 0
    satisfied: float = 0.0


@dataclass(slots=True)
class Traffic:
    """One crowd at work."""

    people: People
    crowd: Crowd
    stop: asyncio.Event
    started: int = 0
    finished: int = 0
    moods: defaultdict[str, Mood] = field(default_factory=lambda: defaultdict(Mood))
    _topics: dict[int, Iterator[Question]] = field(default_factory=dict)
    _next_at: float = 0.0

    async def run(self, progress: Callable[[], None]) -> None:
        """Let everybody have their say; ``progress`` is called after each first answer."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.crowd.sessions):
                group.create_task(self._sessions(progress))

    async def _sessions(self, progress: Callable[[], None]) -> None:
        while not self.stop.is_set() and self._may_start():
            number = self.started
            self.started += 1
            await self._pace()
            await self._session(Random(f"{self.crowd.seed}:session:{number}"))
            self.finished += 1
            progress()

    def _may_start(self) -> bool:
        return self.crowd.first_answers == 0 or self.started < self.crowd.first_answers

    async def _pace(self) -> None:
        if self.crowd.per_second > 0:
            now = asyncio.get_running_loop().time()
            at = max(self._next_at, now)
            self._next_at = at + 1 / self.crowd.per_second
            await asyncio.sleep(at - now)

    async def _session(self, random: Random) -> None:
        """Ask one question, and again while the person is not satisfied and patient."""
        user = random.randrange(self.crowd.users)
        topic = self._topics.setdefault(user, topics(user, seed=self.crowd.seed))
        question, before = next(topic), None
        for attempt in range(1, self.crowd.manners.tries + 1):
            reply = await self.people.ask(
                Ask(
                    prompt=question.prompt,
                    user=f"person-{user:04d}",
                    streamed=random.random() < 0.5,
                )
            )
            if reply is None:
                return
            if before is not None:
                self.people.ledger.retries.append((before, reply.completion_id))
            reaction = self._feel(question, reply, attempt, random)
            await self._react(reply, reaction, random)
            if not reaction.retries:
                return
            self.people.ledger.meaningless += reaction.happy
            before = reply.completion_id
            await asyncio.sleep(random.uniform(*self.crowd.retry_seconds))

    def _feel(self, question: Question, reply: Reply, attempt: int, random: Random) -> Reaction:
        satisfied = satisfaction(question, reply.text)
        mood = self.moods[reply.release]
        mood.replies += 1
        mood.satisfied += satisfied
        return react(satisfied, attempt=attempt, manners=self.crowd.manners, random=random)

    async def _react(self, reply: Reply, reaction: Reaction, random: Random) -> None:
        if reaction.thumb is None and not reaction.copied:
            return
        await asyncio.sleep(random.uniform(0, self.crowd.read_seconds))
        if reaction.thumb is not None:
            await self.people.vote(reply.completion_id, signal="thumb", value=reaction.thumb)
        if reaction.copied:
            await self.people.vote(reply.completion_id, signal="outcome", value="copied")
