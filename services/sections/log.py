"""Where events are kept."""

from typing import Annotated, Literal

from pydantic import Field

from services.sections.section import Section


class SegmentLog(Section):
    """The embedded log: append-only files under the home folder."""

    kind: Literal["segments"] = "segments"

    segment_bytes: Annotated[int, Field(ge=4096)] = 64 * 2**20
    """Size at which a segment is sealed and the next one begun."""


class MemoryLog(Section):
    """A log that lives as long as its process: for tests, and for measuring a proxy alone."""

    kind: Literal["memory"] = "memory"
