"""A client that is never idle: what does it notice while releases change?

It keeps a fixed number of requests in flight, half of them streams, all greedy and on a fixed set
of probes. What each release says to each probe is recorded while nothing changes, before and
after. A reply between is misattributed if it says what another release says, and not what the
release in its header says.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from demo.client import Ask, People
from demo.world import Task, questions

_PROBES_EACH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One reply: to which probe, in which release's name, and what it said."""

    probe: str
    release: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Whose words the replies were.

    Attributes:
        judged: Replies to probes that tell releases apart.
        misattributed: Of those, replies with the words of another release than the named one.
        unexplained: Of those, replies with the words of none.
    """

    judged: int
    misattributed: int
    unexplained: int


def attribute(seen: Sequence[Seen], known: Mapping[str, Mapping[str, str]]) -> Attribution:
    """Hold replies against what each release is known to say.

    Args:
        seen: Replies.
        known: What each release says, by probe and then release.
    """
    judged = misattributed = unexplained = 0
    for one in seen:
        says = known.get(one.probe, {})
        if one.release not in says or len(set(says.values())) < 2:
            continue
        judged += 1
        if one.text != says[one.release]:
            anothers = one.text in says.values()
            misattributed += anothers
            unexplained += not anothers
    return Attribution(judged=judged, misattributed=misattributed, unexplained=unexplained)


@dataclass(slots=True)
class Watch:
    """``in_flight`` people who ask their own probes over and over."""

    people: People
    in_flight: int
    seed: int
    stop: asyncio.Event
    seen: list[Seen] = field(default_factory=list)
    unanswered: int = 0
    known: dict[str, dict[str, str]] = field(default_factory=dict)
    """What each release says, by probe and then release."""

    async def run(self) -> None:
        """Keep asking until ``stop`` is set."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.in_flight):
                group.create_task(self._keep_asking(number))

    async def record(self) -> None:
        """Ask every probe once. Nothing may change now, so that headers can be believed."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.in_flight):
                group.create_task(self._recite(number))

    def releases(self) -> Counter[str]:
        """Count the replies of each release."""
        return Counter(one.release for one in self.seen)

    def attribution(self) -> Attribution:
        """Judge everything that was seen while watching."""
        return attribute(self.seen, self.known)

    async def _recite(self, number: int) -> None:
        for probe in self._probes(number):
            reply = await self.people.ask(self._ask(number, probe, streamed=False))
            if reply is not None:
                self.known.setdefault(probe, {})[reply.release] = reply.text

    async def _keep_asking(self, number: int) -> None:
        probes = self._probes(number)
        turn = 0
        while not self.stop.is_set():
            probe = probes[turn % len(probes)]
            # Half of the people stream, and each half of the time, so half of all at any time.
            reply = await self.people.ask(
                self._ask(number, probe, streamed=(number + turn) % 2 == 1)
            )
            turn += 1
            if reply is None:
                self.unanswered += 1
            else:
                self.seen.append(Seen(probe=probe, release=reply.release, text=reply.text))

    def _probes(self, number: int) -> list[str]:
        """Return one watcher's probes: questions that people ask, as styles tell releases apart."""
        random = Random(f"{self.seed}:probes:{number}")
        asked = questions(Task.ADD, held_out=True)
        return [question.prompt for question in random.sample(asked, _PROBES_EACH)]

    @staticmethod
    def _ask(number: int, probe: str, *, streamed: bool) -> Ask:
        return Ask(prompt=probe, user=f"watcher-{number}", streamed=streamed, temperature=0.0)
