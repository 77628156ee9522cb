"""Whether the process behind the spool gets anything done: counted there, judged by its keeper.

To try again is to get something done: while the log is away nobody stands still. Who is killed for
standing still leaves a batch that another translates again, into events of the same ids.
"""

import msgspec

LOOK_SECONDS = 0.5
_MOST_SECONDS = 2 * LOOK_SECONDS


class Pulse:
    """Counts steps, each of which takes seconds at most."""

    def __init__(self) -> None:
        self.beats = 0

    def beat(self) -> None:
        """Know that a step is done, in vain or not."""
        self.beats += 1


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a child at one moment.

    Attributes:
        beats: A number that changes with each step of which the child has told.
        through: Position in the spool through which everything is in the log.
        is_needed: Whether there is anything for it to do.
    """

    beats: int
    through: int
    is_needed: bool


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """For how long a child has done nothing, and for how long it may.

    Attributes:
        seconds: How long a child may stand still.
        patience_seconds: How long this one may: twice as long after each that was killed in vain,
            since a single step may honestly take longer. It stays, if one did.
        still_seconds: How long it has stood still though it was needed.
        beats: As seen last.
        killed_at: Position through which everything was in the log when one was killed last.
        longest_seconds: How long one stood still since then, at most.
    """

    seconds: float
    patience_seconds: float
    still_seconds: float = 0.0
    beats: int | None = None
    killed_at: int | None = None
    longest_seconds: float = 0.0

    @classmethod
    def of(cls, seconds: float) -> "Watch":
        """Begin to watch."""
        return cls(seconds=seconds, patience_seconds=seconds)

    @property
    def is_stuck(self) -> bool:
        """Whether it is time for another child."""
        return self.still_seconds >= self.patience_seconds

    def after(self, seen: Seen, *, passed_seconds: float) -> "Watch":
        """Return what is known after another look.

        Args:
            seen: At this look.
            passed_seconds: Since the last one. Much of it does not count: if we stood still
                ourselves, as in a container that was paused, the child may have done so with us.
        """
        helped = self.killed_at is not None and seen.through > self.killed_at
        moved = seen.beats != self.beats or not seen.is_needed
        still = 0.0 if moved else self.still_seconds + min(passed_seconds, _MOST_SECONDS)
        # What needed its time would need it again, and be killed again first.
        usual = helped and self.longest_seconds < self.seconds
        return msgspec.structs.replace(
            self,
            beats=seen.beats,
            still_seconds=still,
            patience_seconds=self.seconds if usual else self.patience_seconds,
            killed_at=None if helped else self.killed_at,
            longest_seconds=max(self.longest_seconds, still),
        )

    def killed(self, seen: Seen) -> "Watch":
        """Return what is known once the child was killed for standing still."""
        return msgspec.structs.replace(
            self,
            patience_seconds=self.patience_seconds * 2,
            killed_at=seen.through,
            longest_seconds=0.0,
        )

    def anew(self) -> "Watch":
        """Return what is known when there is another child, however the last one ended."""
        return msgspec.structs.replace(self, still_seconds=0.0, beats=None)
