"""An adapter folder as facts, read without trust, torch or numpy.

The format is small enough to be read whole: eight bytes of length, a JSON header, the data.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import msgspec

from feedbackloop.errors import AdapterRejected
from feedbackloop.events import JsonObject
from feedbackloop.training.artefact import (
    CONFIG,
    WEIGHTS,
    TensorFact,
    config_problems,
    digest,
    file_problems,
    parse_config,
    tensor_problems,
)

MAX_CONFIG_BYTES = 2**20
MAX_HEADER_BYTES = 16 * 2**20

_CHUNK_BYTES = 2**20
_WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}
_EXPONENTS = {"F32": 0x7F80_0000, "F16": 0x7C00, "BF16": 0x7F80}


class AdapterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter folder holds.

    Attributes:
        digest: What names it: see ``artefact.digest``.
        config: ``adapter_config.json``.
        tensors: In the order of the file's header.
        size_bytes: Of both files.
    """

    digest: str
    config: JsonObject
    tensors: tuple[TensorFact, ...]
    size_bytes: int


def read_adapter(folder: Path) -> AdapterFacts:
    """Read the two files of an adapter as facts; the rules of their content are not applied.

    Raises:
        AdapterRejected: If the folder holds anything but two plain files, or one of them is not
            what its name says. Links are refused: what they point at can change.
    """
    _check_files(folder)
    return _facts((folder / CONFIG).read_bytes(), (folder / WEIGHTS).read_bytes())


def checked_digest(config: bytes, weights: bytes, *, max_rank: int) -> str:
    """Name an adapter by what it is, once every rule of ``artefact.py`` was applied to it.

    Raises:
        AdapterRejected: With all the rules that it breaks, in words.
    """
    facts = _facts(config, weights)
    problems = config_problems(facts.config, max_rank=max_rank)
    problems += tensor_problems(facts.config, facts.tensors)
    if problems:
        raise AdapterRejected("adapter", "; ".join(problems[:10]))
    return facts.digest


def _facts(config: bytes, weights: bytes) -> AdapterFacts:
    return AdapterFacts(
        digest=digest(config, weights),
        config=parse_config(config),
        tensors=tuple(_tensors(memoryview(weights))),
        size_bytes=len(config) + len(weights),
    )


def _check_files(folder: Path) -> None:
    """Refuse a folder that is a link, or holds anything but the two plain files."""
    if folder.is_symlink() or not folder.is_dir():
        raise AdapterRejected(folder.name, "is no folder")
    entries = list(folder.iterdir())
    problems = file_problems(entry.name for entry in entries)
    problems += [
        f"{entry.name!r} is no plain file"
        for entry in entries
        if entry.is_symlink() or not entry.is_file()
    ]
    if problems:
        raise AdapterRejected(folder.name, "; ".join(problems[:10]))
    if (folder / CONFIG).stat().st_size > MAX_CONFIG_BYTES:
        raise AdapterRejected(folder.name, f"{CONFIG} is larger than {MAX_CONFIG_BYTES} bytes")


def _tensors(file: memoryview) -> Iterator[TensorFact]:
    """Read header and data; the tensors must tile the data, without gap or overlap."""
    header, data = _header(file)
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1].data_offsets):
        start, stop = entry.data_offsets
        width = _WIDTHS.get(entry.dtype)
        if width is None:
            raise AdapterRejected(WEIGHTS, f"{name!r} is of type {entry.dtype}")
        if start != end or stop - start != width * math.prod(entry.shape):
            raise AdapterRejected(WEIGHTS, f"{name!r} does not lie where its shape says")
        if any(size < 0 for size in entry.shape) or stop > len(data):
            raise AdapterRejected(WEIGHTS, f"{name!r} does not lie within the file")
        end = stop
        finite, zero = _elements(data[start:stop], entry.dtype)
        yield TensorFact(name=name, dtype=entry.dtype, shape=entry.shape, finite=finite, zero=zero)
    if end != len(data):
        raise AdapterRejected(WEIGHTS, f"holds {len(data) - end} bytes that no tensor owns")


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """One tensor in a safetensors header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def _header(file: memoryview) -> tuple[dict[str, _Entry], memoryview]:
    """Take the header off the data."""
    length = int.from_bytes(file[:8], "little")
    if len(file) < 8 or length > min(MAX_HEADER_BYTES, len(file) - 8):  # noqa: PLR2004  # its prefix
        raise AdapterRejected(WEIGHTS, "is cut short, or no safetensors file")
    try:
        found = json.loads(bytes(file[8 : 8 + length]))
        found.pop("__metadata__", None)
        return msgspec.convert(found, dict[str, _Entry]), file[8 + length :]
    except (ValueError, AttributeError, RecursionError, msgspec.ValidationError) as error:
        raise AdapterRejected(WEIGHTS, f"has a broken header: {error}") from error


def _elements(data: memoryview, dtype: str) -> tuple[bool, bool]:
    """Say whether all elements are finite, and whether all are zero.

    A chunk is taken as one long integer whose lanes are the elements. An exponent of all ones
    means an infinity or NaN; adding its lowest bit then carries into the sign, and into the sign
    only. So one addition looks at every element, without numpy.
    """
    width, exponent = _WIDTHS[dtype], _EXPONENTS[dtype]
    finite = zero = True
    for start in range(0, len(data), _CHUNK_BYTES):
        chunk = data[start : start + _CHUNK_BYTES]
        lanes = int.from_bytes(b"\1".ljust(width, b"\0") * (len(chunk) // width), "little")
        bits = int.from_bytes(chunk, "little")
        signs = lanes << (8 * width - 1)
        lowest = exponent & -exponent
        finite = finite and not ((bits & (lanes * exponent)) + lanes * lowest) & signs
        zero = zero and not bits & ~signs
    return finite, zero
