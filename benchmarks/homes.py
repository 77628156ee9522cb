"""Folders for a run, of which nothing is left behind."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feedbackloop.log.tmpfs import TmpfsMarks

_MARKS = Path("/dev/shm")  # noqa: S108  # where sidecars keep theirs, unless they are told


@contextmanager
def temporary(prefix: str, *, marks: Path = _MARKS) -> Iterator[Path]:
    """Make a folder in which sidecars may have their homes; remove it, and what they left outside.

    One that is killed last leaves a mark, for a successor that never comes.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=prefix) as name:
            yield Path(name)
    finally:
        TmpfsMarks(marks, spool=marks).sweep()
