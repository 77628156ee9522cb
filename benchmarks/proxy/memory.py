"""The sidecar's memory over minutes of full load, with an outage of its log in the middle.

    python -m benchmarks.proxy.memory [--minutes 6]

A third of the time all is well, a third the log cannot be written, a third it can again. The
outage is a limit on the size of the process' files that the log's segments meet and the spool's do
not: its writes fail as on a full disk. The spool is bounded to 64 MiB for it, so that it sheds.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from benchmarks.proxy import load
from benchmarks.proxy.cost import resident_mib
from benchmarks.proxy.targets import Target, sidecar, stub

_SLICE_SECONDS = 10.0
_SPOOL_BYTES = 64 * 2**20
_FILE_BYTES = 18 * 2**20  # above the size of the spool's segments, below that of the log's


@contextmanager
def refused(pid: int) -> Iterator[None]:
    """Let no file of a process grow above the limit for as long as the context lasts."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (_FILE_BYTES, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def _bytes(folder: Path) -> int:
    found = 0
    for file in folder.rglob("*"):
        try:
            found += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue  # released meanwhile
    return found


def watch(target: Target, home: Path, phase: str, seconds: float) -> None:
    """Put full load on the sidecar, and say every ten seconds what it holds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.monotonic()
        tally = uvloop.run(load.flat_out(target.port, target.requests, _SLICE_SECONDS))
        rate = tally.good / (time.monotonic() - begun)
        spool = _bytes(home / "spool") / 2**20
        print(
            f"{phase:12}{rate:10.0f}{tally.bad:10}{resident_mib(target.pid):12.1f}{spool:12.1f}",
            flush=True,
        )


def main() -> None:
    """Run the three phases."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.proxy.memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=6.0)
    third = parser.parse_args().minutes * 20
    print(f"{'log':12}{'req/s':>10}{'failed':>10}{'RSS MiB':>12}{'spool MiB':>12}")
    with (
        tempfile.TemporaryDirectory() as name,
        stub() as server,
        sidecar(
            Path(name), server.port, FEEDBACKLOOP_SIDECAR__SPOOL_DISK_BYTES=str(_SPOOL_BYTES)
        ) as target,
    ):
        home = Path(name) / "home"
        watch(target, home, "there", third)
        with refused(target.pid):
            watch(target, home, "refused", third)
        watch(target, home, "back", third)


if __name__ == "__main__":
    main()
