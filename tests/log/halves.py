"""A spool that is written here, and read over what a child inherits."""

import os
import threading
from pathlib import Path

import msgspec

from feedbackloop.log.share import FarBell, Share
from feedbackloop.log.spool import SpoolLimits
from feedbackloop.log.spools import open_outlet, open_spool


class Halves:
    """Both halves in one process, which know of each other what two processes would."""

    def __init__(self, folder: Path, limits: SpoolLimits | None = None) -> None:
        ticks = iter(range(10**9))
        self.share = Share()
        self.written = open_spool(
            folder,
            producer="one",
            limits=limits or SpoolLimits(segment_bytes=4096),
            now_ns=lambda: next(ticks),
            share=self.share,
        )
        inherited = self.share.handles("one")
        self._inherited = msgspec.structs.replace(inherited, bell=os.dup(inherited.bell))
        self._bell = FarBell(self._inherited)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self.read_half = open_outlet(folder, self._inherited, bell=self._bell)
        self.producer = self.read_half.producer
        self.offer = self.written.offer
        self.offer_all = self.written.offer_all
        self.read = self.read_half.read
        self.wait = self.read_half.wait
        self.release = self.read_half.release
        self.released = self.read_half.released
        self.behind_bytes = self.read_half.behind_bytes
        self.is_nearly_full = self.written.is_nearly_full
        self.troubles = self.written.troubles

    @property
    def refusal(self) -> Exception | None:
        return self.written.refusal

    def close(self) -> None:
        """As a sidecar ends: it writes what is left, then its child leaves."""
        self.written.close()
        self.read_half.close()
        self.share.close()
        self._thread.join()
        os.close(self._inherited.bell)

    def _listen(self) -> None:
        while self._bell.listen():
            pass
