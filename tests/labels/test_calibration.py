"""How right each kind of guess is, measured where somebody also said so."""

import pytest

from feedbackloop.events import AnySignal, CompletionId, RetryKind, Thumb
from feedbackloop.labels.calibration import calibrate, confidences
from feedbackloop.labels.gather import Gathered
from feedbackloop.labels.resolve import PRIORS, Source
from tests.builders import a_retry, a_thumb


def on(name: str, *signals: AnySignal) -> Gathered:
    return Gathered(completion_id=CompletionId(name), completion=None, signals=signals)


def test_without_overlap_the_priors_stand() -> None:
    """A young deployment has nothing better than what the literature says."""
    table = calibrate([on("c1", a_retry("c1"))])

    assert confidences(table) == pytest.approx(PRIORS)


def test_agreement_with_thumbs_moves_the_confidence_from_its_prior() -> None:
    """80 of 100 agreed and the prior 0.85 counts as 20: (80 + 17) / 120."""
    both = [
        on(f"c{i}", a_retry(f"c{i}"), a_thumb(f"c{i}", Thumb.DOWN if i < 80 else Thumb.UP))
        for i in range(100)
    ]

    row = calibrate(both)[Source.REGENERATE]

    assert (row.agreed, row.seen) == (80, 100)
    assert row.confidence == pytest.approx(97 / 120)


def test_a_guess_that_is_often_wrong_is_switched_off() -> None:
    """Its rows would teach noise: the limit falls under 0.55."""
    wrong = [
        on(
            f"c{i}",
            a_retry(f"c{i}", kind=RetryKind.STOPPED),
            a_thumb(f"c{i}", Thumb.UP if i % 2 else Thumb.DOWN),
        )
        for i in range(50)
    ]

    assert Source.STOPPED not in confidences(calibrate(wrong))


def test_explicit_votes_keep_their_prior() -> None:
    """They are what we measure by."""
    assert confidences(calibrate([on("c1", a_thumb("c1"))]))[Source.THUMB] == PRIORS[Source.THUMB]
