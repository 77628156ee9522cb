"""How much of what producers recorded arrived: expected, seen, declared lost, and missing.

A producer numbers its records from 0 without gaps, and every event says which records it came
from. A number that no event carries and no ``CaptureGap`` declares is missing: nobody knows what
it was. What a producer numbered last cannot be missed where its disk is lost with the records, or
its mark with the process (see ``marks.py``): nobody heard of the numbers.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec

from feedbackloop.events import AnyEvent, CaptureGap, CompletionServed

PATIENCE = timedelta(hours=2)
"""A number that is passed over may still come: a reply runs, or another partition is behind."""

_NAMED = 5  # ranges in a report


class Producer(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one producer's numbers.

    Attributes:
        expected: Numbers up to the highest that anybody heard of.
        seen: Of these, carried by an event.
        declared: Not seen, and declared lost.
        pending: Not seen, and passed over so lately that they may still come.
        missing: Neither: lost without a word.
        first_missing: The lowest ranges that are missing, inclusive.
    """

    expected: int
    seen: int
    declared: int
    pending: int
    missing: int
    first_missing: tuple[tuple[int, int], ...] = ()


class Completeness(msgspec.Struct, frozen=True, kw_only=True):
    """The sum over producers.

    Attributes:
        producers: How many numbered their records.
        expected: Records that they numbered, those pending left out.
        seen: Records that arrived.
        declared: Records declared lost, by reason.
        pending: Records that may still come.
        missing: Records lost without a word, by producer; those without are left out.
        ratio: Share of the expected that arrived; 1 if nobody numbered anything.
    """

    producers: int = 0
    expected: int = 0
    seen: int = 0
    declared: dict[str, int] = {}
    pending: int = 0
    missing: dict[str, int] = {}
    ratio: float = 1.0


class Numbers:
    """A set of numbers as ranges, each with the time at which its first one happened."""

    def __init__(self) -> None:
        self.firsts: list[int] = []
        self.lasts: list[int] = []
        self.times: list[datetime] = []

    def add(self, first: int, last: int, at: datetime) -> None:
        """Take the numbers from ``first`` to ``last`` in; twice is once."""
        low = bisect_right(self.lasts, first - 2)  # ends before first - 1: does not touch
        high = bisect_right(self.firsts, last + 1)
        if low < high:
            # The lowest number's earliest time, so that the order of arrival does not matter.
            first, at = min((first, at), (self.firsts[low], self.times[low]))
            last = max(last, self.lasts[high - 1])
        self.firsts[low:high] = [first]
        self.lasts[low:high] = [last]
        self.times[low:high] = [at]

    def count(self) -> int:
        """Return how many numbers are in."""
        return sum(self.lasts) - sum(self.firsts) + len(self.firsts)

    def highest(self) -> int:
        """Return the highest number, -1 if there is none."""
        return self.lasts[-1] if self.lasts else -1

    def holes(self) -> Iterator[tuple[int, int, datetime]]:
        """Yield the ranges from 0 on that are not in, and when they were passed over."""
        expected = 0
        for first, last, at in zip(self.firsts, self.lasts, self.times, strict=True):
            if first > expected:
                yield expected, first - 1, at
            expected = last + 1

    def without(self, other: "Numbers") -> int:
        """Return how many numbers are in and not in ``other``."""
        shared = 0
        for first, last in zip(self.firsts, self.lasts, strict=True):
            start = bisect_right(other.lasts, first - 1)
            for i in range(start, len(other.firsts)):
                if other.firsts[i] > last:
                    break
                shared += min(last, other.lasts[i]) - max(first, other.firsts[i]) + 1
        return self.count() - shared


class Audit:
    """Counts numbers as events arrive, in whichever order and however often."""

    def __init__(self) -> None:
        self._seen: defaultdict[str, Numbers] = defaultdict(Numbers)
        self._known: defaultdict[str, Numbers] = defaultdict(Numbers)
        self._declared: defaultdict[str, dict[str, Numbers]] = defaultdict(dict)

    def add(self, event: AnyEvent) -> None:
        """Take one event in. Repeats matter: two events of one id may come from two records."""
        if isinstance(event, CaptureGap):
            reasons = self._declared[event.producer]
            reasons.setdefault(event.reason, Numbers()).add(event.first, event.last, event.at)
            self._known[event.producer].add(event.first, event.last, event.at)
        elif event.producer:
            times = _times(event)
            for seq in event.seqs:
                at = next(times)
                self._seen[event.producer].add(seq, seq, at)
                self._known[event.producer].add(seq, seq, at)

    def producers(self, *, now: datetime, patience: timedelta = PATIENCE) -> dict[str, Producer]:
        """Say how each producer stands at ``now``."""
        return {name: self._producer(name, now - patience) for name in sorted(self._known)}

    def report(self, *, now: datetime, patience: timedelta = PATIENCE) -> Completeness:
        """Say how all of them stand at ``now``."""
        return summed(self.producers(now=now, patience=patience), self._reasons())

    def _producer(self, name: str, settled: datetime) -> Producer:
        known, seen = self._known[name], self._seen[name]
        holes = list(known.holes())
        missing = [(first, last) for first, last, at in holes if at <= settled]
        return Producer(
            expected=known.highest() + 1,
            seen=seen.count(),
            declared=known.count() - seen.count(),
            pending=_size((first, last) for first, last, at in holes if at > settled),
            missing=_size(missing),
            first_missing=tuple(missing[:_NAMED]),
        )

    def _reasons(self) -> dict[str, int]:
        total: defaultdict[str, int] = defaultdict(int)
        for name, reasons in self._declared.items():
            for reason, numbers in reasons.items():
                total[reason] += numbers.without(self._seen[name])
        return {reason: count for reason, count in sorted(total.items()) if count}


def summed(producers: Mapping[str, Producer], declared: Mapping[str, int]) -> Completeness:
    """Add producers up."""
    expected = sum(one.expected - one.pending for one in producers.values())
    seen = sum(one.seen for one in producers.values())
    return Completeness(
        producers=len(producers),
        expected=expected,
        seen=seen,
        declared=dict(declared),
        pending=sum(one.pending for one in producers.values()),
        missing={name: one.missing for name, one in producers.items() if one.missing},
        ratio=seen / expected if expected else 1.0,
    )


def _times(event: AnyEvent) -> Iterator[datetime]:
    """Say when each of an event's records was made: a completion's last one at its end."""
    yield event.at
    while True:
        yield event.ended_at if isinstance(event, CompletionServed) else event.at


def _size(ranges: Iterable[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in ranges)
