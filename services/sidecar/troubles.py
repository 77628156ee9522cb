"""What goes wrong in a spool, counted."""

from collections import Counter

from feedbackloop.log.port import Outlet
from services import telemetry


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
