"""The sidecar's disk fails under load: it fills up, refuses, goes read-only, stands still."""

import asyncio
import contextlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.faults import books
from benchmarks.faults.clients import Clients
from benchmarks.faults.options import Options
from benchmarks.faults.sidecars import Sidecar, can_trace, ready_again, sidecar
from benchmarks.faults.table import Row
from benchmarks.proxy.cost import tree
from benchmarks.proxy.targets import stub

_PART = "disk"
_PEOPLE = 4
_HEAL_SECONDS = 30.0
_VOLUME_BYTES = 192 * 2**20
_INJECTED = {
    "write: EIO": ["pwrite64:error=EIO"],
    "fdatasync: EIO": ["fdatasync:error=EIO"],
    "read-only (EROFS)": [
        "pwrite64,ftruncate,fallocate,rename,unlink,mkdir,fsync,fdatasync:error=EROFS"
    ],
    "full (ENOSPC)": ["pwrite64,fallocate:error=ENOSPC"],
    "stands still": ["pwrite64,fdatasync,fsync:delay_enter=60s"],
}


@dataclass(frozen=True)
class Volume:
    """A small file system of our own."""

    folder: Path

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let nobody find room on it."""
        filler = self.folder / "filler"
        with filler.open("wb") as file:
            try:
                while True:
                    file.write(bytes(2**16))
                    file.flush()
            except OSError:
                pass
        try:
            yield
        finally:
            filler.unlink()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let every write to it wait."""
        subprocess.run(["fsfreeze", "--freeze", self.folder], check=True)  # noqa: S603, S607
        try:
            yield
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", self.folder], check=True)  # noqa: S603, S607


def faults(options: Options) -> Iterator[Row]:
    """Do everything to the disk that this module knows."""
    with stub() as upstream:
        for name, injections in _INJECTED.items():
            if options.is_over():
                return
            yield _injected(name, injections, upstream.port, options)
        for name in ("full: a small volume", "stands still: a frozen volume"):
            if options.is_over():
                return
            yield _real(name, upstream.port, options)


def _injected(name: str, injections: list[str], upstream_port: int, options: Options) -> Row:
    row = Row(part=_PART, fault=f"{name}, by strace")
    if not can_trace():
        row.skipped = "strace is missing or may not trace"
        return row
    with sidecar(upstream_port) as one:
        ready_again(one)
        _suffer(one, row, _attached(one.pid, injections), options)
    return row


def _real(name: str, upstream_port: int, options: Options) -> Row:
    row = Row(part=_PART, fault=name)
    with ExitStack() as stack:
        try:
            volume = stack.enter_context(_mounted())
        except (OSError, subprocess.CalledProcessError):
            row.skipped = "no volume may be mounted"
            return row
        # Small segments, so that what they reserve is soon used up.
        limits = {"FEEDBACKLOOP_SIDECAR__SPOOL_DISK_BYTES": str(2**21)}
        one = stack.enter_context(
            sidecar(upstream_port, home=volume.folder / "home", settings=limits)
        )
        ready_again(one)
        fault = volume.full() if name.startswith("full") else volume.frozen()
        _suffer(one, row, fault, options)
    return row


def _suffer(one: Sidecar, row: Row, fault: AbstractContextManager[None], options: Options) -> None:
    """Keep people busy before, during and after a fault, and compare."""
    clients = Clients(one.port, Random(options.seed))
    asyncio.run(_live(clients, row, fault, options.fault_seconds))
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
    async with clients.busy(_PEOPLE):
        await asyncio.sleep(seconds / 3)
        answered = len(seen.seconds)
        with fault:
            await asyncio.sleep(seconds)
            ill = seen.seconds[answered:]
        healed_at = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEAL_SECONDS):
                await clients.next_accepted()
        row.figures["votes again after s"] = round(seen.last_accepted_at - healed_at, 1)
        row.figures["answer ms"] = round(statistics.median(ill) * 1_000) if ill else None
        await asyncio.sleep(seconds / 3)
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


@contextmanager
def _mounted() -> Iterator[Volume]:
    """Mount a small ext4 of our own."""
    with tempfile.TemporaryDirectory(prefix="faults-volume-") as name:
        image, folder = Path(name) / "image", Path(name) / "mounted"
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(_VOLUME_BYTES)
        make, mount = ["mkfs.ext4", "-q"], ["mount", "-o", "loop"]
        for command in ([*make, str(image)], [*mount, str(image), str(folder)]):
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        try:
            yield Volume(folder)
        finally:
            subprocess.run(["umount", folder], check=True)  # noqa: S603, S607
