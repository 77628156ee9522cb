"""How large an event may be."""

from collections.abc import Sequence

from feedbackloop.errors import EventsRefused


def refuse_larger(encoded: Sequence[bytes], *, max_event_bytes: int) -> None:
    """Name the events that are too large for the log, once the others are stored.

    Raises:
        EventsRefused: If there are any.
    """
    large = {n: "too_large" for n, one in enumerate(encoded) if len(one) > max_event_bytes}
    if large:
        raise EventsRefused(large, why=f"an event may have {max_event_bytes} bytes")
