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
        probe: The gate's record.
        logp: Summed log-probability of the probe's completion under the release, in nats.
        base_logp: The same under the base.
    """

    probe: Probe
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


def prove(measured: Sequence[Measured], *, tolerance: float) -> Proof:
    """Compare what a replica measured with what the gate recorded.

    A release is proven if it finds the probes' completions as likely as the gate did, if it
    differs from the base by more than noise, and if that difference is the recorded one: the
    slope through the origin of measured over recorded shifts lies around 1. A slight adapter
    passes the first test even when it is not applied, so all three are needed.

    Args:
        measured: One for each probe.
        tolerance: Largest mean difference from the record, in nats per token.
    """
    tokens = sum(one.probe.tokens for one in measured)
    if not tokens:
        return Proof(proven=False, reason="the gate recorded no probes: nothing can be proven")
    recorded = [one.probe.logp - one.probe.base_logp for one in measured]
    shifts = [one.logp - one.base_logp for one in measured]
    scale = sum(nats * nats for nats in recorded)
    if not scale > (NOISE_LOGP * tokens) ** 2 / len(measured):
        return Proof(
            proven=False, reason="the gate saw no difference from the base: nothing can be proven"
        )
    found = Proof(
        proven=True,
        reason="",
        difference=sum(abs(one.logp - one.probe.logp) for one in measured) / tokens,
        shift=sum(abs(nats) for nats in shifts) / tokens,
        applied=sum(a * b for a, b in zip(recorded, shifts, strict=True)) / scale,
    )
    flaw = _flaw(found, tolerance=tolerance)
    reason = flaw or f"{found.difference:.4f} nats per token from the gate's record"
    return msgspec.structs.replace(found, proven=flaw is None, reason=reason)


def _flaw(found: Proof, *, tolerance: float) -> str | None:
    """Name the first test that fails. Each is written so that a NaN fails it."""
    if not found.shift > NOISE_LOGP:
        return "the adapter is not applied: its probes come out as on the base"
    if not found.difference <= tolerance:
        return (
            f"it speaks otherwise than at the gate: {found.difference:.3f} nats per token off, "
            f"and {tolerance:g} are allowed"
        )
    if not _LEAST_APPLIED <= found.applied <= _MOST_APPLIED:
        return f"{found.applied:.0%} of the difference from the base that the gate saw is there"
    return None
