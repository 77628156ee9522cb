"""What is kept in order: each event's key. Events of one key never leave their partition."""

from feedbackloop.events import (
    AnyEvent,
    CaptureGap,
    CompletionServed,
    ReleaseChanged,
    RunChanged,
    Signal,
    UserErased,
)


def key(event: AnyEvent) -> bytes:
    """Return tenant and conversation; without a conversation, tenant and what it is about."""
    return f"{event.tenant}/{_about(event)}".encode()


def _about(event: AnyEvent) -> str:
    if isinstance(event, CompletionServed | Signal):
        return event.conversation
    if isinstance(event, CaptureGap):
        return f"producer/{event.producer}"
    if isinstance(event, UserErased):
        return f"user/{event.user}"
    if isinstance(event, RunChanged):
        return f"run/{event.run}"
    assert isinstance(event, ReleaseChanged)  # noqa: S101  # for the type checker
    return f"alias/{event.alias}"
