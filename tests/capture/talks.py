"""Talks, turn by turn, as the sidecar records them."""

from typing import Any

from feedbackloop.capture.exchange import completion_served
from feedbackloop.capture.sketch import Sketch, sketch
from feedbackloop.events import CompletionServed, JsonObject, UserId
from tests.capture.records import KEYS, NOON_NS, SECOND_NS, a_closing, an_opening

ANN = UserId("aa" * 16)
BOB = UserId("bb" * 16)
_OPENING = ("user", "headers", "alias", "conversation", "accepted_ns", "tenant")


def talk(*turns: str, system: str | None = None) -> list[JsonObject]:
    """Messages of a person and the assistant by turns, the person first."""
    messages: list[JsonObject] = [{"role": "system", "content": system}] if system else []
    for place, turn in enumerate(turns):
        messages.append({"role": "assistant" if place % 2 else "user", "content": turn})
    return messages


def served(
    name: str,
    messages: list[JsonObject],
    answer: str = "An answer.",
    *,
    at: float = 0.0,
    took: float = 1.0,
    finish_reason: str | None = "stop",
    **changed: Any,
) -> CompletionServed:
    """An answer to a prompt that was accepted ``at`` seconds past noon."""
    asked = {"model": "assistant", "messages": messages} | changed.pop("parameters", {})
    message = {"role": "assistant", "content": answer}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    accepted = NOON_NS + round(at * SECOND_NS)
    opening = {key: changed.pop(key) for key in _OPENING if key in changed}
    return completion_served(
        an_opening(name, body=asked, **{"user": ANN, "accepted_ns": accepted} | opening),
        a_closing(
            name,
            body=changed.pop("body", {"choices": [choice]}),
            ended_ns=accepted + round(took * SECOND_NS),
            **changed,
        ),
        keys=KEYS,
    )


def sketched(
    name: str, messages: list[JsonObject], answer: str = "An answer.", **changed: Any
) -> Sketch:
    """What is kept of such an answer."""
    return sketch(served(name, messages, answer, **changed))
