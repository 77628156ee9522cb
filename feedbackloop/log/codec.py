"""Events as bytes: one JSON object each, with the version of the schema in front.

A reader of this version reads everything that this and older versions wrote. Fields that it does
not know are ignored here and survive in the bytes, which an ``Entry`` keeps.
"""

import msgspec

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.errors import MalformedEvent, RecordError, UnknownSchemaVersion
from feedbackloop.events import AnyEvent

VERSION = 1
"""Grows when a reader of the version before would misunderstand an event."""


class _Head(msgspec.Struct):
    v: int


_encoder = msgspec.json.Encoder()
_head = msgspec.json.Decoder(_Head)
_body: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_PREFIX = b'{"v":%d,' % VERSION


def encode(event: AnyEvent) -> bytes:
    """Write an event as JSON, its schema version first."""
    return _PREFIX + _encoder.encode(event)[1:]


def decode(raw: bytes) -> AnyEvent:
    """Read an event back.

    Raises:
        UnknownSchemaVersion: If a newer version of this software wrote it.
        MalformedEvent: If it is no event; the message names the field that is wrong.
    """
    if not raw.startswith(_PREFIX):
        _check_version(raw)
    try:
        return _body.decode(raw)
    except UNREADABLE as error:
        raise MalformedEvent(str(error)) from error


def read(raw: bytes) -> AnyEvent | RecordError:
    """Read an event back, or say why it cannot be read."""
    try:
        return decode(raw)
    except RecordError as error:
        return error


def _check_version(raw: bytes) -> None:
    try:
        version = _head.decode(raw).v
    except UNREADABLE as error:
        raise MalformedEvent(str(error)) from error
    if version > VERSION:
        raise UnknownSchemaVersion(found=version, known=VERSION)
