"""What the archiver asks of whoever knows which partitions are whose."""

from collections.abc import Sequence
from typing import Protocol

from feedbackloop.log.port import Offset


class Sharing(Protocol):
    """Which partitions this process takes care of, of those that several archive together.

    It spares work that would be done twice; that nothing is counted twice does not rest on it.
    """

    async def mine(self) -> Sequence[str]:
        """Name this process' partitions now, sorted.

        Raises:
            LogUnavailable: If nobody can say now.
        """
        ...

    async def reached(self, last: Offset) -> None:
        """Tell whoever watches how far a partition is archived; never raises."""
        ...

    async def close(self) -> None:
        """Leave this process' partitions to others. Safe to call twice."""
        ...
