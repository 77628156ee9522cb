"""How much to do."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Options:
    """How much to do.

    Attributes:
        kills: Random kills, in each part.
        points: Kills at the n-th call of each kind, and disks of each kind that fail at the start;
            None for all of them.
        stride: From one such n to the next, and the first.
        fault_seconds: How long a disk fails.
        until: When to begin nothing more, on the monotonic clock.
        seed: Of every choice by chance.
    """

    kills: int
    points: int | None
    stride: int
    fault_seconds: float
    until: float
    seed: int

    def is_over(self) -> bool:
        """Say whether nothing more is to be begun."""
        return time.monotonic() > self.until
