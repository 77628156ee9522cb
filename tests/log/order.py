"""Talks through a log of several partitions, and whether they arrived whole and in order."""

from collections.abc import Sequence
from typing import Any

from feedbackloop.errors import LogUnavailable
from feedbackloop.events import AnyEvent, CompletionServed, ConversationId
from feedbackloop.log.port import EventLog, Offset
from tests.builders import a_completion

CONVERSATIONS = [ConversationId(f"{n:016x}") for n in range(20)]


def talks(count: int, *, first: int = 0, **changed: Any) -> list[AnyEvent]:
    """Completions of twenty talks at once."""
    return [
        a_completion(f"c{n:06d}", conversation=CONVERSATIONS[n % len(CONVERSATIONS)], **changed)
        for n in range(first, first + count)
    ]


async def everything(log: EventLog) -> list[CompletionServed]:
    """Read all partitions, one after another."""
    found: list[Any] = []
    for partition in await log.partitions():
        found += [entry.event async for entry in log.read(after=Offset(partition, -1))]
    return found


def once(events: Sequence[CompletionServed]) -> list[CompletionServed]:
    """Drop the second of two equal event ids, as every reader does."""
    return list({event.event_id: event for event in reversed(events)}.values())[::-1]


def is_in_order(events: Sequence[CompletionServed]) -> bool:
    """Say whether each talk reads as it was appended, the second of equal event ids dropped."""
    for conversation in CONVERSATIONS:
        ids = [one.completion_id for one in once(events) if one.conversation == conversation]
        if ids != sorted(ids):
            return False
    return True


async def until_taken(log: EventLog, events: Sequence[AnyEvent]) -> list[LogUnavailable]:
    """Append as the sidecar does, for as long as it takes; return what went wrong meanwhile."""
    trouble = []
    while events:
        try:
            await log.append(events)
        except LogUnavailable as error:
            trouble.append(error)
            events = events[error.stored :]
        else:
            break
    return trouble
