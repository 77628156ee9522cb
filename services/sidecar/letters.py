"""Records that nobody can read, set aside."""

import contextlib
import os
from pathlib import Path

import msgspec
import structlog

from services import telemetry

log = structlog.get_logger()


class DeadLetters:
    """Records that nobody can read, kept in a file for whoever wants to know why.

    They hold what people wrote: only the file's owner can read it. It stops growing at
    ``max_bytes``; what is left out is counted all the same.
    """

    def __init__(self, file: Path, *, max_bytes: int = 64 * 2**20) -> None:
        self._file = file
        self._max_bytes = max_bytes

    def __call__(self, payload: bytes, reason: str) -> None:
        telemetry.DEAD_LETTERS.labels(reason=reason).inc()
        log.error("record_set_aside", reason=reason, file=str(self._file))
        line = msgspec.json.encode({"reason": reason, "payload": payload}) + b"\n"
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "ab") as file:
                if file.tell() + len(line) <= self._max_bytes:
                    file.write(line)
