"""What a sidecar does as it opens its spool."""

import shutil
import time
from pathlib import Path

from feedbackloop.log.tmpfs import TmpfsMarks
from services import wiring_spool
from services.settings import Settings


def test_a_start_removes_the_mark_of_a_home_that_was_removed(tmp_path: Path) -> None:
    """Nobody else would, and each demonstration leaves one."""
    marks, old = tmp_path / "marks", tmp_path / "old"
    marks.mkdir()
    old.mkdir()
    TmpfsMarks(marks, spool=old / "spool" / "one", home=old).begin("alive")
    (file,) = marks.iterdir()
    left = file.with_name(file.name.replace("alive", "dead"))
    shutil.copy(file, left)
    old.rmdir()
    settings = Settings.model_validate({"home": tmp_path / "home", "sidecar": {"marks": marks}})

    spool = wiring_spool.open_spool(settings, "one")
    while left.exists():
        time.sleep(0.01)

    assert file.exists()
    spool.close()
