"""Is this the last prompt asked again? What a later prompt implies about an earlier completion.

References:
    Hassan et al., "Beyond Clicks: Query Reformulation as a Predictor of Search Satisfaction",
    CIKM 2013: a similar query within about five minutes implies dissatisfaction.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from re import Pattern

import msgspec

from feedbackloop.capture.identity import event_id, retry_event_id
from feedbackloop.capture.markers import asks_for_more, compiled, heads, objects
from feedbackloop.capture.similarity import is_other_subject, similarity
from feedbackloop.capture.sketch import Sketch
from feedbackloop.capture.words import MARKERS, Marker
from feedbackloop.events import Outcome, OutcomeReported, PromptRetried, RetryKind

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
        max_askers: A prompt that more people than this asked is a shared demo's or a load test's.
        max_times: A prompt that one asked more often than this within the crowd's time is a
            machine's.
        crowd_seconds: How far back askers and times are counted.
        idf: Weight of each word in comparisons, from the traffic's own counts; others weigh 1.
    """

    min_gap_seconds: float = 1.0
    max_gap_seconds: float = 300.0
    rephrase_similarity: float = 0.6
    edit_similarity: float = 0.5
    min_shown_tokens: int = 30
    max_askers: int = 200
    max_times: int = 5
    crowd_seconds: float = 600.0
    idf: Mapping[str, float] = {}


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """How often the same prompt was asked lately, the second of the two completions included.

    Attributes:
        askers: By how many people.
        times: By the one in question.
    """

    askers: int = 1
    times: int = 1


DEFAULT_RULES = Rules()
DEFAULT_MARKERS: Mapping[Marker, Pattern[str]] = compiled(MARKERS)
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


class Implication(msgspec.Struct, frozen=True, kw_only=True):
    """What one prompt implies about one completion.

    Attributes:
        implied: Rejected, accepted, or nothing.
        kind: In which way it was asked again; None unless rejected.
        confidence: Probability that it is right, in [0.5, 1]; 0.5 if nothing is implied.
        similarity: Of the two user turns, in [0, 1]; 0 if they were not compared.
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
    markers: Mapping[Marker, Pattern[str]] = DEFAULT_MARKERS,
    crowd: Crowd = ALONE,
) -> Implication | None:
    """Say what the prompt of ``second`` implies about the completion ``first``.

    Args:
        first: The earlier completion.
        second: The later one; of its answer only this is read: whether it is the same, at
            temperature 0.
        rules: Thresholds.
        markers: Words that say what a person thinks of the answer before.
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
    alike = similarity(first.said, second.said, idf=rules.idf)
    found = _reaction(first, second, alike, rules, markers)
    return msgspec.structs.replace(found, similarity=alike, gap_seconds=gap)


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
    """Say whether both have the same prompt, word for word."""
    return first.length > 0 and first.prompt == second.prompt


def continues(first: Sketch, second: Sketch) -> bool:
    """Say whether ``second`` is the very next turn after the completion ``first``."""
    return second.length == first.length + 2 and second.before in first.reply_chains


def replaces(first: Sketch, second: Sketch) -> bool:
    """Say whether the last turn alone differs: what comes before it is the same."""
    return first.length == second.length > 0 and first.before == second.before


def _exclusions(first: Sketch, second: Sketch, rules: Rules, crowd: Crowd) -> Iterator[str]:
    """Yield the reasons why a prompt says nothing about a completion, most telling first."""
    gap = (second.accepted_at - first.ended_at).total_seconds()
    stopped_early = first.shown_tokens < rules.min_shown_tokens
    checks = {
        "other_person": (first.tenant, first.user) != (second.tenant, second.user),
        "failed": first.outcome in (Outcome.UPSTREAM_FAILED, Outcome.CRASHED),
        "no_answer": not first.is_answered,
        "not_read": first.outcome is Outcome.CLIENT_GONE and stopped_early,
        "same_request": first.idempotency_key is not None
        and first.idempotency_key == second.idempotency_key,
        "too_soon": gap < rules.min_gap_seconds,
        "not_spoken": not second.is_spoken,
        "side_call": first.is_side_call or second.is_side_call,
        "several_choices": max(first.choices, second.choices) > 1,
        "cut_at_length": first.is_cut,
        "other_model": first.alias != second.alias,
        "other_instructions": first.instructions != second.instructions,
        "same_answer": repeats(first, second) and second.is_cold and first.answer == second.answer,
        "crowd": repeats(first, second)
        and (crowd.askers > rules.max_askers or crowd.times > rules.max_times),
    }
    return (reason for reason, applies in checks.items() if applies)


def _reaction(
    first: Sketch,
    second: Sketch,
    alike: float,
    rules: Rules,
    markers: Mapping[Marker, Pattern[str]],
) -> Implication:
    """Choose between the three relations: asked again as it is, continued, or replaced."""
    if repeats(first, second):
        return _repeated(first, second, markers)
    if continues(first, second):
        return _continued(first, second, alike, rules, markers)
    return _replaced(first, second, alike, rules, markers)


def _repeated(first: Sketch, second: Sketch, markers: Mapping[Marker, Pattern[str]]) -> Implication:
    if asks_for_more(second.said, markers):
        return _nothing("variety")
    # After a stop a client may ask again by itself, as after a broken connection.
    stopped = first.outcome is Outcome.CLIENT_GONE
    return _rejected(RetryKind.STOPPED if stopped else RetryKind.REGENERATE)


def _continued(
    first: Sketch,
    second: Sketch,
    alike: float,
    rules: Rules,
    markers: Mapping[Marker, Pattern[str]],
) -> Implication:
    """Read the person's next words, the clearest first."""
    said = second.said
    if objects(said, markers):
        return _rejected(RetryKind.CORRECTION)
    if asks_for_more(said, markers):
        return _nothing("variety")
    if heads(said, markers[Marker.DENIAL]) and not heads(said, markers[Marker.POLITE]):
        # "No" after "Shall I ...?" answers a question.
        return _nothing("answer") if first.asks else _rejected(RetryKind.CORRECTION)
    if heads(said, markers[Marker.THANKS]):
        return Implication(implied=Implied.ACCEPTED, confidence=_THANKS_PRIOR, reason="thanks")
    return _asked_in_other_words(first, second, alike, rules, markers)


def _asked_in_other_words(
    first: Sketch,
    second: Sketch,
    alike: float,
    rules: Rules,
    markers: Mapping[Marker, Pattern[str]],
) -> Implication:
    soon = (second.accepted_at - first.ended_at).total_seconds() <= rules.max_gap_seconds
    reason: str | None = "new_request"
    if soon and alike >= rules.rephrase_similarity:
        reason = _new_wish(first.said, second.said, markers)
    if reason is None:
        return _rejected(RetryKind.REPHRASE)
    if first.outcome is Outcome.CLIENT_GONE:
        return _rejected(RetryKind.STOPPED)
    return _nothing(reason)


def _replaced(
    first: Sketch,
    second: Sketch,
    alike: float,
    rules: Rules,
    markers: Mapping[Marker, Pattern[str]],
) -> Implication:
    # A first turn has nothing before it that shows it is the same talk: then time has to.
    gap = (second.accepted_at - first.ended_at).total_seconds()
    same_talk = first.is_reply or gap <= rules.max_gap_seconds
    if not same_talk or alike < rules.edit_similarity:
        return _nothing("new_request")
    if asks_for_more(second.said, markers):
        return _nothing("variety")
    strictly = not first.is_reply and first.conversation != second.conversation
    reason = _new_wish(first.said, second.said, markers, strictly=strictly)
    return _rejected(RetryKind.EDIT) if reason is None else _nothing(reason)


def _new_wish(
    before: str, after: str, markers: Mapping[Marker, Pattern[str]], *, strictly: bool = False
) -> str | None:
    """Say why similar words are a wish of their own and no second try, if they are."""
    if is_other_subject(before, after, strictly=strictly):
        return "other_subject"
    constraint = markers[Marker.CONSTRAINT]
    if constraint.search(after.casefold()) and not constraint.search(before.casefold()):
        return "constraint"
    return None


def _rejected(kind: RetryKind) -> Implication:
    return Implication(
        implied=Implied.REJECTED, kind=kind, confidence=PRIORS[kind], reason=kind.value
    )


def _nothing(reason: str) -> Implication:
    return Implication(implied=Implied.NONE, reason=reason)
