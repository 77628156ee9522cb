"""What any marks promise."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from feedbackloop.log.marks import Life, Marks
from feedbackloop.log.memory import MemoryMarks
from feedbackloop.log.tmpfs import TmpfsMarks

Process = Callable[[], Marks]
"""Makes the marks of one more process of the same spool."""
_DYING = """
import os, signal, sys
from pathlib import Path
from feedbackloop.log.tmpfs import TmpfsMarks
mark = TmpfsMarks(Path(sys.argv[1]), spool=Path(sys.argv[2])).begin("dead")
mark.give(2**40 + 7)
mark.wrote(3)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=["memory", "tmpfs"])
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Process:
    kept: dict[str, Life] = {}
    if request.param == "memory":
        return lambda: MemoryMarks(kept)
    return lambda: TmpfsMarks(tmp_path, spool=tmp_path / "spool")


def test_a_producer_that_lives_is_not_among_the_dead(process: Process) -> None:
    """Its last word is not spoken."""
    marks = process()

    mark = marks.begin("one")
    mark.give(3)

    assert not marks.dead()


def test_who_came_to_its_end_has_left_nothing(process: Process) -> None:
    """All that it numbered is written."""
    mark = process().begin("one")
    mark.give(3)

    mark.remove()
    mark.remove()

    assert not process().dead()


def test_what_was_noted_last_is_read_after_a_kill(tmp_path: Path) -> None:
    """That is what a mark is for."""
    spool = tmp_path / "spool"
    command = [sys.executable, "-c", _DYING, str(tmp_path), str(spool)]
    killed = subprocess.run(command, check=False, cwd=Path.cwd(), env=os.environ)  # noqa: S603

    marks = TmpfsMarks(tmp_path, spool=spool)
    found, others = marks.dead(), TmpfsMarks(tmp_path, spool=tmp_path / "another").dead()
    marks.remove("dead")

    assert killed.returncode == -signal.SIGKILL
    assert found == [Life(producer="dead", given=2**40 + 7, written=3)]
    assert not others
    assert list(tmp_path.iterdir()) == []


def test_memory_is_read_by_the_process_that_comes_after() -> None:
    """As if the one before had been killed."""
    kept: dict[str, Life] = {}
    MemoryMarks(kept).begin("dead").give(7)

    marks = MemoryMarks(kept)
    found = marks.dead()
    marks.remove("dead")

    assert found == [Life(producer="dead", given=7, written=0)]
    assert not marks.dead()


def test_without_its_folder_there_is_no_mark(tmp_path: Path) -> None:
    """Who begins one is told, and there is nothing to be found."""
    marks = TmpfsMarks(tmp_path / "missing", spool=tmp_path)

    with pytest.raises(FileNotFoundError):
        marks.begin("one")

    assert not marks.dead()


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 17])
def test_a_file_that_is_no_mark_says_nothing(tmp_path: Path, content: bytes) -> None:
    """Everybody may put files into /dev/shm."""
    marks = TmpfsMarks(tmp_path, spool=tmp_path / "spool")
    marks.begin("one")
    (file,) = tmp_path.iterdir()

    file.with_name(file.name.replace("one", "two")).write_bytes(content)

    assert not marks.dead()


def test_a_mark_that_was_never_finished_is_cleared_by_the_next(tmp_path: Path) -> None:
    """Kills in a row must not fill a folder that all containers of a pod share."""
    marks = TmpfsMarks(tmp_path, spool=tmp_path / "spool")
    marks.begin("first").remove()
    mark = marks.begin("second")
    (name,) = [file.name for file in tmp_path.iterdir()]
    mark.remove()
    (tmp_path / name.replace("second", "killed.new")).touch()
    (tmp_path / "feedbackloop-another-killed.new").touch()

    marks.begin("third")

    left = {file.name for file in tmp_path.iterdir()}
    assert left == {name.replace("second", "third"), "feedbackloop-another-killed.new"}
