"""Is this adapter really applied? Probes, measured on the replica, against the gate's record.

One test catches what vLLM does not say: an adapter of which no module matched, a wrong scale, a
wrong base, stale weights, an unloaded name that the base answers for.
"""

from collections.abc import Sequence

import msgspec

from feedbackloop.promotion.release import Probe

NOISE_LOGP = 1e-4
"""Below this difference per token, in nats, two policies are one and the same."""

_LEAST_APPLIED = 0.5
_MOST_APPLIED = 2.0
"""Between these the measured shift away from the base is the recorded one, numerics apart."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica says to one probe.

    Attributes:
        logp: Summed log-probability of the probe's completion under the release, in nats.
        base_logp: The same under the base.
    """

    logp: float
    base_logp: float


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a release is applied, and the numbers behind the answer.

    Attributes:
        proven: True if it may take traffic.
        reason: In plain words.
        difference: Mean absolute difference from the gate's record, in nats per token.
        shift: Mean absolute difference from the base, in nats per token.
        applied: How much of the recorded shift away from the base was measured; about 1.
    """

    proven: bool
    reason: str
    difference: float = 0.0
    shift: float = 0.0
    applied: float = 0.0


def judge(probes: Sequence[Probe], measured: Sequence[Measured], *, tolerance: float) -> Proof:
    """Compare what a replica measured with what the gate recorded.

    A release is proven if it finds the probes' completions as likely as the gate did, if it
    differs from the base by more than noise, and if that difference is the recorded one:
    the slope through the origin of measured over recorded shifts lies around 1. Slight adapters
    pass the first test even when they are not applied, so all three are needed.

    Args:
        probes: The gate's record.
        measured: One for each probe, in the same order.
        tolerance: Largest mean difference from the record, in nats per token.

    Raises:
        ValueError: If there is not one measurement for each probe.
    """
    if not probes:
        return Proof(proven=False, reason="the gate recorded no probes: nothing can be proven")
    pairs = list(zip(probes, measured, strict=True))
    tokens = sum(probe.tokens for probe in probes)
    difference = sum(abs(seen.logp - probe.logp) for probe, seen in pairs) / tokens
    recorded = [probe.logp - probe.base_logp for probe in probes]
    shifts = [seen.logp - seen.base_logp for seen in measured]
    shift = sum(abs(nats) for nats in shifts) / tokens
    scale = sum(nats * nats for nats in recorded)
    applied = sum(a * b for a, b in zip(recorded, shifts, strict=True)) / scale if scale else 0.0
    flaw = _flaw(difference, shift, applied, tolerance=tolerance, recorded=recorded, tokens=tokens)
    return Proof(
        proven=flaw is None,
        reason=flaw or f"{difference:.4f} nats per token from the gate's record",
        difference=difference,
        shift=shift,
        applied=applied,
    )


def _flaw(  # noqa: PLR0913  # the numbers of one proof
    difference: float,
    shift: float,
    applied: float,
    *,
    tolerance: float,
    recorded: Sequence[float],
    tokens: int,
) -> str | None:
    """Name the first test that fails. Each is written so that a NaN fails it."""
    if not sum(abs(nats) for nats in recorded) / tokens > NOISE_LOGP:
        return "the gate's record shows no difference from the base: nothing can be proven"
    if not shift > NOISE_LOGP:
        return "the adapter does nothing: its probes come out as on the base"
    if not difference <= tolerance:
        return (
            f"probes are {difference:.3f} nats per token off the gate's record, "
            f"and {tolerance:g} are allowed"
        )
    if not _LEAST_APPLIED <= applied <= _MOST_APPLIED:
        return f"{applied:.0%} of the shift from the base that the gate recorded is applied"
    return None
