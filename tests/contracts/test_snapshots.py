"""What any store of snapshots promises."""

import re
from pathlib import Path

import pytest

from feedbackloop.dataset.filesystem import FolderSnapshots
from feedbackloop.dataset.port import Snapshots
from feedbackloop.dataset.snapshot import Options, Snapshot, build
from feedbackloop.errors import RunError
from feedbackloop.labels.gather import Gathering
from tests.builders import ALIAS, NOON, TENANT, a_completion, a_thumb


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    return FolderSnapshots(tmp_path / "snapshots")


@pytest.fixture
def snapshot() -> Snapshot:
    gathering = Gathering()
    gathering.add(a_completion("c1"))
    gathering.add(a_thumb("c1", at=NOON))
    options = Options(
        alias=ALIAS,
        until=NOON,
        window_seconds=60,
        watermark_seconds=0,
        min_confidence=0.6,
        max_rows_per_user=20,
        max_ratio=2,
        holdout_share=0,
    )
    return build(gathering, options, holdouts={TENANT: b"s"})


def test_what_was_stored_comes_back(snapshots: Snapshots, snapshot: Snapshot) -> None:
    """The run that trains on it may be in another process."""
    name = snapshots.put(snapshot)

    assert snapshots.get(name) == snapshot
    assert snapshots.manifest(name) == snapshot.manifest
    assert snapshots.digests() == [name]


def test_storing_twice_is_storing_once(snapshots: Snapshots, snapshot: Snapshot) -> None:
    """A step that was killed after its work is simply done again."""
    assert snapshots.put(snapshot) == snapshots.put(snapshot)


@pytest.mark.parametrize("digest", ["ab" * 32, "no-such-digest", "../snapshots", "a\0b", ""])
def test_a_missing_snapshot_is_named(snapshots: Snapshots, digest: str) -> None:
    """The operator has to know which one to look for; and a path is no digest."""
    for read in (snapshots.get, snapshots.manifest):
        with pytest.raises(RunError, match=re.escape(f"snapshot {digest}")):
            read(digest)


def test_what_else_lies_there_is_no_snapshot(tmp_path: Path, snapshot: Snapshot) -> None:
    """Somebody's notes must not keep everybody from the list."""
    snapshots = FolderSnapshots(tmp_path)
    name = snapshots.put(snapshot)
    (tmp_path / "notes.txt").write_text("the good one is from May")

    assert snapshots.digests() == [name]


def test_a_changed_byte_is_found(tmp_path: Path, snapshot: Snapshot) -> None:
    """What was gated must be what was trained on."""
    snapshots = FolderSnapshots(tmp_path)
    name = snapshots.put(snapshot)
    rows = tmp_path / name / "kto.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b"true", b"false"))

    with pytest.raises(RunError, match="was changed"):
        snapshots.get(name)
