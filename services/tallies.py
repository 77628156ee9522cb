"""How replies ended and how long they took, counted as plain numbers until somebody asks.

A reply touches six series; looking them up and locking each costs more than all else that is done
for its record on the event loop. So each release has a tally of its own, and a scrape makes
Prometheus' families of it. Belongs to one event loop, on which the scrape is answered, too.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from math import inf

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

_RELEASE = ["alias", "release", "arm"]
_FIRST_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, inf)
_REPLY_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, inf)


class Durations:
    """A histogram."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * len(bounds)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Take one more in."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return the bounds, each with how many were not above it."""
        names = ["+Inf" if bound == inf else str(bound) for bound in self._bounds]
        return list(zip(names, accumulate(map(float, self._counts)), strict=True))


class Tally:
    """The replies of one release, for one alias, on one side of a rollout."""

    def __init__(self) -> None:
        self.codes: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.first = Durations(_FIRST_BOUNDS)
        self.whole = Durations(_REPLY_BOUNDS)

    def ended(
        self, *, code: int, outcome: str, first_seconds: float | None, seconds: float
    ) -> None:
        """Count one reply."""
        self.codes[code] += 1
        self.outcomes[outcome] += 1
        if first_seconds is not None:
            self.first.add(first_seconds)
        self.whole.add(seconds)


class Tallies(Collector):
    """Every release's tally, and what a scrape reads of them."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, str], Tally] = {}

    def of(self, alias: str, release: str, arm: str) -> Tally:
        """Return a release's tally."""
        key = (alias, release, arm)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        return tally

    def forget(self, release: str) -> None:
        """Remove the series of a release that was collected."""
        self._tallies = {key: one for key, one in self._tallies.items() if key[1] != release}

    def collect(self) -> Iterator[Metric]:
        """Make Prometheus' families."""
        requests = CounterMetricFamily(
            "feedbackloop_requests",
            "Completion requests answered, by the status that the client got.",
            labels=[*_RELEASE, "code"],
        )
        outcomes = CounterMetricFamily(
            "feedbackloop_outcomes", "How replies ended.", labels=[*_RELEASE, "outcome"]
        )
        first = HistogramMetricFamily(
            "feedbackloop_ttft_seconds",
            "From the request's acceptance to the first byte of its reply.",
            labels=_RELEASE,
        )
        whole = HistogramMetricFamily(
            "feedbackloop_reply_seconds",
            "From the request's acceptance to the end of its reply.",
            labels=_RELEASE,
        )
        for key, tally in self._tallies.items():
            for code, count in tally.codes.items():
                requests.add_metric([*key, str(code)], count)
            for outcome, count in tally.outcomes.items():
                outcomes.add_metric([*key, outcome], count)
            first.add_metric(key, buckets=tally.first.buckets(), sum_value=tally.first.sum)
            whole.add_metric(key, buckets=tally.whole.buckets(), sum_value=tally.whole.sum)
        yield from (requests, outcomes, first, whole)


REPLIES = Tallies()
REGISTRY.register(REPLIES)
