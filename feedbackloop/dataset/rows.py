"""What a snapshot is made of: rows with the trainers' columns, and where each came from."""

import msgspec

from feedbackloop.events import CompletionId, JsonObject

Messages = tuple[JsonObject, ...]


class KtoRow(msgspec.Struct, frozen=True, kw_only=True):
    """A completion with its label: TRL's ``prompt``, ``completion``, ``label``.

    Attributes:
        prompt: Messages.
        completion: One assistant message.
        label: True if desirable.
        weight: Of the row in the loss: 2c - 1 for confidence c, times its class' weight.
        confidence: Probability that the label is right, in [0.5, 1].
        completion_id: Which completion it is.
        unit: Who was served: a user's pseudonym, or else the conversation.
        release: Which release answered.
        sources: The kinds of signal behind the label.
    """

    prompt: Messages
    completion: Messages
    label: bool
    weight: float
    confidence: float
    completion_id: CompletionId
    unit: str
    release: str
    sources: tuple[str, ...]


class DpoRow(msgspec.Struct, frozen=True, kw_only=True):
    """Two completions of one prompt: TRL's ``prompt``, ``chosen``, ``rejected``.

    Attributes:
        prompt: Messages.
        chosen: One assistant message.
        rejected: One assistant message.
        confidence: Probability that the order is right, in [0.5, 1].
        chosen_id: The chosen completion, or the corrected one for a correction.
        rejected_id: The rejected completion.
        unit: Who was served.
        release: Which release made the rejected one.
        origin: ``retry``, ``correction`` or ``choice``.
    """

    prompt: Messages
    chosen: Messages
    rejected: Messages
    confidence: float
    chosen_id: CompletionId
    rejected_id: CompletionId
    unit: str
    release: str
    origin: str


def assistant(text: str) -> Messages:
    """Return a completion's text as the one message that trainers want."""
    return ({"role": "assistant", "content": text},)
