"""Frames: how records lie in a segment file, and how to find them again after damage.

A frame is a header of 36 bytes and the payload, little-endian::

    magic     4  "FBLF"
    crc       4  CRC-32 of everything after this field, payload included
    length    4  of the payload, in bytes
    kind      1  0 a record, 1 a gap: the payload names what is missing
    (zero)    3
    seq       8  number of the record within its producer's life
    at        8  nanoseconds since 1970, UTC
    (zero)    4

The checksum covers the length, so a damaged length is found before it is believed.
"""

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from zlib import crc32

import msgspec

MAGIC = b"FBLF"
_FRAME = Struct("<4sIIB3xqq4x")
_CHECKED = 8  # where the bytes that the checksum covers begin
_REST = Struct("<IB3xqq4x")  # those of the header
HEADER_BYTES = _FRAME.size
MAX_PAYLOAD_BYTES = 64 * 2**20
"""A longer length is damage, not a record."""


class Kind(IntEnum):
    """What a frame holds."""

    RECORD = 0
    GAP = 1


_KINDS = tuple(Kind)  # an enum's own look-up takes as long as the rest of a frame


class RawFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One frame as found in a segment.

    Attributes:
        start: Offset of its first byte in the segment.
        end: Offset just past its last byte.
    """

    start: int
    end: int
    kind: Kind
    seq: int
    at_ns: int
    payload: bytes


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes between two whole frames, or before the end, that are no frame.

    Attributes:
        start: Offset of the first such byte.
        end: Offset of the next whole frame, or the end of the bytes.
    """

    start: int
    end: int


def encode(payload: bytes, *, kind: Kind, seq: int, at_ns: int) -> bytes:
    """Write one frame."""
    rest = _REST.pack(len(payload), kind, seq, at_ns)
    crc = crc32(payload, crc32(rest))
    return b"%b%b%b%b" % (MAGIC, crc.to_bytes(4, "little"), rest, payload)


def parse(data: bytes, start: int, *, at: int = 0) -> RawFrame | None:
    """Read the frame that begins at ``start``; None if there is no whole and sound one.

    Args:
        data: Part of a segment.
        start: Where in ``data`` the frame begins.
        at: Where in the segment ``data`` begins.
    """
    body = start + HEADER_BYTES
    if body > len(data):
        return None
    magic, crc, length, kind, seq, at_ns = _FRAME.unpack_from(data, start)
    end = body + length
    if magic != MAGIC or length > MAX_PAYLOAD_BYTES or end > len(data) or kind >= len(_KINDS):
        return None
    if crc32(memoryview(data)[start + _CHECKED : end]) != crc:
        return None
    return RawFrame(
        start=at + start,
        end=at + end,
        kind=_KINDS[kind],
        seq=seq,
        at_ns=at_ns,
        payload=data[body:end],
    )


def claimed(data: bytes) -> int:
    """Return the size that the frame at the front of ``data`` claims; 0 if there is none."""
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        return 0
    length: int = _FRAME.unpack_from(data)[2]
    return HEADER_BYTES + length if length <= MAX_PAYLOAD_BYTES else 0


def scan(data: bytes, start: int = 0) -> Iterator[RawFrame | Damage]:
    """Yield every whole frame from ``start`` on, and what lies damaged between them.

    What is left at the end and is no frame comes as a last ``Damage``: a torn tail, or a frame
    that is being written.
    """
    here = start
    while here < len(data):
        frame = parse(data, here)
        if frame is not None:
            yield frame
            here = frame.end
            continue
        following = _resume(data, here + 1)
        yield Damage(start=here, end=following)
        here = following


def _resume(data: bytes, start: int) -> int:
    """Find the next whole frame from ``start`` on, or the end."""
    here = data.find(MAGIC, start)
    while here >= 0:
        if parse(data, here) is not None:
            return here
        here = data.find(MAGIC, here + 1)
    return len(data)
