"""What was served before this process was started, learnt from the log."""

from collections import deque

from feedbackloop.capture.attribution import Attribution
from feedbackloop.events import CompletionServed
from feedbackloop.log.port import EventLog

_REMEMBERED = 2_000  # completions of the last conversations that are known again after a start
_LOOK_BACK = 4_000  # entries of the log among which those are looked for


async def remember(event_log: EventLog, partition: str, attribution: Attribution) -> None:
    """Teach ``attribution`` what was served last: of this sidecar, or of all that share partitions.

    Raises:
        LogUnavailable: If the log does not answer.
    """
    partitions = await event_log.partitions()
    own = [partition] if partition in partitions else list(partitions)
    for name in own:
        start = await event_log.recent(name, entries=_LOOK_BACK // len(own))
        recent: deque[CompletionServed] = deque(maxlen=_REMEMBERED // len(own))
        async for entry in event_log.read(after=start):
            if isinstance(entry.event, CompletionServed):
                recent.append(entry.event)
        for completion in recent:
            attribution.add(completion)
