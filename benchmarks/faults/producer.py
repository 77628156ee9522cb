"""One sidecar's way to the log without its HTTP: records into its spool, and its forwarder.

    python -m benchmarks.faults.producer --number 2 --events 5000 --per-second 300

The settings come from the environment, as a sidecar's do. It ends once the log has everything.
"""

import argparse
import asyncio
import sys
import time
from random import Random

from benchmarks.forward.events import KEYS, TENANT, exchange
from feedbackloop.capture import record
from feedbackloop.capture.attribution import Attribution
from services import logs, wiring, wiring_spool
from services.settings import load
from services.sidecar.forwarder import Forwarder
from services.sidecar.letters import DeadLetters
from services.sidecar.translator import Translator

EACH = 1_000_000
"""The first number of a producer's completions is its own number times this."""

_DRAIN_SECONDS = 7_200  # whoever started it gives up sooner


def produce(number: int, *, events: int, per_second: float) -> bool:
    """Record completions at a steady rate; say whether all of them were forwarded."""
    settings = load()
    name = f"sidecar-{number}"
    spool = wiring_spool.open_spool(settings, name)
    letters = DeadLetters(settings.home / "spool" / f"{name}.dead-letters.jsonl")
    translator = Translator({TENANT: KEYS}, Attribution(), letters)
    event_log = wiring.open_log(settings, partition=name)
    forwarder = Forwarder(spool, event_log, translator, random=Random(number))
    forwarder.start()
    random, begun = Random(number), time.monotonic()
    for count in range(events):
        for half in exchange(random, number * EACH + count):
            spool.offer(record.encode(half), durable=False)
        ahead = begun + count / per_second - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
    drained = forwarder.stop(drain_seconds=_DRAIN_SECONDS)
    asyncio.run(forwarder.close())
    spool.close()
    return drained


def main() -> int:
    """Produce; 0 once everything is in the log."""
    logs.set_up()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.producer")
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--per-second", type=float, required=True)
    given = parser.parse_args()
    whole = produce(given.number, events=given.events, per_second=given.per_second)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
