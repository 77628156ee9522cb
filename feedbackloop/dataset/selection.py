"""Which labelled completions may become rows; every one left out is counted by its reason."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import msgspec

from feedbackloop.capture.placeholders import kinds
from feedbackloop.dataset.split import unit
from feedbackloop.events import CompletionServed, Outcome
from feedbackloop.labels.resolve import Label


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """A completion and its label."""

    completion: CompletionServed
    label: Label


def unusable(completion: CompletionServed, *, untrained: Collection[str] = ()) -> str | None:
    """Say why a completion cannot be a row, whatever its label; None if it can.

    Args:
        completion: Of any alias.
        untrained: As for ``is_speakable``.
    """
    if completion.outcome is not Outcome.COMPLETE or completion.unkept:
        return "unkept" if completion.unkept else f"outcome_{completion.outcome.value}"
    if completion.parameters.get("previous_response_id") is not None:
        # What it answered is in vLLM's memory, and was never in a request.
        return "partial_prompt"
    if len(completion.replies) != 1:
        return "several_choices" if completion.replies else "no_reply"
    (reply,) = completion.replies
    if reply.finish_reason != "stop":
        # Cut at its limit, it was not disliked for what it says; a tool call is no words.
        return "finish_reason"
    if reply.tool_calls or not reply.text.strip():
        return "tool_calls" if reply.tool_calls else "empty"
    return None if is_speakable(reply.text, untrained) else "placeholder"


def is_speakable(text: str, untrained: Collection[str]) -> bool:
    """Say whether a model may learn a text: whether it holds no placeholder of these kinds."""
    return kinds(text).isdisjoint(untrained)


def select(
    labelled: Iterable[Labelled],
    *,
    min_confidence: float,
    max_rows_per_user: int,
    untrained: Collection[str] = (),
) -> tuple[list[Labelled], Counter[str]]:
    """Keep what may be trained on, and count what was left out, by reason.

    Of one person's repeats of the same completion to the same prompt the surest is kept, and
    of all that one person said, the surest ``max_rows_per_user``.
    """
    left_out: Counter[str] = Counter()
    usable = []
    for one in labelled:
        reason = unusable(one.completion, untrained=untrained)
        if reason is None and one.label.confidence < min_confidence:
            reason = "confidence"
        if reason is None:
            usable.append(one)
        else:
            left_out[reason] += 1
    usable.sort(key=surest_first)
    once = _first_of_each(usable, left_out)
    return _capped(once, max_rows_per_user, left_out), left_out


def surest_first(one: Labelled) -> tuple[float, str]:
    """Order by confidence, surest first, and then by id, so that the order is total."""
    return -one.label.confidence, one.completion.completion_id


def _first_of_each(ordered: Sequence[Labelled], left_out: Counter[str]) -> list[Labelled]:
    seen: set[tuple[str, str, str]] = set()
    kept = []
    for one in ordered:
        completion = one.completion
        key = (unit(completion), completion.chain[-1], completion.replies[0].text)
        if key in seen:
            left_out["repeated"] += 1
            continue
        seen.add(key)
        kept.append(one)
    return kept


def _capped(ordered: Sequence[Labelled], cap: int, left_out: Counter[str]) -> list[Labelled]:
    taken: Counter[str] = Counter()
    kept = []
    for one in ordered:
        who = unit(one.completion)
        taken[who] += 1
        if taken[who] > cap:
            left_out["user_cap"] += 1
        else:
            kept.append(one)
    return kept
