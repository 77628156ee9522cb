"""Events as bytes."""

import pytest

from feedbackloop.errors import MalformedEvent, UnknownSchemaVersion
from feedbackloop.events import AnyEvent
from feedbackloop.log.codec import decode, encode, read
from tests.builders import a_completion, a_correction, a_retry, a_thumb, a_withdrawal, an_outcome

SAMPLES: list[AnyEvent] = [
    a_completion(),
    a_thumb(),
    a_withdrawal(),
    a_retry(),
    an_outcome(),
    a_correction(),
]


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_was(event: AnyEvent) -> None:
    """A log that changes what it keeps is no log."""
    assert decode(encode(event)) == event


def test_a_field_from_the_future_does_not_stop_an_old_reader() -> None:
    """Sidecars and archivers are upgraded one after the other."""
    raw = encode(a_thumb())[:-1] + b',"mood":"good"}'

    assert decode(raw) == a_thumb()


def test_a_version_from_the_future_is_set_aside() -> None:
    """It may mean something else by the same words."""
    raw = encode(a_thumb()).replace(b'"v":1', b'"v":2')

    with pytest.raises(UnknownSchemaVersion, match="2 is newer than 1"):
        decode(raw)


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b"", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b'{"type":"ThumbGiven"}', "v"),
        (b'{"v":1,"type":"NoSuchEvent"}', "NoSuchEvent"),
        (b'{"v":1,"type":"CompletionServed","request":' + b"[" * 10_000, "recursion"),
        (b'{"x":' + b"[" * 10_000, "recursion"),
        (encode(a_thumb()).replace(b'"up"', b'"sideways"'), "thumb"),
    ],
)
def test_what_is_no_event_is_refused_with_the_field_that_is_wrong(raw: bytes, named: str) -> None:
    """The record is counted and set aside, and somebody has to understand why."""
    error = read(raw)

    assert isinstance(error, MalformedEvent)
    assert named in str(error)
