"""What is lost when things break: nothing that anybody was told is safe, and nothing in silence.

    python -m benchmarks.faults [--only spool disk kafka] [--kills 200] [--minutes 60] [--json FILE]

Real processes under load are killed, at random and at every call to the disk, and their disk is
taken from them. What clients saw is compared with what the log holds. Exit status 1 if any promise
was broken. It ends by itself: after --minutes what is left is not done, and the table says so. On
SIGTERM it ends what it started.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from benchmarks.ending import end_on_sigterm
from benchmarks.faults import disk, kafka, spool, starting
from benchmarks.faults.options import Options
from benchmarks.faults.table import Row, table

# A part yields its rows as they are done.
PARTS: dict[str, Callable[[Options], Iterator[Row]]] = {
    "spool": spool.faults,
    "disk": lambda options: chain(disk.faults(options), starting.faults(options)),
    "kafka": kafka.faults,
}

_SAMPLE = {"kills": 4, "points": 1, "stride": 4, "fault_seconds": 3.0, "minutes": 3.0}


def main() -> int:
    """Do what is asked for, print tables, and say whether every promise was kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--kills", type=int, default=200, help="at random moments, in each part")
    parser.add_argument("--points", type=int, help="first calls of each kind to be killed at")
    parser.add_argument("--stride", type=int, default=1, help="at each so many-th call")
    parser.add_argument("--fault-seconds", type=float, default=6.0, help="that a disk fails")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin nothing after that")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", action="store_true", help="a little of each, for CI")
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    given = parser.parse_args()
    if given.sample:
        vars(given).update(_SAMPLE)
    options = Options(
        kills=given.kills,
        points=given.points,
        stride=given.stride,
        fault_seconds=given.fault_seconds,
        until=time.monotonic() + given.minutes * 60,
        seed=given.seed,
    )
    end_on_sigterm()
    rows: list[Row] = []
    for part in given.only:
        for row in PARTS[part](options):
            rows.append(row)
            print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 1 if any(row.broken for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
