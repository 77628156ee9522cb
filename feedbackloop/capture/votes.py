"""A feedback body -> ThumbGiven, CorrectionGiven, ... ; every field checked and named."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta

from feedbackloop.capture.exchange import moment
from feedbackloop.capture.fields import UNREADABLE, explain
from feedbackloop.capture.identity import event_id
from feedbackloop.capture.record import Voted
from feedbackloop.errors import MalformedEvent, RequestError
from feedbackloop.events import (
    AnySignal,
    ChoiceMade,
    CommentGiven,
    CorrectionGiven,
    EventId,
    OutcomeReported,
    RatingGiven,
    SignalWithdrawn,
    Thumb,
    ThumbGiven,
    ThumbWithdrawn,
)

_Text = Annotated[str, Meta(min_length=1, max_length=100_000)]
_Word = Annotated[str, Meta(min_length=1, max_length=200)]
SIGNALS = ("thumb", "rating", "correction", "comment", "outcome", "choice")
"""The fields of a feedback body that say something about the completion; each can be withdrawn."""

_WORDS = {"thumb": tuple(Thumb)}
_Withdrawable = Literal["rating", "correction", "comment", "outcome", "choice"]


class Vote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/feedback``. At least one signal has to be in it.

    Attributes:
        completion_id: ``id`` of the reply that this is about.
        thumb: What the person thinks of it.
        rating: From 1 (worst) to 5 (best).
        correction: What the completion should have been.
        comment: In the person's words.
        reasons: Tags beside a thumb or a comment.
        outcome: What became of it in the app, such as ``copied``.
        choice: Which of several choices was picked, from 0.
        user: Who says so; must be who was served, if the request named somebody.
        at: When, if that was earlier than now: RFC 3339 with an offset.
    """

    completion_id: Annotated[str, Meta(min_length=1, max_length=300)]
    thumb: Literal["up", "down"] | None = None
    rating: Annotated[int, Meta(ge=1, le=5)] | None = None
    correction: _Text | None = None
    comment: _Text | None = None
    reasons: Annotated[list[_Word], Meta(max_length=20)] = []
    outcome: _Word | None = None
    choice: Annotated[int, Meta(ge=0, le=127)] | None = None
    user: _Word | None = None
    at: Annotated[datetime, Meta(tz=True)] | None = None

    def signals(self) -> list[str]:
        """Name the signals that are in it."""
        return [name for name in SIGNALS if getattr(self, name) is not None]


_decoder = msgspec.json.Decoder(Vote)


def parse(body: bytes) -> Vote:
    """Read a feedback body.

    Raises:
        RequestError: 400 if it is no JSON; 422 if a field is wrong, missing or unknown, or if
            there is no signal in it: ``param`` names the field.
    """
    try:
        vote = _decoder.decode(body)
    except msgspec.ValidationError as error:
        message, param = explain(str(error), _WORDS)
        raise RequestError(message, status=422, param=param, code="invalid_feedback") from error
    except UNREADABLE as error:
        raise RequestError(
            f"the body is no valid JSON: {error}", status=400, code="invalid_json"
        ) from error
    for param, message in _problems(vote):
        raise RequestError(message, status=422, param=param, code="invalid_feedback")
    return vote


def given_at(
    at: datetime | None, *, served_at: datetime, received_at: datetime, skew: timedelta
) -> datetime:
    """Say when a vote counts as given: after its completion was served, and not in the future.

    The latest vote counts, so that a clock that runs ahead would win for ever, and one that is
    behind would never count. A clock may be off by ``skew``; its votes are moved in between.

    Args:
        at: What the client says, if it does.
        served_at: When the completion was asked for, at the earliest.
        received_at: Now.
        skew: How far a client's clock may be off.

    Raises:
        RequestError: 422 if ``at`` is further off than that.
    """
    if at is None:
        return received_at
    if at > received_at + skew or at < served_at - skew:
        off = "in the future" if at > received_at else "before its completion was served"
        raise RequestError(
            f"at is {off}: expected a time in between, give or take {skew.total_seconds():.0f} s;"
            " leave it out if it is now",
            status=422,
            param="at",
            code="invalid_feedback",
        )
    return min(max(at, served_at), received_at).astimezone(UTC)


def signals(voted: Voted) -> Iterator[AnySignal]:
    """Turn an accepted feedback call into its signals; the same call gives the same ids.

    Raises:
        MalformedEvent: If the record's body cannot be read (it was checked when accepted).
    """
    at = _given_at(voted)
    if voted.withdraw is not None:
        yield _withdrawal(voted, voted.withdraw, at)
        return
    try:
        vote = _decoder.decode(voted.body)
    except UNREADABLE as error:
        raise MalformedEvent(f"vote on {voted.completion_id}: {error}") from error
    for name in vote.signals():
        # Without the client's own key, saying the same again later is a new vote: up, down and
        # up again ends with up. A repeated delivery of this record is not.
        said = voted.client_key or f"{at.isoformat()} {getattr(vote, name)}"
        yield _MADE[name](_about(voted, name, said, at), vote)


def feedback_id(voted: Voted) -> EventId:
    """Name one feedback call, so that a retried one gets the same answer."""
    said = voted.client_key or _given_at(voted).isoformat()
    return event_id("feedback", voted.completion_id, voted.user or "", said)


def _given_at(voted: Voted) -> datetime:
    return moment(voted.received_ns if voted.given_ns is None else voted.given_ns)


def _withdrawal(voted: Voted, signal: str, at: datetime) -> AnySignal:
    said = voted.client_key or at.isoformat()
    if signal == "thumb":
        return ThumbWithdrawn(**_about(voted, "withdrawn", said, at))
    about = _about(voted, f"withdrawn {signal}", said, at)
    return SignalWithdrawn(signal=cast("_Withdrawable", signal), **about)


def _problems(vote: Vote) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a vote whose fields have the right types: the field, and why."""
    if not vote.signals():
        yield "thumb", f"no signal: expected at least one of {', '.join(SIGNALS)}"
    for name in ("correction", "comment", "outcome", "user"):
        if getattr(vote, name) is not None and not getattr(vote, name).strip():
            yield name, f"{name} is empty: expected some text"
    if vote.reasons and vote.thumb is None and vote.comment is None:
        yield "reasons", "reasons: expected beside a thumb or a comment"


_MADE: Mapping[str, Callable[[dict[str, Any], Vote], AnySignal]] = {
    "thumb": lambda about, vote: ThumbGiven(
        thumb=Thumb(vote.thumb or ""), reasons=tuple(vote.reasons), **about
    ),
    "rating": lambda about, vote: RatingGiven(rating=vote.rating or 0, **about),
    "correction": lambda about, vote: CorrectionGiven(correction=vote.correction or "", **about),
    "comment": lambda about, vote: CommentGiven(
        comment=vote.comment or "", reasons=tuple(vote.reasons), **about
    ),
    "outcome": lambda about, vote: OutcomeReported(outcome=vote.outcome or "", **about),
    "choice": lambda about, vote: ChoiceMade(choice=vote.choice or 0, **about),
}


def _about(voted: Voted, kind: str, said: str, at: datetime) -> dict[str, Any]:
    return {
        "at": at,
        "event_id": event_id(kind, voted.completion_id, voted.user or "", said),
        "tenant": voted.tenant,
        "completion_id": voted.completion_id,
        "conversation": voted.conversation,
        "user": voted.user,
        "client_key": voted.client_key,
    }
