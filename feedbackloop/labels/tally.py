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
from feedbackloop.labels.gather import Gathering, retried
from feedbackloop.labels.resolve import PRIORS, Label, Source, resolve


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is to learn from.

    Attributes:
        desirable: Completions labelled desirable.
        undesirable: Completions labelled undesirable.
        pairs: Completions that were retried on the same prompt until one was accepted.
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
        confidences: As for ``resolve``.
    """

    def __init__(
        self,
        *,
        watermark: timedelta,
        counted: Callable[[CompletionServed], bool],
        confidences: Mapping[Source, float] = PRIORS,
    ) -> None:
        self.gathering = Gathering()
        self._watermark = watermark
        self._counted = counted
        self._confidences = confidences
        self._waiting: list[tuple[datetime, CompletionId]] = []
        self._mature: dict[CompletionId, Label | None] = {}
        self._retried_from: dict[CompletionId, set[CompletionId]] = {}
        self._pairs: set[tuple[CompletionId, CompletionId]] = set()
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
            self._label(completion_id)
        return Counts(
            desirable=self._counter[alias, "desirable"],
            undesirable=self._counter[alias, "undesirable"],
            pairs=self._counter[alias, "pairs"],
        )

    def _label(self, completion_id: CompletionId) -> None:
        one = self.gathering.of(completion_id)
        if one.completion is None or not self._counted(one.completion):
            return
        alias = one.completion.alias
        self._count(alias, self._mature.get(completion_id), -1)
        label = resolve(completion_id, one.signals, confidences=self._confidences)
        self._mature[completion_id] = label
        self._count(alias, label, +1)
        for retry in retried(one):
            self._retried_from.setdefault(retry.retry_id, set()).add(completion_id)
            self._pair(alias, completion_id, retry.retry_id)
        for first in self._retried_from.get(completion_id, set()):
            self._pair(alias, first, completion_id)

    def _count(self, alias: str, label: Label | None, step: int) -> None:
        if label is not None:
            self._counter[alias, "desirable" if label.desirable else "undesirable"] += step

    def _pair(self, alias: str, first: CompletionId, second: CompletionId) -> None:
        is_pair = self._is_pair(first, second)
        if is_pair and (first, second) not in self._pairs:
            self._pairs.add((first, second))
            self._counter[alias, "pairs"] += 1
        elif not is_pair and (first, second) in self._pairs:
            self._pairs.discard((first, second))
            self._counter[alias, "pairs"] -= 1

    def _is_pair(self, first: CompletionId, second: CompletionId) -> bool:
        rejected, chosen = self._mature.get(first), self._mature.get(second)
        if rejected is None or chosen is None or rejected.desirable or not chosen.desirable:
            return False
        before, after = self.gathering.of(first).completion, self.gathering.of(second).completion
        return before is not None and after is not None and before.chain[-1:] == after.chain[-1:]
