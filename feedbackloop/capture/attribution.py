"""Which earlier completion does a prompt react to? Found by hashes, in bounded memory."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from feedbackloop.capture import retries
from feedbackloop.capture.retries import DEFAULT_RULES, Crowd, Implied, Rules
from feedbackloop.capture.sketch import Sketch, sketch
from feedbackloop.events import CompletionServed, OutcomeReported, PromptRetried

_Key = tuple[str | int, ...]
_RECENT = 8  # completions that one key leads to: the person's last tries


class Attribution:
    """Remembers the last completions, and says what each new prompt implies about one of them.

    The sidecar runs it on what it serves, labelling on everything that was served; both find
    the same facts under the same ids, and labelling finds those that two sidecars shared. A
    prompt can only react to a completion that had ended before, so whoever adds completions as
    they end sees for each prompt all that it can react to.

    Args:
        rules: Thresholds of detection.
        capacity: How many keys are remembered; four for each completion.
    """

    def __init__(self, *, rules: Rules = DEFAULT_RULES, capacity: int = 100_000) -> None:
        self._rules = rules
        self._capacity = capacity
        self._recent: OrderedDict[_Key, deque[Sketch]] = OrderedDict()
        self._askers: OrderedDict[_Key, deque[tuple[datetime, _Key]]] = OrderedDict()

    def add(self, completion: CompletionServed) -> PromptRetried | OutcomeReported | None:
        """Take the next completion in, as it ended; return what its prompt implies.

        One that is added again is known and gives the same answer.
        """
        second = sketch(completion)
        for key in _places(second):
            self._keep(key, second)
        self._ask(second)
        return next(self._implications(second), None)

    def __len__(self) -> int:
        """Count the prompts that are remembered."""
        return sum(len(known) for key, known in self._recent.items() if key[0] == "prompt")

    def _implications(self, second: Sketch) -> Iterator[PromptRetried | OutcomeReported]:
        crowd: Crowd | None = None
        for first in self._candidates(second):
            crowd = crowd or self._crowd(second)
            implication = retries.judge(first, second, rules=self._rules, crowd=crowd)
            if implication is None:
                continue
            event = retries.event(first, second, implication)
            if event is not None:
                yield event
            if retries.repeats(first, second) or implication.implied is not Implied.NONE:
                # The same prompt leaves no doubt which completion it reacts to.
                return

    def _candidates(self, second: Sketch) -> Iterator[Sketch]:
        """Yield what the prompt may react to, most certain first, then latest first."""
        lookups: tuple[_Key, ...] = (
            ("prompt", *second.who, second.prompt),
            ("place", *second.who, second.before, second.length),
            ("reply", second.tenant, second.before),
        )
        for key in lookups:
            known = self._recent.get(key, ())
            ended = [one for one in known if one.ended_at <= second.accepted_at]
            for first in sorted(ended, key=_when, reverse=True):
                if first.completion_id != second.completion_id:
                    yield first

    def _keep(self, key: _Key, one: Sketch) -> None:
        known = self._recent.setdefault(key, deque(maxlen=_RECENT))
        self._recent.move_to_end(key)
        again = next((old for old in known if old.completion_id == one.completion_id), None)
        if again is not None:
            known.remove(again)
        known.append(one)
        while len(self._recent) > self._capacity:
            self._recent.popitem(last=False)

    def _ask(self, one: Sketch) -> None:
        """Note who asked which prompt, as far as the crowd's size needs it."""
        key = (one.tenant, one.prompt)
        known = self._askers.setdefault(key, deque(maxlen=self._rules.max_askers + 1))
        self._askers.move_to_end(key)
        if all(who != one.who for _, who in known):
            known.append((one.accepted_at, one.who))
        while len(self._askers) > self._capacity:
            self._askers.popitem(last=False)

    def _crowd(self, second: Sketch) -> Crowd:
        since = second.accepted_at - timedelta(seconds=self._rules.crowd_seconds)
        askers = self._askers.get((second.tenant, second.prompt), ())
        mine = self._recent.get(("prompt", *second.who, second.prompt), ())
        return Crowd(
            askers=sum(since <= at <= second.accepted_at for at, _ in askers),
            times=sum(since <= one.accepted_at <= second.accepted_at for one in mine),
        )


def implied(
    completions: Iterable[CompletionServed], *, rules: Rules = DEFAULT_RULES
) -> list[PromptRetried | OutcomeReported]:
    """Return what all prompts imply about earlier completions, whatever order they come in."""
    order = sorted(completions, key=lambda one: (one.ended_at, one.completion_id))
    attribution = Attribution(rules=rules, capacity=4 * len(order) + 1)
    found = (attribution.add(completion) for completion in order)
    return [event for event in found if event is not None]


def _when(one: Sketch) -> tuple[datetime, str]:
    return one.ended_at, one.completion_id


def _places(one: Sketch) -> Iterator[_Key]:
    """Name the places at which a later prompt would look for this completion."""
    for chain in one.reply_chains:
        yield ("reply", one.tenant, chain)
    yield ("prompt", *one.who, one.prompt)
    yield ("place", *one.who, one.before, one.length)
