"""Keep the commoner label from drowning the rarer: first by leaving out, then by weight."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from feedbackloop.dataset.selection import Labelled


class LossWeights(NamedTuple):
    """What each label's rows count in the loss; one of the two is 1."""

    desirable: float
    undesirable: float


def down_sample(
    labelled: Sequence[Labelled], *, max_ratio: float, random: Random
) -> tuple[list[Labelled], int]:
    """Leave out rows of the commoner label until it has ``max_ratio`` for each of the rarer.

    The least confident go first, and chance decides among equals. Weighing the rarer label up
    instead was measured to gain nothing or collapse beyond about 1:3.6 (docs/training.md).

    Returns:
        What stays, in its order, and how many were left out. All of it stays if there is only
        one label: that is for the planner to refuse.
    """
    desirable = [one for one in labelled if one.label.desirable]
    undesirable = [one for one in labelled if not one.label.desirable]
    rarer, commoner = sorted((desirable, undesirable), key=len)
    room = int(len(rarer) * max_ratio)
    if not rarer or len(commoner) <= room:
        return list(labelled), 0
    drawn = sorted(commoner, key=lambda one: one.completion.completion_id)
    random.shuffle(drawn)
    drawn.sort(key=lambda one: -one.label.confidence)
    leaving = {one.completion.completion_id for one in drawn[room:]}
    kept = [one for one in labelled if one.completion.completion_id not in leaving]
    return kept, len(leaving)


def loss_weights(*, desirable: float, undesirable: float) -> LossWeights:
    """Weigh the rarer label up until both halves of the KTO loss carry equal mass.

    With mass ``n`` of a label and weight ``w``, the KTO paper asks for a ratio
    ``(w_desirable * n_desirable) / (w_undesirable * n_undesirable)`` in [1, 4/3], and for
    one of the weights to stay at 1. We aim at the lower end, ratio 1.

    Args:
        desirable: Summed row weights (or the count) of rows labelled desirable.
        undesirable: The same of rows labelled undesirable.

    Raises:
        ValueError: If either is zero: one-sided data cannot be balanced.

    References:
        Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization",
        arXiv:2402.01306, eq. 8.
    """
    if desirable <= 0 or undesirable <= 0:
        raise ValueError(f"need both labels, got {desirable} desirable and {undesirable} not")
    if desirable < undesirable:
        return LossWeights(desirable=undesirable / desirable, undesirable=1.0)
    return LossWeights(desirable=1.0, undesirable=desirable / undesirable)
