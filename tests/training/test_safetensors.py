"""Adapter folders as facts."""

import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.errors import AdapterRejected
from feedbackloop.training.safetensors import (
    _elements,
    checked_digest,
    read_adapter,
)
from tests.fakes import an_adapter


def test_an_adapter_is_read_as_names_shapes_and_a_digest(tmp_path: Path) -> None:
    """The sidecar decides by these whether vLLM gets to see the folder, and has no torch."""
    facts = read_adapter(an_adapter(tmp_path / "a"))

    assert [tensor.shape for tensor in facts.tensors] == [(1, 2), (2, 1)]
    assert len(facts.digest) == 64


@pytest.mark.parametrize("up", [(0.0, -0.0), (math.nan, 1.0), (1.0, math.inf)])
def test_an_adapter_of_zeros_or_of_no_numbers_is_refused(
    tmp_path: Path, up: tuple[float, float]
) -> None:
    """One changes nothing, the other answers with noise; vLLM loads both."""
    files = [path.read_bytes() for path in sorted(an_adapter(tmp_path / "a", up=up).iterdir())]

    with pytest.raises(AdapterRejected):
        checked_digest(*files, max_rank=16)


def test_bytes_get_a_digest_only_if_they_break_no_rule(tmp_path: Path) -> None:
    """The store of adapters names what it takes in: then nothing bad ever has a name."""
    files = [
        [
            path.read_bytes()
            for path in sorted(an_adapter(tmp_path / str(up), up=(up, 0.0)).iterdir())
        ]
        for up in (0.5, 0.0)
    ]

    named = checked_digest(*files[0], max_rank=16)

    assert named == read_adapter(tmp_path / "0.5").digest
    with pytest.raises(AdapterRejected, match="changes nothing"):
        checked_digest(*files[1], max_rank=16)


def test_a_third_file_is_refused(tmp_path: Path) -> None:
    """What is in the folder is in the digest, or it is not in the folder."""
    folder = an_adapter(tmp_path / "a")
    (folder / "training_args.bin").write_bytes(b"")

    with pytest.raises(AdapterRejected, match=r"training_args\.bin"):
        read_adapter(folder)


def test_a_link_is_refused(tmp_path: Path) -> None:
    """What a link points at can change after it was checked."""
    folder = an_adapter(tmp_path / "a")
    (folder / "adapter_config.json").rename(tmp_path / "elsewhere.json")
    (folder / "adapter_config.json").symlink_to(tmp_path / "elsewhere.json")

    with pytest.raises(AdapterRejected, match="plain"):
        read_adapter(folder)


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    """As for a linked file."""
    an_adapter(tmp_path / "a")
    (tmp_path / "b").symlink_to(tmp_path / "a")

    with pytest.raises(AdapterRejected, match="folder"):
        read_adapter(tmp_path / "b")


@given(st.integers(0, 400))
def test_a_file_that_was_cut_short_is_refused(length: int) -> None:
    """A copy that stopped half way must fail here, not in the engine."""
    import tempfile  # noqa: PLC0415  # hypothesis forbids tmp_path, which is shared by examples

    with tempfile.TemporaryDirectory() as name:
        weights = an_adapter(Path(name) / "a") / "adapter_model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[: min(length, len(whole) - 1)])

        with pytest.raises(AdapterRejected):
            read_adapter(weights.parent)


@given(st.lists(st.floats(width=32), min_size=1, max_size=40))
def test_infinities_and_zeros_are_seen_in_any_place(values: list[float]) -> None:
    """The whole tensor is looked at as one number: no lane may hide in another."""
    data = memoryview(struct.pack(f"<{len(values)}f", *values))

    finite, zero = _elements(data, "F32")

    assert finite == all(map(math.isfinite, values))
    assert zero == (not any(values))


@given(st.lists(st.floats(width=16), min_size=1, max_size=40))
def test_half_precision_is_seen_in_any_place(values: list[float]) -> None:
    """As above: two bytes to an element."""
    data = memoryview(struct.pack(f"<{len(values)}e", *values))

    finite, zero = _elements(data, "F16")

    assert finite == all(map(math.isfinite, values))
    assert zero == (not any(values))
