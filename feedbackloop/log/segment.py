"""A segment: a file of frames behind a header that says whose they are and where they stand.

A record's position is the position of its segment plus the offset of its frame, so a reader goes
straight to any position, and positions grow strictly within a folder. The header is 72 bytes::

    magic     4  "FBLS"
    crc       4  CRC-32 of what follows
    version   4
    (zero)    4
    base      8  position of the segment: what its name says
    previous  8  position of the last record before this segment, -1 if there was none
    seq       8  of the first record
    producer 32  incarnation of the process that wrote it, ASCII
"""

from struct import Struct
from zlib import crc32

import msgspec

MAGIC = b"FBLS"
VERSION = 1
SUFFIX = ".seg"
_HEADER = Struct("<4sII4xqqq32s")
_CHECKED = 8
HEADER_BYTES = _HEADER.size


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What the head of a segment says."""

    base: int
    previous: int
    first_seq: int
    producer: str


def encode(header: SegmentHeader) -> bytes:
    """Write a header."""
    producer = header.producer.encode("ascii")
    raw = _HEADER.pack(MAGIC, 0, VERSION, header.base, header.previous, header.first_seq, producer)
    return MAGIC + crc32(raw[_CHECKED:]).to_bytes(4, "little") + raw[_CHECKED:]


def decode(raw: bytes) -> SegmentHeader | None:
    """Read a header; None if it is damaged or of a newer version."""
    if len(raw) < HEADER_BYTES:
        return None
    magic, crc, version, base, previous, first_seq, producer = _HEADER.unpack_from(raw)
    if magic != MAGIC or version > VERSION or crc32(raw[_CHECKED:HEADER_BYTES]) != crc:
        return None
    name = producer.rstrip(b"\0").decode("ascii", "replace")
    return SegmentHeader(base=base, previous=previous, first_seq=first_seq, producer=name)


def name(base: int) -> str:
    """Name the segment that begins at ``base``; names sort by position."""
    return f"{base:020d}{SUFFIX}"


def base(segment: str) -> int:
    """Read the position back from a segment's name."""
    return int(segment.removesuffix(SUFFIX))


def is_segment(file: str) -> bool:
    """Say whether a file's name is that of a segment."""
    return file.endswith(SUFFIX) and file.removesuffix(SUFFIX).isdigit()
