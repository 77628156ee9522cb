"""Pairs: one prompt, the completion that was wanted, and the one that was not.

They come from people, never from comparing strangers' votes: somebody asked again and took the
second answer, wrote what the answer should have been, or picked one of several choices.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from feedbackloop.dataset.rows import DpoRow, assistant
from feedbackloop.dataset.selection import is_speakable, unusable
from feedbackloop.dataset.split import unit
from feedbackloop.events import (
    ChoiceMade,
    CompletionId,
    CompletionServed,
    CorrectionGiven,
    Outcome,
)
from feedbackloop.labels.gather import Gathered, retried
from feedbackloop.labels.resolve import PRIORS, Label, Source, standing


def dpo_rows(
    gathered: Sequence[Gathered],
    labels: Mapping[CompletionId, Label],
    *,
    confidences: Mapping[Source, float] = PRIORS,
    untrained: Collection[str] = (),
) -> list[DpoRow]:
    """Make every pair that ``gathered`` holds, by the ids of its two completions.

    Args:
        gathered: Completions and their signals.
        labels: The label of each completion that has one.
        confidences: Of explicit kinds of signal, for corrections and choices.
        untrained: Kinds of placeholder that neither side may hold.
    """
    known = {one.completion_id: one for one in gathered}
    rows: dict[tuple[str, str, str], DpoRow] = {}
    for one in gathered:
        for row in _pairs(one, known, labels, confidences):
            if all(
                is_speakable(side[0]["content"], untrained) for side in (row.chosen, row.rejected)
            ):
                rows[row.origin, row.chosen_id, row.rejected_id] = row
    return [rows[key] for key in sorted(rows)]


def _pairs(
    one: Gathered,
    known: Mapping[CompletionId, Gathered],
    labels: Mapping[CompletionId, Label],
    confidences: Mapping[Source, float],
) -> Iterator[DpoRow]:
    completion = one.completion
    if completion is None:
        return
    if unusable(completion) is None:
        yield from _corrected(one, completion, confidences)
        yield from _retried(one, completion, known, labels)
    yield from _chosen(one, completion, confidences)


def _retried(
    one: Gathered,
    rejected: CompletionServed,
    known: Mapping[CompletionId, Gathered],
    labels: Mapping[CompletionId, Label],
) -> Iterator[DpoRow]:
    """Pair a completion that was asked again with the next one that was accepted."""
    dislike = labels.get(one.completion_id)
    if dislike is None or dislike.desirable:
        return
    accepted = _accepted(one, known, labels)
    if accepted is None or accepted.completion_id == rejected.completion_id:
        return
    # Another prompt would make it two unpaired facts; the same words teach nothing.
    same_words = accepted.replies[0].text == rejected.replies[0].text
    if accepted.chain[-1:] != rejected.chain[-1:] or same_words:
        return
    like = labels[accepted.completion_id]
    yield DpoRow(
        prompt=rejected.messages,
        chosen=assistant(accepted.replies[0].text),
        rejected=assistant(rejected.replies[0].text),
        confidence=_both(like.confidence, dislike.confidence),
        chosen_id=accepted.completion_id,
        rejected_id=rejected.completion_id,
        unit=unit(rejected),
        release=rejected.release,
        origin="retry",
    )


def _accepted(
    one: Gathered, known: Mapping[CompletionId, Gathered], labels: Mapping[CompletionId, Label]
) -> CompletionServed | None:
    """Follow a chain of retries to the first completion that was accepted."""
    seen: set[CompletionId] = set()
    here: Gathered | None = one
    while here is not None and here.completion_id not in seen:
        seen.add(here.completion_id)
        label = labels.get(here.completion_id)
        completion = here.completion
        if label is not None and label.desirable and completion is not None:
            return completion if unusable(completion) is None else None
        retries = retried(here)
        here = known.get(retries[0].retry_id) if retries else None
    return None


def _corrected(
    one: Gathered, rejected: CompletionServed, confidences: Mapping[Source, float]
) -> Iterator[DpoRow]:
    """Pair a completion with what its reader wrote instead: each person's latest version."""
    latest = {
        signal.user: signal
        for signal in sorted(standing(one.signals), key=lambda signal: (signal.at, signal.event_id))
        if isinstance(signal, CorrectionGiven)
    }
    corrections = list(latest.values())
    for signal in corrections[-1:]:
        if signal.correction != rejected.replies[0].text:
            yield DpoRow(
                prompt=rejected.messages,
                chosen=assistant(signal.correction),
                rejected=assistant(rejected.replies[0].text),
                confidence=confidences.get(Source.CORRECTION_GIVEN, 0.5),
                chosen_id=rejected.completion_id,
                rejected_id=rejected.completion_id,
                unit=unit(rejected),
                release=rejected.release,
                origin="correction",
            )


def _chosen(
    one: Gathered, completion: CompletionServed, confidences: Mapping[Source, float]
) -> Iterator[DpoRow]:
    """Pair the choice that was picked with the first other that says something else."""
    choices = [signal for signal in standing(one.signals) if isinstance(signal, ChoiceMade)]
    if not choices or completion.outcome is not Outcome.COMPLETE:
        return
    pick = max(choices, key=lambda signal: (signal.at, signal.event_id)).choice
    if not 0 <= pick < len(completion.replies):
        return
    chosen = completion.replies[pick].text
    others = [reply.text for reply in completion.replies if reply.text not in ("", chosen)]
    if chosen and others:
        yield DpoRow(
            prompt=completion.messages,
            chosen=assistant(chosen),
            rejected=assistant(others[0]),
            confidence=confidences.get(Source.THUMB, 0.5),
            chosen_id=completion.completion_id,
            rejected_id=completion.completion_id,
            unit=unit(completion),
            release=completion.release,
            origin="choice",
        )


def _both(one: float, other: float) -> float:
    """Combine two independent reasons for the same order, by their log-odds."""
    right, wrong = one * other, (1 - one) * (1 - other)
    return right / (right + wrong)
