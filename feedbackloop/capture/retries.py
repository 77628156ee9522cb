"""Is this the last prompt asked again? What a later prompt implies about an earlier completion.

References:
    Hassan et al., "Beyond Clicks: Query Reformulation as a Predictor of Search Satisfaction",
    CIKM 2013: a similar query within about five minutes implies dissatisfaction.
"""

from collections.abc import Mapping
from enum import StrEnum
from re import IGNORECASE, Pattern
from re import compile as regex

import msgspec

from feedbackloop.capture.chain import normalised
from feedbackloop.capture.identity import event_id, retry_event_id
from feedbackloop.capture.markers import MARKERS, Marker, compiled, heads
from feedbackloop.capture.similarity import similarity
from feedbackloop.events import (
    CompletionServed,
    JsonObject,
    Outcome,
    OutcomeReported,
    PromptRetried,
    RetryKind,
)

THANKED = "thanked"
"""The outcome that is reported of a completion whose reader said thanks."""


class Implied(StrEnum):
    """What a later prompt says about an earlier completion."""

    REJECTED = "rejected"
    ACCEPTED = "accepted"
    NONE = "none"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds of detection.

    Attributes:
        min_gap_seconds: A prompt sooner than this after the reply is a client's, not a person's.
        max_gap_seconds: A similar prompt later than this is another talk.
        rephrase_similarity: Least similarity of a turn that continues the talk, in [0, 1].
        edit_similarity: Least similarity of a turn that replaces another, in [0, 1].
        min_shown_tokens: A reply that was stopped earlier than this was not read.
    """

    min_gap_seconds: float = 1.0
    max_gap_seconds: float = 300.0
    rephrase_similarity: float = 0.6
    edit_similarity: float = 0.5
    min_shown_tokens: int = 30


DEFAULT_RULES = Rules()
DEFAULT_MARKERS: Mapping[Marker, Pattern[str]] = compiled(MARKERS)

PRIORS: Mapping[RetryKind, float] = {
    RetryKind.REGENERATE: 0.85,
    RetryKind.EDIT: 0.75,
    RetryKind.REPHRASE: 0.75,
    RetryKind.CORRECTION: 0.8,
    RetryKind.STOPPED: 0.6,
}
"""Probability that a retry of each kind is a rejection, before calibration."""

_THANKS_PRIOR = 0.75
_SIDE_CALL = regex(
    r"^\s*#+\s*task\b|\b(generate|create|write|suggest)\b.{0,40}\b(title|tags|follow[- ]up)",
    IGNORECASE,
)


class Implication(msgspec.Struct, frozen=True, kw_only=True):
    """What one prompt implies about one completion.

    Attributes:
        implied: Rejected, accepted, or nothing.
        kind: In which way it was asked again; None unless rejected.
        confidence: Probability that it is right, in [0.5, 1]; 0.5 if nothing is implied.
        similarity: Of the two user turns, in [0, 1].
        gap_seconds: From the end of the completion to the prompt.
        reason: Why, in a word or two, from a closed set.
    """

    implied: Implied
    kind: RetryKind | None = None
    confidence: float = 0.5
    similarity: float = 0.0
    gap_seconds: float = 0.0
    reason: str


def judge(
    first: CompletionServed,
    second: CompletionServed,
    *,
    rules: Rules = DEFAULT_RULES,
    markers: Mapping[Marker, Pattern[str]] = DEFAULT_MARKERS,
) -> Implication:
    """Say what the prompt of ``second`` implies about the completion ``first``.

    Only the prompt of ``second`` is read, but for the case of an identical answer at
    temperature 0.
    """
    gap = (second.accepted_at - first.ended_at).total_seconds()
    reason = _excluded(first, second, gap, rules)
    turn = last_turn(second.messages)
    if reason is None and heads(turn, markers[Marker.VARIETY]):
        reason = "variety"
    if reason is not None:
        return Implication(implied=Implied.NONE, gap_seconds=gap, reason=reason)
    alike = similarity(last_turn(first.messages), turn)
    kind = _kind(first, second, alike, rules, markers)
    if kind is not None:
        return Implication(
            implied=Implied.REJECTED,
            kind=kind,
            confidence=PRIORS[kind],
            similarity=alike,
            gap_seconds=gap,
            reason=kind.value,
        )
    if continues(first, second) and heads(turn, markers[Marker.THANKS]):
        return Implication(
            implied=Implied.ACCEPTED,
            confidence=_THANKS_PRIOR,
            similarity=alike,
            gap_seconds=gap,
            reason="thanks",
        )
    return Implication(
        implied=Implied.NONE, similarity=alike, gap_seconds=gap, reason="new_request"
    )


def event(
    first: CompletionServed, second: CompletionServed, implication: Implication
) -> PromptRetried | OutcomeReported | None:
    """Make the fact that follows from an implication; None if nothing does."""
    if implication.kind is not None:
        return PromptRetried(
            event_id=retry_event_id(first.completion_id, second.completion_id),
            tenant=first.tenant,
            at=second.accepted_at,
            completion_id=first.completion_id,
            conversation=first.conversation,
            user=first.user,
            retry_id=second.completion_id,
            kind=implication.kind,
            similarity=implication.similarity,
            gap_seconds=implication.gap_seconds,
        )
    if implication.implied is Implied.ACCEPTED:
        return OutcomeReported(
            event_id=event_id(THANKED, first.completion_id, second.completion_id),
            tenant=first.tenant,
            at=second.accepted_at,
            completion_id=first.completion_id,
            conversation=first.conversation,
            user=first.user,
            outcome=THANKED,
        )
    return None


def continues(first: CompletionServed, second: CompletionServed) -> bool:
    """Say whether ``second`` is the very next turn after the completion ``first``."""
    place = len(first.chain)
    return len(second.chain) > place and second.chain[place] in first.reply_chains


def repeats(first: CompletionServed, second: CompletionServed) -> bool:
    """Say whether both have the same prompt, word for word."""
    return bool(first.chain) and first.chain[-1:] == second.chain[-1:]


def replaces(first: CompletionServed, second: CompletionServed) -> bool:
    """Say whether the last turn alone differs: what comes before it is the same."""
    return len(first.chain) == len(second.chain) and first.chain[:-1] == second.chain[:-1]


def last_turn(messages: tuple[JsonObject, ...]) -> str:
    """Return what the person said last."""
    for message in reversed(messages):
        if message.get("role") == "user":
            return normalised(message.get("content"))
    return ""


def _kind(
    first: CompletionServed,
    second: CompletionServed,
    alike: float,
    rules: Rules,
    markers: Mapping[Marker, Pattern[str]],
) -> RetryKind | None:
    if repeats(first, second):
        return RetryKind.REGENERATE
    gap = (second.accepted_at - first.ended_at).total_seconds()
    soon = gap <= rules.max_gap_seconds
    if continues(first, second):
        if heads(last_turn(second.messages), markers[Marker.CORRECTION]):
            return RetryKind.CORRECTION
        return RetryKind.REPHRASE if soon and alike >= rules.rephrase_similarity else None
    # A first turn has nothing before it that shows it is the same talk: then time has to.
    same_talk = len(first.chain) > 1 or soon
    if replaces(first, second) and same_talk and alike >= rules.edit_similarity:
        return RetryKind.EDIT
    return None


def _excluded(
    first: CompletionServed, second: CompletionServed, gap: float, rules: Rules
) -> str | None:
    """Name the reason why a prompt says nothing about a completion, if there is one."""
    checks = {
        "several_choices": _choices(first) > 1 or _choices(second) > 1,
        "no_answer": first.status >= 400 or not first.replies,  # noqa: PLR2004  # HTTP's errors
        "failed": first.outcome in (Outcome.UPSTREAM_FAILED, Outcome.CRASHED),
        "not_read": first.outcome is Outcome.CLIENT_GONE
        and (first.completion_tokens or len(last_words(first))) < rules.min_shown_tokens,
        "cut_at_length": any(reply.finish_reason == "length" for reply in first.replies),
        "same_request": first.idempotency_key is not None
        and first.idempotency_key == second.idempotency_key,
        "too_soon": gap < rules.min_gap_seconds,
        "other_person": (first.tenant, first.user) != (second.tenant, second.user),
        "other_model": first.alias != second.alias,
        "other_instructions": _system(first) != _system(second),
        "side_call": is_side_call(second) or is_side_call(first),
        "deterministic": _same_answer(first, second),
    }
    return next((reason for reason, applies in checks.items() if applies), None)


def last_words(completion: CompletionServed) -> list[str]:
    """Return the words that were shown: a lower bound of the tokens, if those are unknown."""
    return completion.replies[0].text.split() if completion.replies else []


def is_side_call(completion: CompletionServed) -> bool:
    """Say whether an app asked on its own behalf: for a title, tags or follow-up questions."""
    opening = next((normalised(m.get("content")) for m in completion.messages), "")
    return _SIDE_CALL.search(opening[:400]) is not None and len(completion.messages) <= 2  # noqa: PLR2004  # system and user


def _choices(completion: CompletionServed) -> int:
    asked = completion.parameters.get("n")
    return max(asked if isinstance(asked, int) else 1, len(completion.replies))


def _system(completion: CompletionServed) -> list[str]:
    return [
        normalised(message.get("content"))
        for message in completion.messages
        if message.get("role") in ("system", "developer")
    ]


def _same_answer(first: CompletionServed, second: CompletionServed) -> bool:
    """At temperature 0 the same prompt gives the same answer: a machine asks like that."""
    cold = second.parameters.get("temperature") == 0
    said = [reply.text for reply in first.replies] == [reply.text for reply in second.replies]
    return cold and said and repeats(first, second)
