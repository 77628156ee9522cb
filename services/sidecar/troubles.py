"""What goes wrong in a spool, counted."""

from collections import Counter

import structlog

from feedbackloop.log.port import Outlet, Spool
from services import telemetry

log = structlog.get_logger()


class Troubles:
    """Adds to the metrics what has happened in a spool since the last look."""

    def __init__(self, spool: Outlet) -> None:
        self._spool = spool
        self._counted: Counter[tuple[str, str]] = Counter()

    def count(self) -> None:
        """Look once."""
        now = Counter(self._spool.troubles())
        for (kind, reason), count in (now - self._counted).items():
            telemetry.SPOOL_TROUBLES.labels(kind, reason).inc(count)
        self._counted = now


class Refusal:
    """Shows whether a spool's disk takes records, and says so in the log when that changes."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._refused = False

    def look(self) -> None:
        """Look once."""
        why = self._spool.refusal
        telemetry.SPOOL_REFUSED.set(why is not None)
        if why is not None and not self._refused:
            log.error("spool_refused", reason=str(why), behind_bytes=self._spool.behind_bytes())
        if why is None and self._refused:
            log.info("spool_works_again")
        self._refused = why is not None
