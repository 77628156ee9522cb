"""Which earlier completion does a prompt react to? Found by hashes, in bounded memory."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from sys import maxsize

from feedbackloop.capture import retries
from feedbackloop.capture.remembered import Remembered
from feedbackloop.capture.retries import DEFAULT_RULES, Crowd, Implied, Rules, vocabulary
from feedbackloop.capture.sketch import Sketch, held_bytes, sketch
from feedbackloop.events import CompletionServed, OutcomeReported, PromptRetried

_RECENT = 8  # completions that one key leads to: the person's last tries
CAPACITY_BYTES = 96 * 2**20
"""What completions may take, as estimated: 26,000 with turns of 50 words, 8,000 of the longest."""
_ASKED_BYTES = 1_280  # of that for each who asked a prompt: 78,000 of them, 25 MiB more
_PACES = 200_000  # moments at which people asked: 14 MiB
_PERSON_TIMES = 4  # moments take as much as the person whose they are
_KEY_BYTES = 320  # of a key and its place


class Attribution:
    """Remembers the last completions, and says what each new prompt implies about one of them.

    The sidecar runs it on what it serves, labelling on everything that was served; both find
    the same facts under the same ids, and labelling finds those that two sidecars shared. A
    prompt can only react to a completion that had ended before, so whoever adds completions as
    they end sees for each prompt all that it can react to.

    Args:
        rules: Thresholds of detection.
        capacity_bytes: How much the completions that are remembered may take. The keys to them are
            asked for in the order of ``add``: the first is forgotten first. Who asked what takes a
            quarter of that, and how fast, about 14 MiB.
    """

    def __init__(
        self, *, rules: Rules = DEFAULT_RULES, capacity_bytes: int = CAPACITY_BYTES
    ) -> None:
        self._rules = rules
        self._vocabulary = vocabulary(rules)
        # All keys are hashes, see ``_key``.
        self._recent: Remembered[int, tuple[Sketch, ...]] = Remembered(capacity_bytes)
        self._askers: Remembered[int, tuple[tuple[datetime, int], ...]] = Remembered(
            capacity_bytes // _ASKED_BYTES
        )
        self._pace: Remembered[int, tuple[datetime, ...]] = Remembered(_PACES)

    def add(self, completion: CompletionServed) -> PromptRetried | OutcomeReported | None:
        """Take the next completion in, as it ended; return what its prompt implies.

        One that is added again is known and gives the same answer.
        """
        second = sketch(completion)
        # All of its keys lead to one sketch: the first one bears its weight.
        weight = held_bytes(second)
        for key in _places(second):
            self._keep(key, second, weight)
            weight = 0
        self._ask(second)
        return next(self._implications(second), None)

    def __len__(self) -> int:
        """Count the completions that are remembered."""
        return len({one.completion_id for _, known in self._recent.items() for one in known})

    def _implications(self, second: Sketch) -> Iterator[PromptRetried | OutcomeReported]:
        crowd: Crowd | None = None
        for first in self._candidates(second):
            crowd = crowd or self._crowd(second)
            implication = retries.judge(
                first,
                second,
                rules=self._rules,
                vocabulary=self._vocabulary,
                crowd=crowd,
            )
            if implication is None:
                continue
            event = retries.event(first, second, implication)
            if event is not None:
                yield event
            if implication.reason == retries.FAILED:
                # Whoever asks once more what was not answered still means the answer before.
                continue
            if retries.repeats(first, second) or implication.implied is not Implied.NONE:
                # The same prompt leaves no doubt which completion it reacts to.
                return

    def _candidates(self, second: Sketch) -> Iterator[Sketch]:
        """Yield what the prompt may react to, most certain first, then latest first."""
        seen, who = {second.completion_id}, second.who
        lookups = (
            _key("place", *who, second.tail),
            _key("chain", second.tenant, second.before),
            _key("reply", *who, second.tail),
        )
        for key in lookups:
            known = self._recent.get(key)
            if known is None or (len(known) == 1 and known[0] is second):
                continue
            ended = [one for one in known if one.ended_at <= second.accepted_at]
            for first in sorted(ended, key=lambda one: _certainty(one, second), reverse=True):
                if first.completion_id not in seen:
                    seen.add(first.completion_id)
                    yield first

    def _keep(self, key: int, one: Sketch, weight: int) -> None:
        known = self._recent.get(key)
        if known is None:
            self._recent.put(key, (one,), weight=weight + _KEY_BYTES)
            return
        others = [old for old in known if old.completion_id != one.completion_id]
        kept = (*others, one)[-_RECENT:]
        # The older ones may be remembered here alone by now.
        weight += sum(map(held_bytes, kept[:-1]))
        self._recent.put(key, kept, weight=weight + _KEY_BYTES)

    def _ask(self, one: Sketch) -> None:
        """Note who asked which prompt and how fast, as far as the rules need it."""
        key, asker = _key("prompt", one.tenant, one.prompt), _key("person", *one.who)
        # Tuples: most hold one entry, for which a deque would take ten times the memory.
        known = self._askers.get(key) or ()
        if asker not in [who for _, who in known]:
            known = (*known, (one.accepted_at, asker))[-self._rules.max_askers - 1 :]
        self._askers.put(key, known, weight=len(known))
        times = self._pace.get(asker) or ()
        if one.accepted_at not in times:
            times = (*times, one.accepted_at)[-self._rules.max_per_minute - 1 :]
        self._pace.put(asker, times, weight=len(times) + _PERSON_TIMES)

    def _crowd(self, second: Sketch) -> Crowd:
        now = second.accepted_at
        since = now - timedelta(seconds=self._rules.crowd_seconds)
        askers = self._askers.get(_key("prompt", second.tenant, second.prompt)) or ()
        place = self._recent.get(_key("place", *second.who, second.tail)) or ()
        times = self._pace.get(_key("person", *second.who)) or ()
        mine = (one for one in place if one.prompt == second.prompt)
        lately = now - timedelta(minutes=1)
        return Crowd(
            askers=sum(since <= at <= now for at, _ in askers),
            times=sum(since <= one.accepted_at <= now for one in mine),
            pace=sum(lately <= at <= now for at in times),
        )


def implied(
    completions: Iterable[CompletionServed], *, rules: Rules = DEFAULT_RULES
) -> list[PromptRetried | OutcomeReported]:
    """Return what all prompts imply about earlier completions, whatever order they come in."""
    order = sorted(completions, key=lambda one: (one.ended_at, one.completion_id))
    attribution = Attribution(rules=rules, capacity_bytes=maxsize)
    found = (attribution.add(completion) for completion in order)
    return [event for event in found if event is not None]


def _certainty(first: Sketch, second: Sketch) -> tuple[bool, datetime, str]:
    return retries.repeats(first, second), first.ended_at, first.completion_id


def _key(kind: str, *names: str | int) -> int:
    """Name something in 64 bits: two of a million alike would do no harm, for both are compared."""
    return hash((kind, names))


def _places(one: Sketch) -> list[int]:
    """Name the places at which a later prompt would look for this completion."""
    who = one.who
    places = [_key("chain", one.tenant, chain) for chain in one.reply_chains]
    places += [_key("reply", *who, tail) for tail in one.reply_tails]
    places.append(_key("place", *who, one.tail))
    return places
