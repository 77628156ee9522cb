"""The sidecar's disk fails under load: it fills up, refuses, goes read-only, stands still."""

import asyncio
import contextlib
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from random import Random

from benchmarks.faults import books
from benchmarks.faults.clients import Clients
from benchmarks.faults.options import Options
from benchmarks.faults.sidecars import Sidecar, can_trace, ready_again, sidecar
from benchmarks.faults.table import Row
from benchmarks.faults.volume import Volume, covered, mounted
from benchmarks.proxy.cost import tree
from benchmarks.proxy.targets import stub

PART = "disk"
PEOPLE = 4
_HEAL_SECONDS = 30.0
_INJECTED = {
    "write: EIO": ["pwrite64:error=EIO"],
    "fdatasync: EIO": ["fdatasync:error=EIO"],
    "read-only (EROFS)": [
        "pwrite64,ftruncate,fallocate,fsync,fdatasync:error=EROFS",
        "rename,renameat,unlink,unlinkat,mkdir,mkdirat:error=EROFS",
    ],
    "full (ENOSPC)": ["pwrite64,fallocate:error=ENOSPC"],
    "stands still": ["pwrite64,fdatasync,fsync:delay_enter=60s"],
}
_Fault = Callable[[Volume, Sidecar], AbstractContextManager[None]]
_REAL: dict[str, _Fault] = {
    "full: a small volume": lambda volume, _: volume.full(),
    "stands still: a frozen volume": lambda volume, _: volume.frozen(),
    "gone from its place: a volume mounted over it": lambda _, one: covered(one.spool),
}


def faults(options: Options) -> Iterator[Row]:
    """Do everything to the disk that this module knows."""
    with stub() as upstream:
        for name, injections in _INJECTED.items():
            if options.is_over():
                return
            yield _injected(name, injections, upstream.port, options)
        for name, fault in _REAL.items():
            if options.is_over():
                return
            yield _real(name, fault, upstream.port, options)


def _injected(name: str, injections: list[str], upstream_port: int, options: Options) -> Row:
    row = Row(part=PART, fault=f"{name}, by strace")
    if not can_trace():
        row.skipped = "strace is missing or may not trace"
        return row
    with sidecar(upstream_port) as one:
        ready_again(one)
        _suffer(one, row, _attached(one.pid, injections), options)
    return row


def _real(name: str, fault: _Fault, upstream_port: int, options: Options) -> Row:
    row = Row(part=PART, fault=name)
    with ExitStack() as stack:
        try:
            volume = stack.enter_context(mounted())
        except (OSError, subprocess.CalledProcessError):
            row.skipped = "no volume may be mounted"
            return row
        # Small segments, so that what they reserve is soon used up.
        limits = {"FEEDBACKLOOP_SIDECAR__SPOOL_DISK_BYTES": str(2**20)}
        one = stack.enter_context(
            sidecar(upstream_port, home=volume.folder / "home", settings=limits)
        )
        ready_again(one)
        _suffer(one, row, fault(volume, one), options)
    return row


def _suffer(one: Sidecar, row: Row, fault: AbstractContextManager[None], options: Options) -> None:
    """Keep people busy before, during and after a fault, and compare."""
    clients = Clients(one.port, Random(options.seed))
    asyncio.run(_live(clients, row, fault, options.fault_seconds))
    compare(one, clients, row)


def compare(one: Sidecar, clients: Clients, row: Row) -> None:
    """End a sidecar whose disk has failed, and hold what people saw against its log."""
    if one.end() != 0:
        row.broken.append("the sidecar did not end well")
    found = books.logged(one.home)
    row.broken += books.broken(clients.seen, found, may_shed=True)
    if not clients.seen.refused and not found.reasons:
        row.broken.append("no vote was refused and nothing shed: the fault was not felt")
    totals = books.Totals()
    totals.add(clients.seen, found, may_shed=True)
    row.times = 1
    row.figures = {**totals.figures(), **row.figures}


async def _live(
    clients: Clients, row: Row, fault: AbstractContextManager[None], seconds: float
) -> None:
    seen = clients.seen
    async with clients.busy(PEOPLE):
        await asyncio.sleep(seconds / 3)
        answered = len(seen.seconds)
        with fault:
            await asyncio.sleep(seconds)
            ill = seen.seconds[answered:]
        await recover(clients, row, ill)
        await asyncio.sleep(seconds / 3)


async def recover(clients: Clients, row: Row, ill: Sequence[float]) -> None:
    """Wait for the next accepted vote, now that the disk works again.

    Args:
        clients: Busy ones.
        row: Told how it went.
        ill: How long each answer took meanwhile, in seconds.
    """
    healed_at, seen = time.monotonic(), clients.seen
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_HEAL_SECONDS):
            await clients.next_accepted()
    row.figures["votes again after s"] = round(seen.last_accepted_at - healed_at, 1)
    row.figures["answer ms"] = round(statistics.median(ill) * 1_000) if ill else None
    if seen.last_accepted_at < healed_at:
        row.broken.append(f"no vote was accepted within {_HEAL_SECONDS:.0f} s of the end")


@contextmanager
def _attached(pid: int, injections: list[str]) -> Iterator[None]:
    """Let calls of a process that runs fail or wait, for as long as the context lasts."""
    calls = ",".join(one.split(":")[0] for one in injections)
    command = ["strace", "-f", "-qq", "-o", "/dev/null", f"--trace={calls}"]
    command += [f"--inject={one}" for one in injections]
    command += [f"--attach={one}" for one in tree(pid)]
    tracer = subprocess.Popen(command)  # noqa: S603
    status = Path(f"/proc/{pid}/status")
    while "TracerPid:\t0" in status.read_text() and tracer.poll() is None:
        time.sleep(0.01)
    try:
        yield
    finally:
        tracer.terminate()
        tracer.wait()
