"""Where a spool lies."""

from pathlib import Path

import pytest

from services.mounts import concern, file_system

MOUNTS = """\
overlay / overlay rw 0 0
/dev/sda /data ext4 rw 0 0
tmpfs /data/run tmpfs rw 0 0
server:/x /data/far\\040away nfs4 rw 0 0
/dev/sdb /data/run ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/x", "overlay"),
        ("/data", "ext4"),
        ("/database", "overlay"),
        ("/data/far away/spool", "nfs4"),
        ("/data/run/spool", "ext4"),
    ],
)
def test_the_longest_and_latest_mount_that_holds_a_path_counts(path: str, kind: str) -> None:
    """A folder whose name only begins like a mount is not on it."""
    assert file_system(Path(path), MOUNTS) == kind


@pytest.mark.parametrize(
    ("kind", "bad"),
    [("ext4", False), ("xfs", False), ("tmpfs", True), ("nfs4", True), ("fuse.s3fs", True)],
)
def test_what_forgets_or_is_somebody_elses_is_a_concern(kind: str, *, bad: bool) -> None:
    """A vote is answered once it is synced: that has to mean something."""
    assert bool(concern(kind)) is bad
