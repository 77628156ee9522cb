"""What the process behind the spool tells the sidecar, so that one scrape shows both.

A line of JSON each time. It holds what was counted since the last one, so that whoever adds them up
never counts down, however often the process is started again.
"""

from collections import Counter
from collections.abc import Mapping

import msgspec
import prometheus_client

from feedbackloop.capture.fields import UNREADABLE
from services import telemetry

Key = tuple[str, tuple[str, ...]]
"""A counter's name in ``telemetry.py``, and the values of its labels."""


class Count(msgspec.Struct, frozen=True, array_like=True):
    """How much one series has grown."""

    counter: str
    labels: tuple[str, ...]
    amount: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What has happened since the last report.

    Attributes:
        counts: Of every series that has grown.
        oldest_at_ns: When the oldest record was handed over that was read and is not confirmed, in
            nanoseconds since 1970; 0 if there is none.
        beats: How many steps were done since the start; None from a child that does not say.
    """

    counts: tuple[Count, ...] = ()
    oldest_at_ns: int = 0
    beats: int | None = None


_reports = msgspec.json.Decoder(Report)


class Reporter:
    """Writes reports of this process' counters."""

    def __init__(self) -> None:
        self._told: Mapping[Key, float] = {}

    def line(self, *, oldest_at_ns: int, beats: int) -> bytes:
        """Return the next report, with its end of line."""
        now = _counted()
        grown = {key: amount - self._told.get(key, 0.0) for key, amount in now.items()}
        self._told = now
        counts = tuple(Count(*key, amount) for key, amount in grown.items() if amount)
        report = Report(counts=counts, oldest_at_ns=oldest_at_ns, beats=beats)
        return msgspec.json.encode(report) + b"\n"


def read(line: bytes) -> Report:
    """Read a report, and add what it says to this process' counters.

    Raises:
        ValueError: If it is none, or of a version that counts otherwise.
    """
    try:
        report = _reports.decode(line)
        for one in report.counts:
            counter: prometheus_client.Counter = getattr(telemetry, one.counter)
            (counter.labels(*one.labels) if one.labels else counter).inc(one.amount)
    except (*UNREADABLE, AttributeError, ValueError) as error:
        raise ValueError(f"no report of this version: {error}") from error
    return report


def _counted() -> Mapping[Key, float]:
    return Counter(
        {
            (name, tuple(sample.labels.values())): sample.value
            for name, metric in vars(telemetry).items()
            if isinstance(metric, prometheus_client.Counter)
            for family in metric.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        }
    )
