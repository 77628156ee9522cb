"""Completions that something else served: checked, and turned into the record of one."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from feedbackloop.capture import reply, responses
from feedbackloop.capture.fields import UNREADABLE, explain
from feedbackloop.capture.reply import Said
from feedbackloop.errors import RequestError
from feedbackloop.events import Endpoint

_Word = Annotated[str, Meta(min_length=1, max_length=200)]
_PROXY = "proxy"


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/completions:record``: what was asked and answered elsewhere.

    Attributes:
        source: What served it, in your words.
        request: The body of an OpenAI request, for chat, completions or responses.
        response: The whole reply to it.
        user: Whom it was for, unless the request says it.
        conversation: Your name of the conversation; otherwise its beginning names it.
        at: When it was asked: RFC 3339 with an offset. Otherwise the reply's ``created``.
        ended_at: When the reply ended, if you know it.
    """

    source: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,39}$")]
    request: msgspec.Raw
    response: msgspec.Raw
    user: _Word | None = None
    conversation: _Word | None = None
    at: Annotated[datetime, Meta(tz=True)] | None = None
    ended_at: Annotated[datetime, Meta(tz=True)] | None = None


class _Response(msgspec.Struct):
    id: str = ""
    created: int | None = None
    created_at: float | None = None


_told = msgspec.json.Decoder(Told)
_response = msgspec.json.Decoder(_Response)


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A reply, as far as the record of it needs it read.

    Attributes:
        said: Its choices.
        source_id: What its source called it; empty if it did not say.
        asked_at: When it was asked, in UTC.
        ended_at: When it ended, in UTC.
    """

    said: Said
    source_id: str
    asked_at: datetime
    ended_at: datetime


def parse(body: bytes) -> Told:
    """Read a body.

    Raises:
        RequestError: 400 if it is no JSON; 422 if a field is wrong, missing or unknown.
    """
    try:
        told = _told.decode(body)
    except msgspec.ValidationError as error:
        message, param = explain(str(error))
        raise _wrong(param, message) from error
    except UNREADABLE as error:
        raise RequestError(
            f"the body is no valid JSON: {error}", status=400, code="invalid_json"
        ) from error
    if told.source == _PROXY:
        raise _wrong("source", "source: proxy is what this sidecar serves itself")
    return told


def answered(
    told: Told, endpoint: Endpoint, *, now: datetime, lifetime: timedelta, skew: timedelta
) -> Answered:
    """Read the reply, and say when it was given.

    Args:
        told: What was told.
        endpoint: Which of OpenAI's routes it is of.
        now: In UTC.
        lifetime: How old it may be: for older ones feedback is not accepted.
        skew: How far the teller's clock may be off.

    Raises:
        RequestError: 422 if there is no reply, or it is from another time.
    """
    raw = bytes(told.response)
    said = (responses.read if endpoint == "responses" else reply.read)(raw, streamed=False)
    if not said.sound or not said.replies:
        raise _wrong(
            "response", "response: expected OpenAI's whole reply, with at least one choice"
        )
    try:
        response = _response.decode(raw)
    except msgspec.ValidationError as error:
        message, param = explain(str(error))
        raise _wrong(f"response.{param}", f"response.{message}") from error
    at = told.at if told.at is not None else _created(response)
    if not now - lifetime <= at <= now + skew:
        raise _wrong("at", f"at: expected a time within the last {lifetime.days} days")
    at = min(at, now).astimezone(UTC)
    ended_at = at if told.ended_at is None else told.ended_at
    if not at <= ended_at <= now + skew:
        raise _wrong("ended_at", "ended_at: expected a time between at and now")
    return Answered(
        said=said, source_id=response.id, asked_at=at, ended_at=min(ended_at, now).astimezone(UTC)
    )


def _created(response: _Response) -> datetime:
    created = response.created if response.created is not None else response.created_at
    if created is None:
        raise _wrong("at", "at: expected, since the response does not say when it was created")
    try:
        return datetime.fromtimestamp(created, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise _wrong("response.created", "response.created: expected seconds since 1970") from error


def _wrong(param: str | None, message: str) -> RequestError:
    return RequestError(message, status=422, param=param, code="invalid_record")
