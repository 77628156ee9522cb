"""Reduce what was said about one completion to at most one label.

What a person said outranks what we infer, and the latest word of a person counts. Inferred
signals are combined by their log-odds, each with the confidence that calibration gave it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from math import exp, log

import msgspec

from feedbackloop.capture.retries import PRIORS as RETRY_PRIORS
from feedbackloop.capture.retries import THANKED
from feedbackloop.events import (
    AnySignal,
    ChoiceMade,
    CommentGiven,
    CompletionId,
    CorrectionGiven,
    OutcomeReported,
    PromptRetried,
    RatingGiven,
    SignalWithdrawn,
    Thumb,
    ThumbGiven,
    ThumbWithdrawn,
    UserId,
)


class Source(StrEnum):
    """Which kind of signal a label rests on."""

    THUMB = "thumb"
    RATING = "rating"
    CORRECTION_GIVEN = "correction_given"
    REGENERATE = "regenerate"
    EDIT = "edit"
    REPHRASE = "rephrase"
    CORRECTION = "correction"
    STOPPED = "stopped"
    ACCEPTED = "accepted"


EXPLICIT = frozenset({Source.THUMB, Source.RATING, Source.CORRECTION_GIVEN})
"""What a person said. Everything else is our guess at what a person thinks."""

PRIORS: Mapping[Source, float] = {
    Source.THUMB: 0.95,
    Source.RATING: 0.9,
    Source.CORRECTION_GIVEN: 0.95,
    Source.ACCEPTED: 0.75,
    **{Source(kind.value): prior for kind, prior in RETRY_PRIORS.items()},
}
"""Probability that a signal is right before anything was measured (docs/labels.md)."""

ACCEPTING_OUTCOMES = frozenset({"accepted", "copied", "inserted", "shared", THANKED})
"""What an app may report of a completion that somebody made use of."""

_KINDS: Mapping[type[AnySignal], str] = {
    ThumbGiven: "thumb",
    RatingGiven: "rating",
    CorrectionGiven: "correction",
    CommentGiven: "comment",
    OutcomeReported: "outcome",
    ChoiceMade: "choice",
}
"""What can be taken back, by the word that a withdrawal uses for it."""

_DESIRABLE_RATING = 4
_UNDESIRABLE_RATING = 2


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a completion is desirable, and how we know.

    Attributes:
        completion_id: Which completion.
        desirable: The label.
        confidence: Probability that it is right, in [0.5, 1].
        sources: The kinds of signal that it rests on, sorted.
    """

    completion_id: CompletionId
    desirable: bool
    confidence: float
    sources: tuple[Source, ...]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One signal, read as a vote."""

    source: Source
    desirable: bool


def resolve(
    completion_id: CompletionId,
    signals: Iterable[AnySignal],
    *,
    confidences: Mapping[Source, float] = PRIORS,
) -> Label | None:
    """Reduce the signals on one completion to at most one label.

    A thumb, a rating or a correction beats any number of retries, and each person's latest
    one counts. People who contradict each other evenly cancel out. The order of ``signals``
    does not matter, nor does seeing one twice.

    Args:
        completion_id: Which completion.
        signals: Every signal on it, in any order.
        confidences: Probability that a signal of each kind is right; a kind that is missing
            is switched off.

    Returns:
        The label, or None if nothing usable was said.
    """
    signals = list({signal.event_id: signal for signal in signals}.values())
    explicit = said(signals)
    readings = explicit or implied(signals)
    readings = [reading for reading in readings if reading.source in confidences]
    if not readings:
        return None
    # Counted before they are weighed, so that sums do not depend on the order.
    votes = {kind: _net(readings, kind) for kind in Source}
    odds = sum(net * _log_odds(confidences[kind]) for kind, net in votes.items() if net)
    if odds == 0:
        return None
    return Label(
        completion_id=completion_id,
        desirable=odds > 0,
        confidence=1 / (1 + exp(-abs(odds))),
        sources=tuple(sorted({reading.source for reading in readings})),
    )


def standing(signals: Iterable[AnySignal]) -> list[AnySignal]:
    """Leave out what was taken back, and the withdrawals: as if neither had been given.

    A withdrawal takes back what the same person gave of that kind on that completion, at its own
    time included; what came later stands.
    """
    signals = list(signals)
    until: dict[tuple[CompletionId, UserId | None, str], datetime] = {}
    for signal in signals:
        if isinstance(signal, ThumbWithdrawn | SignalWithdrawn):
            kind = signal.signal if isinstance(signal, SignalWithdrawn) else "thumb"
            key = signal.completion_id, signal.user, kind
            until[key] = max(signal.at, until.get(key, signal.at))

    def stands(signal: AnySignal) -> bool:
        key = signal.completion_id, signal.user, _KINDS.get(type(signal), "")
        return key not in until or signal.at > until[key]

    withdrawals = (ThumbWithdrawn, SignalWithdrawn)
    return [one for one in signals if not isinstance(one, withdrawals) and stands(one)]


def said(signals: Iterable[AnySignal]) -> list[Reading]:
    """Read what people said: the latest word of each that was not taken back."""
    latest: dict[UserId | None, AnySignal] = {}
    for signal in sorted(standing(signals), key=_when):
        if isinstance(signal, ThumbGiven | RatingGiven | CorrectionGiven):
            latest[signal.user] = signal
    readings = (_read(signal) for signal in latest.values())
    return [reading for reading in readings if reading is not None]


def implied(signals: Iterable[AnySignal]) -> list[Reading]:
    """Read what people did: each kind of signal at most once, however often it was seen."""
    kinds: set[tuple[Source, bool]] = set()
    for signal in standing(signals):
        if isinstance(signal, PromptRetried):
            kinds.add((Source(signal.kind.value), False))
        elif isinstance(signal, OutcomeReported) and signal.outcome in ACCEPTING_OUTCOMES:
            kinds.add((Source.ACCEPTED, True))
    return [Reading(source=source, desirable=desirable) for source, desirable in sorted(kinds)]


def _read(signal: AnySignal) -> Reading | None:
    match signal:
        case ThumbGiven():
            return Reading(source=Source.THUMB, desirable=signal.thumb is Thumb.UP)
        case CorrectionGiven():
            return Reading(source=Source.CORRECTION_GIVEN, desirable=False)
        case RatingGiven() if signal.rating >= _DESIRABLE_RATING:
            return Reading(source=Source.RATING, desirable=True)
        case RatingGiven() if signal.rating <= _UNDESIRABLE_RATING:
            return Reading(source=Source.RATING, desirable=False)
        case _:
            return None


def _when(signal: AnySignal) -> tuple[datetime, bool, str]:
    # Two votes can share a timestamp; a rejection then wins, as the safer reading.
    rejects = isinstance(signal, CorrectionGiven) or (
        isinstance(signal, ThumbGiven) and signal.thumb is Thumb.DOWN
    )
    return signal.at, rejects, signal.event_id


def _net(readings: Iterable[Reading], source: Source) -> int:
    votes = [reading.desirable for reading in readings if reading.source is source]
    return sum(votes) - (len(votes) - sum(votes))


def _log_odds(confidence: float) -> float:
    return log(confidence / (1 - confidence))
