"""Marks that nobody will ever ask for."""

import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from benchmarks.homes import temporary
from feedbackloop.log.marks import Life
from feedbackloop.log.tmpfs import TmpfsMark, TmpfsMarks

DEEP = Path("disk") / "team" / "home"
LEVELS = [0, 1, 2]
"""How far above the home something happens."""


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where marks lie."""
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def marks_of(marks: Path, home: Path) -> TmpfsMarks:
    return TmpfsMarks(marks, spool=home / "spool" / "one", home=home)


def killed(marks: Path, home: Path) -> TmpfsMarks:
    """Leave what a process leaves that was killed: its mark, and nobody who holds it."""
    home.mkdir(parents=True, exist_ok=True)
    ours = marks_of(marks, home)
    mark = ours.begin("alive")
    mark.give(7)
    (file,) = marks.glob("*-alive")
    shutil.copy(file, file.with_name(file.name.replace("alive", "dead")))
    mark.remove()
    return ours


def swept(marks: Path) -> list[str]:
    """Let a sidecar of another home sweep; return what is left."""
    marks_of(marks, marks.parent / "another").sweep()
    return sorted(file.name.rpartition("-")[2] for file in marks.iterdir())


@pytest.mark.parametrize("level", LEVELS)
def test_the_mark_of_a_home_that_was_removed_is_removed(
    tmp_path: Path, marks: Path, level: int
) -> None:
    """Demonstrations and fault runs would fill a folder that is memory."""
    home = tmp_path / DEEP
    killed(marks, home)
    shutil.rmtree([home, *home.parents][level])

    assert swept(marks) == []


def test_the_mark_of_a_home_that_is_there_is_kept(tmp_path: Path, marks: Path) -> None:
    """Its sidecar comes back, and declares by it what was lost."""
    ours = killed(marks, tmp_path / DEEP)

    assert swept(marks) == ["dead"]
    assert ours.dead() == [Life(producer="dead", given=7, written=0)]


@pytest.mark.parametrize("level", LEVELS[1:])
@pytest.mark.parametrize("is_linked", [False, True])
def test_the_mark_of_a_home_whose_volume_is_away_is_kept(
    tmp_path: Path, marks: Path, level: int, *, is_linked: bool
) -> None:
    """It may be mounted a moment later, and what was lost would never be declared."""
    home = tmp_path / DEEP
    ours = killed(marks, home)
    place = [home, *home.parents][level]
    place.rename(tmp_path / "volume")
    if is_linked:
        place.symlink_to(tmp_path / "volume" / "nowhere")
    else:
        place.mkdir()

    left = swept(marks)
    place.unlink() if is_linked else place.rmdir()
    (tmp_path / "volume").rename(place)

    assert left == ["dead"]
    assert [life.given for life in ours.dead()] == [7]


@pytest.mark.parametrize("level", LEVELS)
def test_the_mark_of_a_home_whose_volume_took_its_folder_along_is_kept(
    tmp_path: Path, marks: Path, level: int
) -> None:
    """A desktop removes the folder that it mounted a disk on, and makes it again."""
    home = tmp_path / DEEP
    killed(marks, home)
    (file,) = marks.iterdir()
    raw = file.read_bytes()
    path, places = msgspec.json.decode(raw[16:])
    mounted = [[device + (place <= level), number] for place, (device, number) in enumerate(places)]
    file.write_bytes(raw[:16] + msgspec.json.encode([path, mounted]))
    shutil.rmtree([home, *home.parents][level])

    assert swept(marks) == ["dead"]


def test_who_looks_for_its_dead_finds_them_while_another_sweeps(
    tmp_path: Path, marks: Path
) -> None:
    """It would begin without them, and what they lost would not be declared until it ends."""
    ours = killed(marks, tmp_path / DEEP)
    (file,) = marks.iterdir()
    # So deep that it takes a while to look for it.
    path = "/no" * 1_000
    home = msgspec.json.encode([path, [[0, 0]] * (len(Path(path).parents) + 1)])
    for number in range(30):
        file.with_name(f"{file.name}{number}").write_bytes(bytes(16) + home)
    sweeping = threading.Thread(target=swept, args=[marks])

    sweeping.start()
    found = {len(ours.dead())}
    while sweeping.is_alive():
        found.add(len(ours.dead()))

    assert found == {31}


def test_the_mark_of_who_lives_is_kept(tmp_path: Path, marks: Path) -> None:
    """Its home was removed under it, and it has not noticed yet."""
    home = tmp_path / DEEP
    home.mkdir(parents=True)
    mark: TmpfsMark = marks_of(marks, home).begin("alive")
    shutil.rmtree(home)

    assert swept(marks) == ["alive"]
    mark.remove()


@pytest.mark.parametrize(
    "content",
    [b"", bytes(16), bytes(16) + b"[]", bytes(16) + b'["/no/such",[]]', bytes(16) + b"[" * 9_999],
)
def test_what_does_not_say_whose_it_is_is_kept(marks: Path, content: bytes) -> None:
    """Everybody may put files into /dev/shm."""
    (marks / "feedbackloop-0-dead").write_bytes(content)
    (marks / "feedbackloop-0-folder").mkdir()

    assert swept(marks) == ["dead", "folder"]


def test_a_mark_that_says_whose_it_is_speaks_of_the_same_numbers(
    tmp_path: Path, marks: Path
) -> None:
    """One from before marks said so, too."""
    ours = killed(marks, tmp_path / DEEP)
    (file,) = marks.glob("*-dead")
    before = file.with_name(file.name.replace("dead", "older"))
    before.write_bytes(file.read_bytes()[:16])

    assert [life.producer for life in ours.dead()] == ["dead", "older"]
    assert {life.given for life in ours.dead()} == {7}


def test_a_home_that_cannot_be_looked_at_is_not_named(tmp_path: Path, marks: Path) -> None:
    """Then the mark is made all the same, and stays."""
    home = tmp_path / "not there" / "home"

    mark = marks_of(marks, home).begin("alive")
    (file,) = marks.iterdir()
    size = file.stat().st_size
    mark.remove()

    assert size == 16


def test_a_run_leaves_no_mark_of_its_homes(marks: Path) -> None:
    """Whoever measures or breaks sidecars all day would fill a folder that is memory."""
    with temporary("homes-", marks=marks) as folder:
        killed(marks, folder / "home")
        while_it_ran = list(marks.iterdir())

    assert len(while_it_ran) == 1
    assert list(marks.iterdir()) == []
