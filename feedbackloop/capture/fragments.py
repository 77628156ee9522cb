"""Run the retry detector on dialogues that a team labelled by hand, and say how often it is right.

Each line is a JSON object::

    {"id", "kind", "implied": "rejected" | "none" | "accepted",
     "first": {"messages", "response", "finish_reason", "at", "params", "headers"},
     "second": {"messages", "at", "params", "headers"}}

``docs/capture.md`` says what may be left out, and how that is then read.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

import msgspec

from feedbackloop.capture.dialogues import (
    Fragment,
    Half,
    completed,
    completions,
    continuation,
)
from feedbackloop.capture.reactions import THANKS
from feedbackloop.capture.retries import (
    DEFAULT_RULES,
    Implication,
    Implied,
    Rules,
    judge,
    vocabulary,
)
from feedbackloop.capture.sketch import sketch
from feedbackloop.capture.words import Vocabulary
from feedbackloop.events import RetryKind

HALVES = ("tuned", "held-out")
"""The halves of a labelled set: thresholds are set on the first, and reported on the second."""

FINDS = frozenset({*(kind.value for kind in RetryKind), THANKS})
"""What can be found in a fragment; all else that is printed as a kind is why nothing was."""

_MIDDLE = 128
_KINDS = {
    "regeneration": "regenerate",
    "retry": "regenerate",
    "edit-and-resend": "edit",
    "edited": "edit",
    "rephrased": "rephrase",
    "rephrasing": "rephrase",
    "correct": "correction",
    "correction-marker": "correction",
    "stop": "stopped",
    "stop-mid-stream": "stopped",
    "thank": "thanks",
    "accept": "thanks",
    "accepted": "thanks",
}
"""Other names that people give to our kinds."""


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """One line's result.

    Attributes:
        line: Its number, from 1.
        id: As given.
        implied: What the detector reads in it; None if the line could not be read.
        kind: The kind of retry, or the reason why it is none.
        confidence: As in ``Implication``.
        truth: What the line says that it implies, if it does.
        truth_kind: The kind that the line names, if it does, in our words.
        error: Why the line could not be read, or None.
    """

    line: int
    id: str = ""
    implied: Implied | None = None
    kind: str = ""
    confidence: float = 0.5
    truth: Implied | None = None
    truth_kind: str | None = None
    error: str | None = None


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """How often the detector is right about one class; None where nothing was counted.

    Attributes:
        precision: Share of what was found that is true.
        recall: Share of what is true that was found.
        found: How many were found.
        true: How many are true.
        understood: Share of what is true of which at least the implication is right: for kinds
            that go by other names here.
    """

    precision: float | None
    recall: float | None
    found: int
    true: int
    understood: float | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All lines, and how often the detector is right.

    Attributes:
        lines: In order.
        implied: By what is implied, over the lines that say so.
        kinds: By kind, over the lines that name one. A kind that is found where something else is
            implied is a false find of it, whether or not the line names a kind; a reason for none
            is counted only if a line names it.
        unreadable: Lines left out.
    """

    lines: tuple[Scored, ...]
    implied: dict[str, Rate]
    kinds: dict[str, Rate]
    unreadable: int


_decoder = msgspec.json.Decoder(Fragment)


def half(name: str) -> str:
    """Say which half of a labelled set a fragment is in, by its id alone."""
    return HALVES[sha256(name.encode()).digest()[0] >= _MIDDLE]


def score_fragments(
    lines: Iterable[str | bytes], *, rules: Rules = DEFAULT_RULES, only: str | None = None
) -> Report:
    """Judge each fragment, and count where the truth is given. Empty lines are skipped.

    Args:
        lines: JSON, one fragment each.
        rules: Thresholds, and a team's words.
        only: The half to judge, one of ``HALVES``; None for all. What cannot be read is in both.
    """
    known = vocabulary(rules)
    scored = tuple(
        one
        for number, line in enumerate(lines, start=1)
        if line.strip()
        for one in [_score(number, line, rules, known)]
        if only is None or one.error is not None or half(one.id) == only
    )
    implied = [
        (one.implied.value, one.truth.value)
        for one in scored
        if one.implied is not None and one.truth is not None
    ]
    return Report(
        lines=scored,
        implied=_rates(implied),
        kinds=_by_kind(scored),
        unreadable=sum(one.error is not None for one in scored),
    )


def _score(number: int, line: str | bytes, rules: Rules, known: Vocabulary) -> Scored:
    try:
        fragment = _decoder.decode(line)
        found = _read(fragment, rules, known)
    # The last of these: a time beyond the calendar's end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        return Scored(line=number, error=str(error))
    kind = fragment.kind.strip().lower().replace("_", "-") if fragment.kind else None
    return Scored(
        line=number,
        id=str(fragment.id),
        implied=found.implied if found is not None else Implied.NONE,
        kind=found.reason if found is not None else "unrelated",
        confidence=found.confidence if found is not None else 0.5,
        truth=fragment.implied,
        truth_kind=_KINDS.get(kind, kind).replace("-", "_") if kind else None,
    )


def _read(fragment: Fragment, rules: Rules, known: Vocabulary) -> Implication | None:
    """Judge a fragment. A new turn by itself may go on from the answer, or replace the turn."""
    first, second = completed(fragment)
    found = _judge(first, second, rules, known)
    longer = continuation(first, second)
    further = _judge(first, longer, rules, known) if longer is not None else None
    if found is None or further is None:
        return found
    return further if found.kind is None else found


def _judge(first: Half, second: Half, rules: Rules, known: Vocabulary) -> Implication | None:
    before, after = (sketch(one) for one in completions(first, second))
    return judge(before, after, rules=rules, vocabulary=known)


def _by_kind(lines: Sequence[Scored]) -> dict[str, Rate]:
    named = [one for one in lines if one.truth_kind is not None]
    rates = _rates([(one.kind, one.truth_kind or "") for one in (*named, *_false_finds(lines))])
    told = [one for one in named if one.truth is not None]
    total = Counter(one.truth_kind for one in told)
    right = Counter(one.truth_kind for one in told if one.implied is one.truth)
    return {
        name: msgspec.structs.replace(rate, understood=right[name] / total[name])
        if total[name]
        else rate
        for name, rate in rates.items()
        if name in FINDS or (name and rate.true)
    }


def _false_finds(lines: Sequence[Scored]) -> Iterator[Scored]:
    """Yield the lines of no named kind in which one was found that their truth rules out."""
    return (
        one
        for one in lines
        if one.truth_kind is None and one.truth not in (None, one.implied) and one.kind in FINDS
    )


def _rates(pairs: list[tuple[str, str]]) -> dict[str, Rate]:
    found, true = Counter(one for one, _ in pairs), Counter(one for _, one in pairs)
    right = Counter(one for one, other in pairs if one == other)
    return {
        name: Rate(
            precision=right[name] / found[name] if found[name] else None,
            recall=right[name] / true[name] if true[name] else None,
            found=found[name],
            true=true[name],
        )
        for name in sorted(found | true)
    }
