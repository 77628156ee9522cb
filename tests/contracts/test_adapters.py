"""What any store of adapters promises."""

import os
from hashlib import sha256
from pathlib import Path

import pytest

from feedbackloop.errors import AdapterRejected
from feedbackloop.promotion.filesystem import CONFIG, WEIGHTS, FolderAdapters
from feedbackloop.promotion.port import Adapters


def digest(config: bytes, weights: bytes) -> str:
    """Stand in for the digest of ``training/artefact.py``: any function of all bytes will do."""
    return sha256(config + b"\0" + weights).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "adapters"


@pytest.fixture
def adapters(root: Path) -> Adapters:
    return FolderAdapters(root, digest=digest)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A folder as the trainer leaves it."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / CONFIG).write_bytes(b"{}")
    (folder / WEIGHTS).write_bytes(b"weights")
    return folder


def test_an_adapter_is_found_under_its_digest(adapters: Adapters, trained: Path) -> None:
    """Name, path and bytes are one thing for ever."""
    name = adapters.put(trained)

    assert name == digest(b"{}", b"weights")
    assert (adapters.path(name) / WEIGHTS).read_bytes() == b"weights"
    assert adapters.digests() == [name]


def test_storing_twice_is_storing_once(adapters: Adapters, trained: Path) -> None:
    """A step that was killed after it had stored its adapter is started again."""
    assert adapters.put(trained) == adapters.put(trained)
    assert len(adapters.digests()) == 1


def test_what_is_stored_cannot_be_written(adapters: Adapters, trained: Path) -> None:
    """vLLM reads the files again whenever its cache evicts: new bytes would be served."""
    folder = adapters.path(adapters.put(trained))

    assert [path.stat().st_mode & 0o222 for path in [folder, *folder.iterdir()]] == [0, 0, 0]


def test_changed_bytes_are_noticed_on_every_read(adapters: Adapters, trained: Path) -> None:
    """Served are the bytes that passed the gate, or none."""
    name = adapters.put(trained)
    weights = adapters.path(name) / WEIGHTS
    weights.chmod(0o644)
    weights.write_bytes(b"others")

    with pytest.raises(AdapterRejected, match="was changed"):
        adapters.path(name)


@pytest.mark.parametrize("extra", ["optimizer.pt", ".hidden", "adapter_model.bin"])
def test_a_folder_with_more_than_two_files_is_refused(
    adapters: Adapters, trained: Path, extra: str
) -> None:
    """What is not in the digest must not be in the folder either: a pickle could run code."""
    (trained / extra).write_bytes(b"")

    with pytest.raises(AdapterRejected, match="and holds"):
        adapters.put(trained)


def test_a_folder_without_weights_is_refused(adapters: Adapters, trained: Path) -> None:
    """A training that was killed leaves such a folder."""
    (trained / WEIGHTS).unlink()

    with pytest.raises(AdapterRejected):
        adapters.put(trained)


def test_links_are_refused(adapters: Adapters, trained: Path, tmp_path: Path) -> None:
    """What a link points to could change after the digest was taken."""
    (trained / WEIGHTS).rename(tmp_path / "elsewhere")
    (trained / WEIGHTS).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(AdapterRejected, match=WEIGHTS):
        adapters.put(trained)


def test_a_pipe_in_place_of_weights_is_refused(adapters: Adapters, trained: Path) -> None:
    """Reading it would wait for ever."""
    (trained / WEIGHTS).unlink()
    os.mkfifo(trained / WEIGHTS)

    with pytest.raises(AdapterRejected, match="no plain file"):
        adapters.put(trained)


@pytest.mark.parametrize("name", ["0" * 64, "", "..", "../adapter"])
def test_what_is_not_there_is_rejected(adapters: Adapters, trained: Path, name: str) -> None:
    """A digest comes from a document: it must not lead out of the store."""
    adapters.put(trained)

    with pytest.raises(AdapterRejected):
        adapters.path(name)


def test_a_collected_adapter_is_gone_and_collecting_again_is_no_error(
    adapters: Adapters, trained: Path
) -> None:
    """The collector may be killed half-way and run again."""
    name = adapters.put(trained)

    adapters.collect(name)
    adapters.collect(name)

    assert not adapters.digests()
    with pytest.raises(AdapterRejected):
        adapters.path(name)


def test_collecting_touches_nothing_else(adapters: Adapters, trained: Path, root: Path) -> None:
    """A name that is no digest of ours must not remove anything."""
    name = adapters.put(trained)

    adapters.collect("..")
    adapters.collect("")

    assert adapters.digests() == [name]
    assert [path.name for path in root.iterdir()] == [name]
