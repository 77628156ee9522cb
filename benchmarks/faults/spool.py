"""Kills of the sidecar: at random moments under load, and at each of its calls to the disk."""

import asyncio
import os
import signal
from collections.abc import Iterator
from random import Random

from benchmarks.faults import books
from benchmarks.faults.clients import Clients
from benchmarks.faults.options import Options
from benchmarks.faults.sidecars import Sidecar, ready_again, sidecar, strace
from benchmarks.faults.table import Row
from benchmarks.proxy.cost import tree
from benchmarks.proxy.targets import stub

_PART = "spool"
_PEOPLE = 4
_SERIES = 20  # kills of one home, before its books are checked
# An answer waits 20 ms for its record by default, and then goes out without it. Under strace, where
# each call is slow, none is to be late: nothing at all may be lost at a call.
_PATIENT = {"FEEDBACKLOOP_SIDECAR__CAPTURE_WAIT_SECONDS": "10"}
# Long enough for a child to start in, on a machine that does other things too.
_HASTY = {"FEEDBACKLOOP_SIDECAR__FORWARDER_STUCK_SECONDS": "3"}
_REPLACED_SECONDS = 60.0
_ACTIONS = 6  # of the one person whose sidecar is killed at a call
_CALLS = {"pwrite64": "write", "fdatasync": "fdatasync", "fsync": "fsync of a folder",
          "rename": "rename", "renameat": "rename within the spool",
          "unlink": "unlink", "unlinkat": "unlink within the spool"}  # fmt: skip


def faults(options: Options) -> Iterator[Row]:
    """Do everything to the spool that this module knows."""
    with stub() as upstream:
        yield random_kills(upstream.port, options)
        yield stops(upstream.port, options)
        for call, name in _CALLS.items():
            yield kills_at(call, name, upstream.port, options)


def random_kills(upstream_port: int, options: Options) -> Row:
    """SIGKILL at random moments while people are busy."""
    row = Row(part=_PART, fault="SIGKILL at a random moment, under load")
    random = Random(options.seed)
    totals = books.Totals()
    while row.times < options.kills and not options.is_over():
        with sidecar(upstream_port) as one:
            times = min(_SERIES, options.kills - row.times)
            clients = Clients(one.port, random)
            for _ in range(times):
                ready_again(one)
                asyncio.run(_until_killed(one, clients, random.uniform(0.02, 1.0)))
            row.times += times
            _settle(one, clients, row, totals)
    row.figures = totals.figures()
    return row


async def _until_killed(one: Sidecar, clients: Clients, seconds: float) -> None:
    async with clients.busy(_PEOPLE):
        await asyncio.sleep(seconds)
        clients.dying = True
        one.kill()
    clients.dying = False


def stops(upstream_port: int, options: Options) -> Row:
    """SIGSTOP what forwards while people are busy, and wait until another does."""
    row = Row(part=_PART, fault="SIGSTOP of the child at a random moment, under load")
    random = Random(options.seed)
    totals = books.Totals()
    with sidecar(upstream_port, settings=_HASTY) as one:
        clients = Clients(one.port, random)
        ready_again(one)
        times = max(1, options.kills // _SERIES)
        while row.times < times and not options.is_over():
            asyncio.run(_until_replaced(one, clients, random.uniform(0.02, 1.0)))
            row.times += 1
        _settle(one, clients, row, totals)
    row.figures = totals.figures()
    return row


async def _until_replaced(one: Sidecar, clients: Clients, seconds: float) -> None:
    async with clients.busy(_PEOPLE):
        await asyncio.sleep(seconds)
        (child,) = tree(one.pid)[1:]
        os.kill(child, signal.SIGSTOP)
        async with asyncio.timeout(_REPLACED_SECONDS):
            while tree(one.pid)[1:] in ([], [child]):  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.1)


def kills_at(call: str, name: str, upstream_port: int, options: Options) -> Row:
    """SIGKILL at the first, second, third ... call of a kind, each in a sidecar of its own.

    Whoever makes it is killed: the sidecar, or its child that forwards.
    """
    row = Row(part=_PART, fault=f"SIGKILL at the n-th {name}, for every n")
    totals = books.Totals()
    while not options.is_over() and (options.points is None or row.times < options.points):
        number = (row.times + 1) * options.stride
        around = strace(f"--inject={call}:signal=KILL:when={number}", f"--trace={call}")
        if around is None:
            row.skipped = "strace is missing or may not trace"
            break
        with sidecar(upstream_port, settings=_PATIENT) as one:
            clients = Clients(one.port, Random(options.seed))
            clients.dying = True
            if one.start(around):
                asyncio.run(clients.act(_ACTIONS))
                asyncio.run(_die(one))
            if not one.is_dead():
                if not one.lost_its_child():
                    break  # there is no such call any more
                # Traced, the next child would die there, too.
                one.kill()
            row.times += 1
            ready_again(one)
            _settle(one, clients, row, totals)
    if totals.late:
        row.broken.append(f"{totals.late} answers went out before their records")
    if not row.times and not row.skipped and options.stride == 1 and not options.is_over():
        row.broken.append(f"nobody ever calls {call}")
    row.figures = totals.figures()
    return row


async def _die(one: Sidecar) -> None:
    """Give what happens behind the spool the time to happen: a checkpoint each second."""
    for _ in range(25):
        if one.is_dead() or one.lost_its_child():
            return
        await asyncio.sleep(0.1)


def _settle(one: Sidecar, clients: Clients, row: Row, totals: books.Totals) -> None:
    """Let what survived be forwarded, and compare."""
    if one.is_dead():
        ready_again(one)
    if one.end() != 0:
        row.broken.append("the sidecar did not end well")
    found = books.logged(one.home)
    row.broken += books.broken(clients.seen, found, may_shed=False)
    totals.add(clients.seen, found, may_shed=False)
