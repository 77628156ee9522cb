"""Count labels as events arrive, so that a scheduler knows when a run is due.

Each event costs the same however many came before it: only the completion that it is about is
labelled anew, and once more when it matures.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from heapq import heappop, heappush

import msgspec

from feedbackloop.events import AnyEvent, CompletionId, CompletionServed
from feedbackloop.labels.gather import Gathered, Gathering, retried
from feedbackloop.labels.resolve import PRIORS, Label, Source, resolve


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is to learn from.

    Attributes:
        desirable: Completions labelled desirable.
        undesirable: Completions labelled undesirable.
        pairs: Disliked completions whose prompt was asked again until another was accepted.
    """

    desirable: int = 0
    undesirable: int = 0
    pairs: int = 0

    @property
    def minority(self) -> int:
        """Return the count of the rarer label."""
        return min(self.desirable, self.undesirable)


class Tally:
    """Running counts over a gathering, by alias.

    Args:
        watermark: How long after its end a completion is labelled, so that a late thumb wins.
        counted: Whether a completion may be trained on at all: held-out people's may not.
        usable: Whether it could become a row: one that was cut short cannot, whatever its label.
        confidences: As for ``resolve``.
    """

    def __init__(
        self,
        *,
        watermark: timedelta,
        counted: Callable[[CompletionServed], bool],
        usable: Callable[[CompletionServed], bool],
        confidences: Mapping[Source, float] = PRIORS,
    ) -> None:
        self.gathering = Gathering()
        self._watermark = watermark
        self._counted = counted
        self._usable = usable
        self._unusable: set[CompletionId] = set()
        self._confidences = confidences
        self._waiting: list[tuple[datetime, CompletionId]] = []
        self._mature: dict[CompletionId, Label | None] = {}
        self._retried_from: dict[CompletionId, set[CompletionId]] = {}
        self._offers: dict[CompletionId, CompletionId | None] = {}
        """What somebody who asked again and got this in the end accepted, if anything."""
        self._pairs: set[CompletionId] = set()
        self._counter: Counter[tuple[str, str]] = Counter()

    def add(self, event: AnyEvent) -> None:
        """Take one event of the log in."""
        changed = self.gathering.add(event)
        if changed is None:
            return
        if isinstance(event, CompletionServed):
            heappush(self._waiting, (event.ended_at + self._watermark, changed))
        elif changed in self._mature:
            self._label(changed)

    def counts(self, alias: str, *, now: datetime) -> Counts:
        """Count what is mature by ``now``; time must not run backwards between calls."""
        while self._waiting and self._waiting[0][0] <= now:
            _, completion_id = heappop(self._waiting)
            self._label(completion_id, again=completion_id in self._mature)
        return Counts(
            desirable=self._counter[alias, "desirable"],
            undesirable=self._counter[alias, "undesirable"],
            pairs=self._counter[alias, "pairs"],
        )

    def _label(self, completion_id: CompletionId, *, again: bool = False) -> None:
        """Label a completion; ``again`` says that a record of it came that knows more."""
        one = self.gathering.of(completion_id)
        if one.completion is None or not self._counted(one.completion):
            return
        alias = one.completion.alias
        if completion_id not in self._unusable:
            self._count(alias, self._mature.get(completion_id), -1)
        label = resolve(completion_id, one.signals, confidences=self._confidences)
        self._mature[completion_id] = label
        if self._usable(one.completion):
            self._unusable.discard(completion_id)
            self._count(alias, label, +1)
        else:
            self._unusable.add(completion_id)
        self._follow(completion_id, whole=again)

    def _follow(self, completion_id: CompletionId, *, whole: bool) -> None:
        """Look again at a completion, and at those before it in its chain while that matters."""
        todo, seen = [completion_id], set[CompletionId]()
        while todo:
            here = todo.pop()
            seen.add(here)
            before = self._offers.get(here)
            self._offers[here] = self._pair(here)
            # A chain of n retries is walked once when it is accepted, not once for each retry.
            if whole or self._offers[here] != before:
                todo += self._retried_from.get(here, set()) - seen

    def _count(self, alias: str, label: Label | None, step: int) -> None:
        if label is not None:
            self._counter[alias, "desirable" if label.desirable else "undesirable"] += step

    def _pair(self, completion_id: CompletionId) -> CompletionId | None:
        """Count the pair that a completion begins, or no longer; return what it offers."""
        one = self.gathering.of(completion_id)
        retries = retried(one)
        accepted = None
        if retries:
            following = retries[0].retry_id
            self._retried_from.setdefault(following, set()).add(completion_id)
            accepted = self._offers.get(following)
        label = self._mature.get(completion_id)
        usable = completion_id not in self._unusable
        if one.completion is not None:
            disliked = label is not None and not label.desirable
            is_pair = disliked and usable and self._differ(one, accepted)
            step = is_pair - (completion_id in self._pairs)
            self._counter[one.completion.alias, "pairs"] += step
            (self._pairs.add if is_pair else self._pairs.discard)(completion_id)
        if label is not None and label.desirable:
            return completion_id if usable else None
        return accepted

    def _differ(self, rejected: Gathered, accepted: CompletionId | None) -> bool:
        """Say whether two completions answer the same prompt in other words."""
        chosen = self.gathering.of(accepted).completion if accepted is not None else None
        before = rejected.completion
        if chosen is None or before is None or chosen.chain[-1:] != before.chain[-1:]:
            return False
        return [one.text for one in chosen.replies] != [one.text for one in before.replies]
