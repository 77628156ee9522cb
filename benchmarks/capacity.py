"""What so many completions a day need: processes, brokers, partitions, disk, files.

    python -m benchmarks.capacity [--per-day 1e6 1e7 1e8] [--peak 3] [--days 365] [--json FILE]

Straight lines through what the other benchmarks measured; each input is an option, so that a team
puts in its own. Defaults are the figures in docs/capacity.md, with the command behind each.
"""

import argparse
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

_DAY_SECONDS = 86_400
_MIB = 2**20
_NODE_BYTES = 2 * 10**12


@dataclass(frozen=True, kw_only=True)
class Slopes:
    """What one completion takes; the first column names the benchmark that measures it.

    Attributes:
        answer_cpu_us: proxy: the sidecar's event loop, for a streamed answer of ``chunks``.
        forward_cpu_us: forward: behind the spool, parsing and redaction included.
        event_bytes: sizes: one event as it is written.
        kafka_share: sizes: what compression leaves of it on the broker.
        archive_cpu_us: archive: from Kafka to a file.
        parquet_bytes: sizes: one row in a file.
        signals: Signals for each completion; an event each, of a quarter of the size.
    """

    answer_cpu_us: float
    forward_cpu_us: float
    event_bytes: float
    kafka_share: float
    archive_cpu_us: float
    parquet_bytes: float
    signals: float


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How much room is left.

    Attributes:
        peak: Busiest second beside the mean one.
        load: Share of a core that is used at the peak, the rest being for spikes and rebalances.
        copies: Of each event on brokers.
        kafka_days: How long the topic keeps events.
        archive_days: How long the archive keeps rows.
        partition_bytes: A partition's bytes a second at the peak.
        broker_bytes: A broker's bytes a second at the peak, its share of the copies included.
    """

    peak: float
    load: float
    copies: int
    kafka_days: float
    archive_days: float
    partition_bytes: float = _MIB
    broker_bytes: float = 20 * _MIB


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a day's completions need."""

    per_day: float
    peak_per_second: float
    sidecar_cores: float
    archivers: int
    partitions: int
    brokers: int
    kafka_gb: float
    parquet_gb_a_day: float
    archive_gb: float
    sealed_files_a_day: int


def need(per_day: float, slopes: Slopes, terms: Terms) -> Need:
    """Draw the lines out to so many completions a day."""
    events = 1 + slopes.signals
    bytes_each = slopes.event_bytes * (1 + slopes.signals / 4)
    peak = per_day / _DAY_SECONDS * terms.peak
    on_wire = peak * bytes_each * slopes.kafka_share
    stored = per_day * bytes_each * slopes.kafka_share * terms.kafka_days * terms.copies
    archivers = math.ceil(peak * events * slopes.archive_cpu_us / 1e6 / terms.load)
    partitions = max(12, math.ceil(on_wire / terms.partition_bytes), 2 * archivers)
    daily = per_day * slopes.parquet_bytes * (1 + slopes.signals / 4)
    cpu_us = slopes.answer_cpu_us + events * slopes.forward_cpu_us
    # Three, so that one may be away; more for bytes a second, or for what a disk holds.
    busy = math.ceil(on_wire * terms.copies / terms.broker_bytes)
    return Need(
        per_day=per_day,
        peak_per_second=peak,
        sidecar_cores=peak * cpu_us / 1e6 / terms.load,
        archivers=archivers,
        partitions=partitions,
        brokers=max(3, busy, math.ceil(stored / _NODE_BYTES)),
        kafka_gb=stored / 1e9,
        parquet_gb_a_day=daily / 1e9,
        archive_gb=daily * terms.archive_days / 1e9,
        sealed_files_a_day=max(partitions, math.ceil(daily / (128 * _MIB))),
    )


_TITLES = {
    "per_day": "completions a day",
    "peak_per_second": "completions a second, at the peak",
    "sidecar_cores": "cores of sidecars, over all pods",
    "archivers": "archivers, a core each",
    "partitions": "partitions",
    "brokers": "brokers",
    "kafka_gb": "GB on brokers, all copies",
    "parquet_gb_a_day": "GB of Parquet a day",
    "archive_gb": "GB of Parquet kept",
    "sealed_files_a_day": "sealed files a day",
}


def table(needs: list[Need]) -> str:
    """Show needs as Markdown."""
    lines = []
    for name, title in _TITLES.items():
        cells = [_shown(getattr(one, name)) for one in needs]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines.insert(1, f"| --- |{' --- |' * len(needs)}")
    return "\n".join(lines)


def _shown(value: float) -> str:
    return f"{value:,.1f}" if value < 10 and value != int(value) else f"{value:,.0f}"


def main() -> None:
    """Print what is needed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.capacity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--per-day", type=float, nargs="+", default=[1e6, 1e7, 1e8])
    parser.add_argument("--peak", type=float, default=3.0)
    parser.add_argument("--load", type=float, default=0.5)
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--kafka-days", type=float, default=37.0)
    parser.add_argument("--days", type=float, default=365.0)
    parser.add_argument("--answer-cpu-us", type=float, default=4_010.0)
    parser.add_argument("--forward-cpu-us", type=float, default=468.0)
    parser.add_argument("--event-bytes", type=float, default=1_726.0)
    parser.add_argument("--kafka-share", type=float, default=0.22)
    parser.add_argument("--archive-cpu-us", type=float, default=42.0)
    parser.add_argument("--parquet-bytes", type=float, default=413.0)
    parser.add_argument("--signals", type=float, default=0.1)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    slopes = Slopes(
        answer_cpu_us=given.answer_cpu_us,
        forward_cpu_us=given.forward_cpu_us,
        event_bytes=given.event_bytes,
        kafka_share=given.kafka_share,
        archive_cpu_us=given.archive_cpu_us,
        parquet_bytes=given.parquet_bytes,
        signals=given.signals,
    )
    terms = Terms(
        peak=given.peak,
        load=given.load,
        copies=given.copies,
        kafka_days=given.kafka_days,
        archive_days=given.days,
    )
    needs = [need(one, slopes, terms) for one in given.per_day]
    print(table(needs))
    if given.json is not None:
        given.json.write_bytes(msgspec.json.encode([asdict(one) for one in needs]))


if __name__ == "__main__":
    main()
