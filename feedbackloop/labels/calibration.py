"""How often each implied signal is right, measured where a person also said so.

A retry is only a guess. On completions that carry both a guess and an explicit vote we count
how often the guess agreed, and shrink that share towards the prior, so that a handful of votes
moves it little and thousands decide it.
"""

from collections.abc import Iterable, Mapping
from math import sqrt

import msgspec

from feedbackloop.labels.gather import Gathered
from feedbackloop.labels.resolve import EXPLICIT, PRIORS, Source, implied, resolve, said

PRIOR_STRENGTH = 20.0
"""How many observations the prior is worth."""

LEAST_CONFIDENCE = 0.55
"""A signal whose lower limit of confidence is below this is switched off."""

_Z = 1.645  # one-sided 95 %
_CEILING = 0.99  # no kind of signal is ever certain


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured for one kind of signal.

    Attributes:
        prior: Confidence before anything was measured.
        agreed: Completions on which the explicit vote said the same.
        seen: Completions that carried both.
        confidence: ``(agreed + s * prior) / (seen + s)``, the mean of the Beta posterior.
        lower: One-sided 95 % limit of it, by the normal approximation of that posterior.
        used: Whether the signal counts.
    """

    prior: float
    agreed: int
    seen: int
    confidence: float
    lower: float
    used: bool


def calibrate(
    gathered: Iterable[Gathered], *, priors: Mapping[Source, float] = PRIORS
) -> Mapping[Source, Calibration]:
    """Measure each kind of implied signal against the explicit votes beside it.

    Explicit kinds keep their priors: there is nothing here to measure them by.
    """
    agreed = dict.fromkeys(priors, 0)
    seen = dict.fromkeys(priors, 0)
    for one in gathered:
        guesses = implied(one.signals)
        if not guesses or not said(one.signals):
            continue
        vote = resolve(one.completion_id, one.signals, confidences=priors)
        if vote is None:
            continue
        for guess in guesses:
            seen[guess.source] += 1
            agreed[guess.source] += guess.desirable == vote.desirable
    return {
        source: _calibration(source, prior, agreed[source], seen[source])
        for source, prior in priors.items()
    }


def confidences(table: Mapping[Source, Calibration]) -> Mapping[Source, float]:
    """Return the confidence of each kind of signal that counts."""
    return {source: row.confidence for source, row in table.items() if row.used}


def _calibration(source: Source, prior: float, agreed: int, seen: int) -> Calibration:
    weight = seen + PRIOR_STRENGTH
    mean = (agreed + PRIOR_STRENGTH * prior) / weight
    lower = mean - _Z * sqrt(mean * (1 - mean) / (weight + 1))
    # Without a single observation the prior stands: its own width says nothing about it.
    used = source in EXPLICIT or seen == 0 or lower >= LEAST_CONFIDENCE
    return Calibration(
        prior=prior,
        agreed=agreed,
        seen=seen,
        confidence=min(mean, _CEILING),
        lower=lower,
        used=used,
    )
