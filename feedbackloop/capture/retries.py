"""Is this the last prompt asked again? What a later prompt implies about an earlier completion.

References:
    Hassan et al., "Beyond Clicks: Query Reformulation as a Predictor of Search Satisfaction",
    CIKM 2013: a similar query within about five minutes implies dissatisfaction.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum

import msgspec

from feedbackloop.capture.identity import event_id, retry_event_id
from feedbackloop.capture.pair import Pair
from feedbackloop.capture.reactions import (
    THANKS,
    UNREAD,
    Limits,
    Reaction,
    continued,
    repeated,
    replaced,
)
from feedbackloop.capture.sidecalls import is_side_call
from feedbackloop.capture.sketch import Sketch
from feedbackloop.capture.words import Table, Vocabulary, built_in, compiled, known_words, merged
from feedbackloop.events import Outcome, OutcomeReported, PromptRetried, RetryKind

THANKED = "thanked"
"""The outcome that is reported of a completion whose reader said thanks."""

FAILED = "failed"
"""Why nothing follows from an answer that did not come: vLLM failed, or the sidecar died."""


class Implied(StrEnum):
    """What a later prompt says about an earlier completion."""

    REJECTED = "rejected"
    ACCEPTED = "accepted"
    NONE = "none"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds of detection.

    Attributes:
        min_gap_seconds: A prompt sooner than this after the reply is a client's, not a person's.
        max_gap_seconds: A similar prompt later than this asks the same only if that is plain.
        max_repeat_gap_seconds: A prompt later than this begins another conversation.
        rephrase_similarity: Least similarity of a turn that continues the conversation, in [0, 1].
        edit_similarity: Least similarity of a turn that replaces another, in [0, 1].
        min_shown_tokens: A reply that was stopped earlier than this was not read, unless what
            was said next shows that it was.
        max_askers: A prompt that more people than this asked is a shared demo's or a load test's.
        max_times: A prompt that one asked more often than this within the crowd's time is a
            machine's.
        crowd_seconds: How far back askers and times are counted.
        max_per_minute: One who sends more prompts than this in a minute is a machine; 0 for no
            limit.
        idf: Weight of each word in comparisons, from the traffic's own counts; others weigh 1.
        words: A team's own word table, added to ours.
    """

    min_gap_seconds: float = 1.0
    max_gap_seconds: float = 300.0
    max_repeat_gap_seconds: float = 21_600.0
    rephrase_similarity: float = 0.6
    edit_similarity: float = 0.5
    min_shown_tokens: int = 30
    max_askers: int = 200
    max_times: int = 5
    crowd_seconds: float = 600.0
    max_per_minute: int = 30
    idf: Mapping[str, float] = {}
    words: Table = {}


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """How often the same prompt was asked lately, the second of the two completions included.

    Attributes:
        askers: By how many people.
        times: By the one in question.
        pace: How many prompts, this or others, that one sent in the last minute.
    """

    askers: int = 1
    times: int = 1
    pace: int = 1


DEFAULT_RULES = Rules()
ALONE = Crowd()

PRIORS: Mapping[RetryKind, float] = {
    RetryKind.REGENERATE: 0.85,
    RetryKind.EDIT: 0.75,
    RetryKind.REPHRASE: 0.75,
    RetryKind.CORRECTION: 0.8,
    RetryKind.STOPPED: 0.6,
}
"""Probability that a retry of each kind is a rejection, before calibration."""

_THANKS_PRIOR = 0.75


def vocabulary(rules: Rules) -> Vocabulary:
    """Return the words that rules read turns by: ours, and what a team added."""
    return compiled(merged([built_in(), rules.words])) if rules.words else known_words()


class Implication(msgspec.Struct, frozen=True, kw_only=True):
    """What one prompt implies about one completion.

    Attributes:
        implied: Rejected, accepted, or nothing.
        kind: In which way it was asked again; None unless rejected.
        confidence: Probability that it is right, in [0.5, 1]; 0.5 if nothing is implied.
        similarity: Of the two user turns, in [0, 1]; 0 where nothing is rejected.
        gap_seconds: From the end of the completion to the prompt.
        reason: Why, in a word or two, from the closed set in ``docs/capture.md``.
    """

    implied: Implied
    kind: RetryKind | None = None
    confidence: float = 0.5
    similarity: float = 0.0
    gap_seconds: float = 0.0
    reason: str


def judge(
    first: Sketch,
    second: Sketch,
    *,
    rules: Rules = DEFAULT_RULES,
    vocabulary: Vocabulary | None = None,
    crowd: Crowd = ALONE,
) -> Implication | None:
    """Say what the prompt of ``second`` implies about the completion ``first``.

    Args:
        first: The earlier completion.
        second: The later one; of its answer only this is read: whether it is the same, at
            temperature 0.
        rules: Thresholds.
        vocabulary: The words by which turns are read; None for those that we know.
        crowd: Who else asked the second prompt lately.

    Returns:
        The implication, which may be that nothing follows; None if the two prompts have nothing
        to do with each other.
    """
    if not (repeats(first, second) or continues(first, second) or replaces(first, second)):
        return None
    gap = (second.accepted_at - first.ended_at).total_seconds()
    reason = next(_exclusions(first, second, rules, crowd), None)
    if reason is not None:
        return Implication(implied=Implied.NONE, gap_seconds=gap, reason=reason)
    two = Pair(first, second, vocabulary or known_words(), idf=rules.idf)
    if is_side_call((*first.ends, *second.ends), two.tongues):
        return Implication(implied=Implied.NONE, gap_seconds=gap, reason="side_call")
    return _implication(_reaction(two, rules), gap)


def event(
    first: Sketch, second: Sketch, implication: Implication
) -> PromptRetried | OutcomeReported | None:
    """Make the fact that follows from an implication; None if nothing does.

    Its id depends on the two completions alone: seen again, it is the same fact.
    """
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


def repeats(first: Sketch, second: Sketch) -> bool:
    """Say whether both have the same prompt, word for word, as far as it tells the place."""
    if first.length > 0 and first.prompt == second.prompt:
        return True
    # What was removed from two turns may differ: then only the hash of what was said can tell.
    told = bool(first.said) and not first.is_redacted
    return told and first.turn == second.turn and first.tail == second.tail


def continues(first: Sketch, second: Sketch) -> bool:
    """Say whether ``second`` is the very next turn after the completion ``first``."""
    if second.length == first.length + 2 and second.before in first.reply_chains:
        return True
    return second.is_reply and second.tail in first.reply_tails


def replaces(first: Sketch, second: Sketch) -> bool:
    """Say whether the last turn alone differs: what comes before it is the same."""
    if first.length == second.length > 0 and first.before == second.before:
        return True
    return first.is_reply == second.is_reply and first.tail == second.tail


def _exclusions(first: Sketch, second: Sketch, rules: Rules, crowd: Crowd) -> Iterator[str]:
    """Yield the reasons why a prompt says nothing about a completion, most telling first."""
    gap = (second.accepted_at - first.ended_at).total_seconds()
    stopped_early = first.shown_tokens < rules.min_shown_tokens
    again = repeats(first, second)
    checks = {
        "other_person": (first.tenant, first.user) != (second.tenant, second.user),
        FAILED: first.outcome in (Outcome.UPSTREAM_FAILED, Outcome.CRASHED),
        "no_answer": not first.is_answered,
        # What is said next may show that it was read all the same; these words do not.
        UNREAD: first.outcome is Outcome.CLIENT_GONE and stopped_early and again,
        "same_request": first.idempotency_key is not None
        and first.idempotency_key == second.idempotency_key,
        "too_soon": gap < rules.min_gap_seconds,
        "not_spoken": not second.is_spoken,
        "several_choices": max(first.choices, second.choices) > 1,
        "cut_at_length": first.is_cut,
        "other_model": first.alias != second.alias,
        "other_value": _only_values_differ(first, second),
        "other_instructions": first.instructions != second.instructions,
        "same_answer": again and second.is_cold and first.answer == second.answer,
        "crowd": again and (crowd.askers > rules.max_askers or crowd.times > rules.max_times),
        "machine": 0 < rules.max_per_minute < crowd.pace
        or (again and first.is_probe and second.is_probe),
        "new_day": again and not first.is_reply and gap > rules.max_repeat_gap_seconds,
    }
    return (reason for reason, applies in checks.items() if applies)


def _only_values_differ(first: Sketch, second: Sketch) -> bool:
    """Say whether two turns are the same but for what was removed: another address, say."""
    if first.turn != second.turn or not first.is_redacted:
        return False
    return not repeats(first, second) and not continues(first, second)


def _reaction(two: Pair, rules: Rules) -> Reaction:
    """Choose between the three relations: asked again as it is, continued, or replaced."""
    if repeats(two.first, two.second):
        return repeated(two)
    limits = Limits(
        rephrase_similarity=rules.rephrase_similarity,
        edit_similarity=rules.edit_similarity,
        max_gap_seconds=rules.max_gap_seconds,
        max_repeat_gap_seconds=rules.max_repeat_gap_seconds,
        min_shown_tokens=rules.min_shown_tokens,
    )
    return continued(two, limits) if continues(two.first, two.second) else replaced(two, limits)


def _implication(reaction: Reaction, gap_seconds: float) -> Implication:
    if reaction.kind is not None:
        implied, confidence = Implied.REJECTED, PRIORS[reaction.kind]
    elif reaction.reason == THANKS:
        implied, confidence = Implied.ACCEPTED, _THANKS_PRIOR
    else:
        implied, confidence = Implied.NONE, 0.5
    return Implication(
        implied=implied,
        kind=reaction.kind,
        confidence=confidence,
        similarity=reaction.likeness,
        gap_seconds=gap_seconds,
        reason=reaction.reason,
    )
