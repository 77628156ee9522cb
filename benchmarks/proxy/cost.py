"""What a process and all that it started have used, from /proc."""

import os
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree(pid: int) -> list[int]:
    """List a process and its descendants."""
    found = [pid]
    for thread in _entries(Path(f"/proc/{pid}/task")):
        for child in _read(thread / "children").split():
            found += tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a tree, that of children it has buried included; to 10 ms."""
    total = 0
    for one in tree(pid):
        fields = _read(Path(f"/proc/{one}/stat")).rpartition(")")[2].split()
        # user, system, and the same two of children that were waited for
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def resident_mib(pid: int) -> float:
    """Return the memory of a tree, shared pages counted for each process."""
    return sum(own_mib(one) for one in tree(pid))


def own_mib(pid: int) -> float:
    """Return the memory of one process, shared pages included."""
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * _PAGE / 2**20 if fields else 0.0


def settle(pid: int, *, quiet_seconds: float = 0.6, longest_seconds: float = 60.0) -> None:
    """Wait until a tree has nothing left to do: what it put off is part of what it costs."""
    until = time.monotonic() + longest_seconds
    before = cpu_seconds(pid)
    while time.monotonic() < until:
        time.sleep(quiet_seconds)
        now = cpu_seconds(pid)
        if now - before < 0.03 * quiet_seconds:
            return
        before = now


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has ended meanwhile
