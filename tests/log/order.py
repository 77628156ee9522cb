"""Talks through a log of several partitions, and whether they arrived whole and in order."""

from collections.abc import Sequence
from typing import Any

from feedbackloop.errors import LogUnavailable
from feedbackloop.events import AnyEvent, CompletionServed, ConversationId
from feedbackloop.log.port import EventLog, Offset
from tests.builders import a_completion


def conversations(of: int = 0) -> list[ConversationId]:
    """Name the twenty talks of one producer."""
    return [ConversationId(f"{of:08x}{n:08x}") for n in range(20)]


def talks(count: int, *, first: int = 0, of: int = 0) -> list[AnyEvent]:
    """Completions of twenty talks at once, of one producer."""
    homes = conversations(of)
    return [
        a_completion(f"{of}-{n:06d}", conversation=homes[n % len(homes)])
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
    read: dict[ConversationId, list[str]] = {}
    for event in once(events):
        read.setdefault(event.conversation, []).append(event.completion_id)
    return all(ids == sorted(ids) for ids in read.values())


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
