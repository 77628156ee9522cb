"""Unpaired rows: prompt, completion, label, weight."""

from collections.abc import Sequence

from feedbackloop.dataset.balance import loss_weights
from feedbackloop.dataset.rows import KtoRow, assistant
from feedbackloop.dataset.selection import Labelled
from feedbackloop.dataset.split import unit


def row_weight(confidence: float) -> float:
    """Return what a label counts that is right with probability ``confidence``: 2c - 1.

    KTO's losses for desirable and undesirable sum to a constant, so a wrong label pushes
    exactly the other way: in expectation the clean gradient comes back times c - (1 - c).

    References:
        Ghosh et al., "Robust Loss Functions under Label Noise for Deep Neural Networks",
        arXiv:1712.09482, theorem 1, for symmetric losses.
    """
    return 2 * confidence - 1


def kto_rows(labelled: Sequence[Labelled]) -> list[KtoRow]:
    """Make rows whose weights give both labels the same mass, if there are both."""
    mass = {True: 0.0, False: 0.0}
    for one in labelled:
        mass[one.label.desirable] += row_weight(one.label.confidence)
    factor = {True: 1.0, False: 1.0}
    if min(mass.values()) > 0:
        weights = loss_weights(desirable=mass[True], undesirable=mass[False])
        factor = {True: weights.desirable, False: weights.undesirable}
    return [_row(one, factor[one.label.desirable]) for one in labelled]


def _row(one: Labelled, factor: float) -> KtoRow:
    completion, label = one.completion, one.label
    return KtoRow(
        prompt=completion.messages,
        completion=assistant(completion.replies[0].text),
        label=label.desirable,
        weight=row_weight(label.confidence) * factor,
        confidence=label.confidence,
        completion_id=completion.completion_id,
        unit=unit(completion),
        release=completion.release,
        sources=label.sources,
    )
