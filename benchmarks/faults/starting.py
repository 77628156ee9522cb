"""The sidecar's disk fails before it starts, and works some time after."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from random import Random

from benchmarks.faults.clients import Clients
from benchmarks.faults.disk import PART, PEOPLE, compare, recover
from benchmarks.faults.options import Options
from benchmarks.faults.sidecars import Sidecar, can_trace, ready_again, sidecar
from benchmarks.faults.table import Row
from benchmarks.faults.volume import Volume, mounted
from benchmarks.proxy.cost import tree
from benchmarks.proxy.targets import stub

_ACTIONS = 6  # of the one person before the disk fails
_INJECTED = {
    "refuses its folder (EIO)": "mkdir,openat:error=EIO",
    "is not ours (EACCES)": "mkdir,openat:error=EACCES",
}
_REAL: dict[str, Callable[[Volume], AbstractContextManager[None]]] = {
    "is mounted read-only": Volume.read_only,
    "is full: a small volume": Volume.full,
    "stands still: a frozen volume": Volume.frozen,
    "is not mounted yet": Volume.away,
}


def faults(options: Options) -> Iterator[Row]:
    """Let every disk that this module knows fail at the start, or a few of either kind."""
    with stub() as upstream:
        for name, injection in islice(_INJECTED.items(), options.points):
            if options.is_over():
                return
            yield _injected(name, injection, upstream.port, options)
        for name, fault in islice(_REAL.items(), options.points):
            if options.is_over():
                return
            yield _real(name, fault, upstream.port, options)


def _injected(name: str, injection: str, upstream_port: int, options: Options) -> Row:
    row = Row(part=PART, fault=f"at the start {name}, by strace")
    if not can_trace():
        row.skipped = "strace is missing or may not trace"
        return row
    with sidecar(upstream_port) as one:
        folder = one.spool
        # -I 2: with -D it would heed no signal otherwise.
        around = ["strace", "-D", "-I", "2", "-f", "-qq", "-o", "/dev/null"]
        around.append(f"--inject={injection}")
        # Only calls that name these: Python itself has files to open.
        around += [f"--trace-path={path}" for path in (folder, folder / "lock")]
        _suffer(one, row, _until_let_go(one), options, around=around)
    return row


@contextmanager
def _until_let_go(one: Sidecar) -> Iterator[None]:
    """Let go of what was started under strace, at the end."""
    try:
        yield
    finally:
        status = Path(f"/proc/{one.pid}/status").read_text()
        tracer = int(status.split("TracerPid:")[1].split()[0])
        os.kill(tracer, signal.SIGTERM)


def _real(
    name: str,
    fault: Callable[[Volume], AbstractContextManager[None]],
    upstream_port: int,
    options: Options,
) -> Row:
    row = Row(part=PART, fault=f"at the start {name}")
    with ExitStack() as stack:
        try:
            volume = stack.enter_context(mounted())
        except (OSError, subprocess.CalledProcessError):
            row.skipped = "no volume may be mounted"
            return row
        one = stack.enter_context(
            sidecar(upstream_port, settings={"FEEDBACKLOOP_SIDECAR__SPOOL_DISK_BYTES": str(2**21)})
        )
        # The spool alone is on it. Through a link, since root may make a folder in place of a
        # volume that is not mounted.
        (volume.folder / "spool").mkdir()
        (one.home / "spool").symlink_to(volume.folder / "spool")
        _suffer(one, row, fault(volume), options)
    return row


def _suffer(
    one: Sidecar,
    row: Row,
    fault: AbstractContextManager[None],
    options: Options,
    *,
    around: Sequence[str] = (),
) -> None:
    """Kill a sidecar that was well, start it on a failing disk, let the disk work, and compare."""
    clients = Clients(one.port, Random(options.seed))
    ready_again(one)
    asyncio.run(clients.act(_ACTIONS))
    _kill(one)
    asyncio.run(_live(one, clients, row, fault, options.fault_seconds, around))
    compare(one, clients, row)


def _kill(one: Sidecar) -> None:
    """Kill it, and wait for its child: a volume with open files is not remounted."""
    family = tree(one.pid)
    one.kill()
    while any(Path(f"/proc/{pid}").exists() for pid in family):
        time.sleep(0.01)


async def _live(
    one: Sidecar,
    clients: Clients,
    row: Row,
    fault: AbstractContextManager[None],
    seconds: float,
    around: Sequence[str],
) -> None:
    with ExitStack() as stack:
        stack.enter_context(fault)
        row.figures["start s"] = round(await asyncio.to_thread(ready_again, one, around), 1)
        before = len(clients.seen.seconds)
        async with clients.busy(PEOPLE):
            await asyncio.sleep(seconds)
            stack.close()
            await recover(clients, row, clients.seen.seconds[before:])
            await asyncio.sleep(seconds / 3)
