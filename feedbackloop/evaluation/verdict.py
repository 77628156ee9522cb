"""The gate's answer about a candidate: what was checked, how sure it is, and what went in."""

from enum import StrEnum

import msgspec

from feedbackloop.evaluation.measure import Fingerprint


class Outcome(StrEnum):
    """The gate's three answers; only the first lets a candidate meet traffic."""

    PASS = "pass"  # noqa: S105  # a word, not a password
    FAIL = "fail"
    INSUFFICIENT = "insufficient"
    """The evidence proves neither: more data would decide, another try would not."""


class GroupScore(msgspec.Struct, frozen=True, kw_only=True):
    """A share of items passed within one task; too few items for a decision of its own."""

    group: str
    n: int
    candidate: float
    incumbent: float


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One question about the candidate, and its answer.

    Attributes:
        name: ``artefact``, ``preference.labels``, ``suite.{name}`` and so on.
        outcome: Its answer.
        blocking: Whether it decides; otherwise it is only reported.
        n: Items looked at.
        clusters: Independent units among them.
        units: What a cluster is: ``users``, ``prompts`` or ``items``.
        candidate: The candidate's score.
        incumbent: The incumbent's score.
        difference: What the interval bounds, in the direction of the check's own measure.
        low: Lower one-sided limit of the difference; None if nothing bounds it.
        high: Upper one-sided limit of the difference; None if nothing bounds it.
        margin: Largest loss that is accepted, positive, in the same unit.
        smallest_detectable: Smallest true loss that would have been found with the gate's
            power; None if none would.
        sentence: All of it in plain words.
        groups: Scores by task.
    """

    name: str
    outcome: Outcome
    blocking: bool
    n: int
    clusters: int
    units: str
    candidate: float
    incumbent: float
    difference: float
    low: float | None
    high: float | None
    margin: float
    smallest_detectable: float | None
    sentence: str
    groups: tuple[GroupScore, ...] = ()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The gate's answer, and everything it rests on.

    Attributes:
        outcome: Pass only if every blocking check passed.
        reason: One sentence that names the check which decided, with its numbers.
        checks: In the order in which they were made.
        inputs: Digests of what went in: adapters, snapshot, suites.
        alpha: Error probability of each one-sided limit.
        power: At which the smallest detectable losses are given.
        probes: What proves on each replica that this candidate is applied.
    """

    outcome: Outcome
    reason: str
    checks: tuple[Check, ...]
    inputs: dict[str, str]
    alpha: float
    power: float
    probes: tuple[Fingerprint, ...] = ()


def encode(verdict: Verdict) -> bytes:
    """Write a verdict as JSON: the same verdict, the same bytes."""
    return msgspec.json.Encoder(order="deterministic").encode(verdict)


def decode(raw: bytes) -> Verdict:
    """Read a verdict.

    Raises:
        msgspec.ValidationError: If it is none; the message names the field.
    """
    return msgspec.json.decode(raw, type=Verdict)
