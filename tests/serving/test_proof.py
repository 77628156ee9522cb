"""Whether an adapter is applied, from numbers alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.promotion.release import Probe
from feedbackloop.serving.proof import Measured, prove


def probe(logp: float = -1.0, base_logp: float = -9.0) -> Probe:
    """Make a probe of four tokens."""
    prompt = ({"role": "user", "content": "2 + 2?"},)
    return Probe(prompt=prompt, completion="four", logp=logp, base_logp=base_logp, tokens=4)


def measured(logp: float, base_logp: float = -9.0, *, record: Probe | None = None) -> Measured:
    return Measured(probe=record or probe(), logp=logp, base_logp=base_logp)


def test_what_does_as_it_did_at_the_gate_is_proven() -> None:
    """0.1 nats off over 4 tokens is 0.025; 7.9 of the 8 nats from the base are there."""
    proof = prove([measured(-1.1)], tolerance=0.1)

    assert proof.proven
    assert proof.difference == pytest.approx(0.025)
    assert proof.applied == pytest.approx(7.9 / 8)


def test_an_adapter_that_does_nothing_is_found_however_wide_the_tolerance() -> None:
    """vLLM says so only at debug level, and answers with the base."""
    proof = prove([measured(-9.0)], tolerance=10)

    assert not proof.proven
    assert "not applied" in proof.reason


def test_another_adapter_is_found() -> None:
    """Stale weights under a name that was used before look fine until they are scored."""
    proof = prove([measured(-3.0)], tolerance=0.1)

    assert not proof.proven
    assert "otherwise than at the gate" in proof.reason


def test_a_slight_adapter_applied_at_a_tenth_is_found() -> None:
    """All of it lies within the tolerance, so only the shift from the base can tell."""
    slight = probe(logp=-8.8)

    assert not prove([measured(-8.98, record=slight)], tolerance=0.1).proven
    assert prove([measured(-8.8, record=slight)], tolerance=0.1).proven


def test_an_adapter_applied_three_times_over_is_found() -> None:
    """A wrong scale is a different adapter."""
    slight = probe(logp=-8.9)

    assert not prove([measured(-8.7, record=slight)], tolerance=0.1).proven


def test_what_the_gate_could_not_tell_from_the_base_cannot_be_proven() -> None:
    """There is nothing to look for: such a candidate should not have passed."""
    proof = prove([measured(-9.0, record=probe(logp=-9.0))], tolerance=1)

    assert not proof.proven
    assert "saw no difference" in proof.reason


def test_nothing_is_proven_by_no_probes() -> None:
    """An empty record would prove any adapter."""
    assert not prove([], tolerance=1).proven


@pytest.mark.parametrize("side", ["logp", "base_logp"])
def test_a_number_that_is_none_proves_nothing(side: str) -> None:
    """An engine that computes NaN must not pass because NaN is not greater than anything."""
    logps = {"logp": -1.0, "base_logp": -9.0} | {side: float("nan")}

    assert not prove([measured(logps["logp"], logps["base_logp"])], tolerance=1).proven


@given(st.floats(-50, 0), st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_wider_tolerance_never_takes_a_proof_back(logp: float, one: float, other: float) -> None:
    """An operator who widens it must not break what works."""
    narrow, wide = sorted((one, other))

    assert not prove([measured(logp)], tolerance=narrow).proven or (
        prove([measured(logp)], tolerance=wide).proven
    )


@given(st.lists(st.tuples(st.floats(-50, 0), st.floats(-50, 0)), min_size=1), st.floats(0.01, 5))
def test_the_base_is_never_taken_for_an_adapter(
    record: list[tuple[float, float]], tolerance: float
) -> None:
    """Whatever the gate recorded: where release and base agree, nothing is applied."""
    same = [measured(base, base, record=probe(logp, base)) for logp, base in record]

    assert not prove(same, tolerance=tolerance).proven
