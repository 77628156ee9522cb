"""Events without personal data: what people wrote has placeholders, the same in all of an event.

The hashes that tie events together are those of what was really said: they are keyed, and were made
before. A value has one number within an event, and the number that its completion gave it in a
correction or a comment, as long as the completion is remembered.
"""

from hashlib import blake2b
from typing import TypeVar, cast

import msgspec

from feedbackloop.capture.placeholders import Numbers, Tally
from feedbackloop.capture.redactor import Redactor
from feedbackloop.capture.remembered import Remembered
from feedbackloop.errors import MalformedEvent
from feedbackloop.events import (
    CommentGiven,
    CompletionId,
    CompletionServed,
    CorrectionGiven,
    Event,
    OutcomeReported,
    Reply,
    Signal,
    ThumbGiven,
)

_Event = TypeVar("_Event", bound=Event)
_COMPLETION_VALUES = 4


class Redaction:
    """Redacts events, one after the other. Belongs to one thread.

    Args:
        redactor: For texts and JSON; None to leave everything as it is.
        capacity: Of how many values the number is remembered, at 200 bytes; a completion is four.
    """

    def __init__(self, redactor: Redactor | None, *, capacity: int = 60_000) -> None:
        self._redactor = redactor
        self._known: Remembered[CompletionId, Numbers] = Remembered(capacity)
        self.tally = Tally()
        """Emptied by whoever counts."""

    def event(self, event: _Event, *, key: bytes) -> _Event:
        """Return an event without personal data.

        Args:
            event: As people wrote it.
            key: Of the tenant: hashes a name of the client's that holds personal data.

        Raises:
            MalformedEvent: If it is nested too deeply to be searched.
        """
        if self._redactor is None:
            return event
        try:
            redacted = self._redacted(event, self._redactor, key)
        except RecursionError as error:
            raise MalformedEvent(f"{event.event_id} is nested too deeply to be searched") from error
        return cast("_Event", redacted)

    def _redacted(self, event: Event, redactor: Redactor, key: bytes) -> Event:
        if isinstance(event, CompletionServed):
            return self._completion(event, redactor, key)
        if isinstance(event, Signal):
            return self._signal(event, redactor, key)
        return event  # no word of anybody's

    def _completion(
        self, event: CompletionServed, redactor: Redactor, key: bytes
    ) -> CompletionServed:
        numbers = Numbers(self.tally)
        tools = tuple([redactor.value(tool, numbers) for tool in event.tools])
        messages = tuple([redactor.message(one, numbers) for one in event.messages])
        # Each choice goes on from the prompt, as the next prompt does, whichever it continues.
        branches = [numbers, *[numbers.branch() for _ in event.replies[1:]]]
        replies = tuple(
            [
                _reply(reply, redactor, branch)
                for reply, branch in zip(event.replies, branches, strict=False)
            ]
        )
        redacted = msgspec.structs.replace(
            event,
            tools=tools,
            messages=messages,
            replies=replies,
            parameters={
                name: value if isinstance(value, int) else redactor.value(value, numbers)
                for name, value in event.parameters.items()
            },
            idempotency_key=_name(event.idempotency_key, redactor, key),
            source_id=_name(event.source_id, redactor, key) or "",
        )
        self._keep(event.completion_id, numbers)
        return redacted

    def _signal(self, event: Signal, redactor: Redactor, key: bytes) -> Signal:
        known = self._known.get(event.completion_id)
        numbers = Numbers(self.tally) if known is None else known.branch()
        changed: dict[str, object] = {"client_key": _name(event.client_key, redactor, key) or ""}
        if isinstance(event, CorrectionGiven):
            changed["correction"] = redactor.text(event.correction, numbers)
        if isinstance(event, CommentGiven):
            changed["comment"] = redactor.text(event.comment, numbers)
        if isinstance(event, CommentGiven | ThumbGiven):
            changed["reasons"] = tuple(redactor.text(one, numbers) for one in event.reasons)
        if isinstance(event, OutcomeReported):
            changed["outcome"] = redactor.text(event.outcome, numbers)
        return msgspec.structs.replace(event, **changed)

    def _keep(self, completion_id: CompletionId, numbers: Numbers) -> None:
        if numbers:
            self._known.put(completion_id, numbers, weight=len(numbers) + _COMPLETION_VALUES)


def _reply(reply: Reply, redactor: Redactor, numbers: Numbers) -> Reply:
    return msgspec.structs.replace(
        reply,
        text=redactor.text(reply.text, numbers),
        tool_calls=tuple([redactor.call(call, numbers) for call in reply.tool_calls]),
        reasoning=reply.reasoning and redactor.text(reply.reasoning, numbers),
    )


def _name(name: str | None, redactor: Redactor, key: bytes) -> str | None:
    """Keep a client's own name of something, or hash it: different ones stay different."""
    if not name or redactor.text(name, Numbers()) == name:
        return name
    total = blake2b(key=key[:64], digest_size=16, person=b"client name")
    total.update(name.encode("utf-8", "surrogatepass"))
    return total.hexdigest()
