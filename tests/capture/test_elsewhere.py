"""What others served: taken in only if people can judge it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.elsewhere import Answered, answered, parse
from feedbackloop.errors import RequestError
from tests.capture.records import encoded

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
REPLY = {
    "id": "chatcmpl-theirs",
    "created": int(NOON.timestamp()) - 60,
    "choices": [{"index": 0, "message": {"content": "4"}, "finish_reason": "stop"}],
}
BODY = {
    "source": "old-gateway",
    "request": {"model": "assistant", "messages": [{"role": "user", "content": "2 + 2?"}]},
    "response": REPLY,
}


def read(**changed: Any) -> Answered:
    told = parse(encoded({k: v for k, v in (BODY | changed).items() if v is not None}))
    return answered(told, "chat", now=NOON, lifetime=timedelta(days=30), skew=timedelta(minutes=5))


def test_a_reply_says_itself_when_it_was_given() -> None:
    """`created` is in every reply, so that telling of it twice is telling of one completion."""
    one = read()

    assert (one.asked_at, one.ended_at) == (NOON - timedelta(minutes=1),) * 2
    assert (one.source_id, one.said.replies[0].text) == ("chatcmpl-theirs", "4")


def test_a_response_of_the_newer_route_is_read_too() -> None:
    """It says the same in other words."""
    said = {"type": "message", "content": [{"type": "output_text", "text": "4"}]}
    response = {"created_at": REPLY["created"], "status": "completed", "output": [said]}
    told = parse(encoded(BODY | {"response": response}))

    one = answered(told, "responses", now=NOON, lifetime=timedelta(days=30), skew=timedelta(0))

    assert (one.asked_at, one.said.replies[0].text) == (NOON - timedelta(minutes=1), "4")


def test_whoever_knows_better_says_when() -> None:
    """The gateway that measured it."""
    one = read(at="2026-03-04T12:30:00+01:00", ended_at="2026-03-04T11:30:02Z")

    assert one.asked_at == NOON - timedelta(minutes=30)
    assert one.ended_at - one.asked_at == timedelta(seconds=2)


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"source": None}, "source"),
        ({"source": "proxy"}, "source"),
        ({"source": "Old Gateway"}, "source"),
        ({"request": None}, "request"),
        ({"response": None}, "response"),
        ({"response": {}}, "response"),
        ({"response": {"error": {"message": "no"}}}, "response"),
        ({"response": {**REPLY, "choices": []}}, "response"),
        ({"response": {**REPLY, "created": "noon"}}, "response.created"),
        ({"response": {**REPLY, "created": 10**30}}, "response.created"),
        ({"response": {**REPLY, "id": 7}}, "response.id"),
        ({"response": {"choices": REPLY["choices"]}}, "at"),
        ({"at": "2026-03-04T12:06:00Z"}, "at"),
        ({"at": "2026-01-01T00:00:00Z"}, "at"),
        ({"at": "2026-03-04T12:00:00"}, "at"),
        ({"at": "9999-12-31T23:59:59-14:00"}, "at"),
        ({"ended_at": "2026-03-04T11:00:00Z"}, "ended_at"),
        ({"user": ""}, "user"),
        ({"typo": 1}, "typo"),
    ],
)
def test_a_wrong_field_is_named(changed: dict[str, Any], param: str) -> None:
    """Whoever writes an importer at midnight reads what was expected."""
    with pytest.raises(RequestError) as caught:
        read(**changed)

    assert (caught.value.status, caught.value.param) == (422, param)


@given(st.binary() | st.recursive(st.none(), st.lists).map(encoded))
def test_junk_is_refused_and_nothing_worse(body: bytes) -> None:
    """Importers have bugs, too."""
    with pytest.raises(RequestError) as caught:
        parse(body)

    assert caught.value.status in (400, 422)
