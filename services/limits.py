"""How often somebody may ask: one token bucket for each key, user, address and completion id.

A bucket is kept as one number, the moment at which it is full again (the generic cell rate
algorithm), so that one that is full need not be kept at all. Each process counts for itself.

References:
    ITU-T I.371, annex A: "Generic cell rate algorithm".
"""

import math

import msgspec

from feedbackloop.errors import RequestError
from services import telemetry

_MINUTE = 60.0


class Level(msgspec.Struct, frozen=True):
    """How full a bucket is after a request was charged to it.

    Attributes:
        per_minute: The limit.
        remaining: Requests that may come at once now.
        full_seconds: Until it is full again.
    """

    per_minute: int
    remaining: int
    full_seconds: float


class Buckets:
    """The buckets of one limit, by name.

    Memory is bounded without a loophole. What was not charged for as long as it takes to fill up
    is full, and goes. If more names than ``remembered`` are charged within that time, those that
    were charged longest ago are filled early: whoever wants that for a name of theirs has to be
    admitted ``remembered / 2`` times under other names first.

    Args:
        by: What is limited: ``key``, ``user``, ``address`` or ``receipt``.
        route: ``completions`` or ``feedback``.
        per_minute: Requests a minute for each name; 0 for no limit.
        burst_minutes: How many minutes' worth may come at once.
        remembered: How many names are kept.
    """

    def __init__(
        self, by: str, route: str, *, per_minute: int, burst_minutes: float, remembered: int
    ) -> None:
        self.per_minute = per_minute
        self._by = by
        self._burst_seconds = burst_minutes * _MINUTE
        self._half = max(1, remembered // 2)
        self._young: dict[str, float] = {}
        self._old: dict[str, float] = {}
        self._turns_at = 0.0
        self._interval, self._burst = self._own(per_minute) if per_minute else (0.0, 0.0)
        self._limited = telemetry.LIMITED.labels(by, route)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def charge(self, name: str, now: float, *, per_minute: int = 0) -> Level:
        """Take a token from a bucket.

        Args:
            name: Whose.
            now: In seconds, from a clock that only grows.
            per_minute: A limit of its own for this name.

        Raises:
            RequestError: 429 if there is no token; says when there will be.
        """
        # Every request passes here, up to three times: no calls, no look-ups that can be spared.
        interval, burst = (self._interval, self._burst) if not per_minute else self._own(per_minute)
        young = self._young
        full_at = young.get(name) or self._old.get(name, now)
        owed = full_at - now if full_at > now else 0.0
        if owed + interval > burst:
            self._limited.inc()
            limit = per_minute or self.per_minute
            raise self._refusal(limit, owed + interval - burst, owed)
        owed += interval
        young[name] = now + owed
        if now >= self._turns_at or len(young) >= self._half:
            self._turn(now)
        return Level(per_minute or self.per_minute, int((burst - owed) / interval + 1e-6), owed)

    def owe(self, name: str, now: float, *, cost: int, per_minute: int = 0) -> None:
        """Take ``cost`` tokens from a bucket, whether or not it holds them."""
        interval, _ = self._own(per_minute or self.per_minute)
        full_at = self._young.get(name) or self._old.get(name, now)
        self._young[name] = max(full_at, now) + cost * interval

    def _own(self, per_minute: int) -> tuple[float, float]:
        """Return the seconds that a token takes to come back, and those of a whole burst."""
        interval = _MINUTE / per_minute
        return interval, max(interval, self._burst_seconds)

    def _turn(self, now: float) -> None:
        """Let go of what is full, or of the oldest if there are too many."""
        owing = {name: full_at for name, full_at in self._old.items() if full_at > now}
        if len(owing) + len(self._young) > self._half:
            owing = {}
        self._old = owing | self._young
        self._young = {}
        self._turns_at = now + self._burst_seconds

    def _refusal(self, limit: int, wait: float, full_seconds: float) -> RequestError:
        return RequestError(
            f"rate limit reached: {limit} requests a minute for each {self._by};"
            f" try again in {math.ceil(wait)} s",
            status=429,
            code="rate_limit_exceeded",
            retry_after_seconds=wait,
            headers=headers(Level(limit, 0, full_seconds)),
        )


def headers(level: Level) -> dict[str, str]:
    """Write a bucket's level as OpenAI does."""
    return {
        "x-ratelimit-limit-requests": str(level.per_minute),
        "x-ratelimit-remaining-requests": str(level.remaining),
        "x-ratelimit-reset-requests": _span(level.full_seconds),
    }


def _span(seconds: float) -> str:
    """Write a time span as OpenAI does: ``6m0s``, ``1s``, ``120ms``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
