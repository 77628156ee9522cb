"""Run the retry detector on dialogues that a team labelled by hand, and say how often it is right.

Each line is a JSON object::

    {"id", "kind", "implied": "rejected" | "none" | "accepted",
     "first": {"messages", "response", "finish_reason", "at", "params", "headers"},
     "second": {"messages", "at", "params", "headers"}}

``at`` is in seconds, for the first turn of when its answer ended; ``kind``, ``implied``,
``params`` and ``headers`` may be left out. An answer that was stopped has ``null`` for its
``finish_reason``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from feedbackloop.capture.chain import chain, extend
from feedbackloop.capture.identity import event_id
from feedbackloop.capture.retries import DEFAULT_RULES, Implied, Rules, judge
from feedbackloop.capture.sketch import sketch
from feedbackloop.events import (
    BASE,
    Alias,
    Arm,
    CompletionId,
    CompletionServed,
    ConversationId,
    JsonObject,
    Outcome,
    Reply,
    TenantId,
    UserId,
)

_KEY = b"fragments"
_START = datetime(2000, 1, 1, tzinfo=UTC)
_FAILED = frozenset({"error", "timeout"})
_STOPPED = frozenset({"abort", "cancelled", "client_gone", "stopped"})


class Half(msgspec.Struct, frozen=True):
    """One prompt, and for the first of the two its answer."""

    messages: list[JsonObject]
    at: float
    response: str | list[str] | None = None
    finish_reason: str | None = "stop"
    params: JsonObject = {}
    headers: dict[str, str] = {}


class Fragment(msgspec.Struct, frozen=True):
    """Two prompts of one person, and what a reader says that the second implies."""

    first: Half
    second: Half
    id: str | int = ""
    kind: str | None = None
    implied: Implied | None = None


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """One line's result.

    Attributes:
        line: Its number, from 1.
        id: As given.
        implied: What the detector reads in it; None if the line could not be read.
        kind: The kind of retry, or the reason why it is none.
        confidence: As in ``Implication``.
        truth: What the line says that it implies, if it does.
        truth_kind: The kind that the line names, if it does.
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
    """How often the detector is right about one class; None where nothing was counted."""

    precision: float | None
    recall: float | None
    found: int
    true: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All lines, and how often the detector is right.

    Attributes:
        lines: In order.
        implied: By what is implied, over the lines that say so.
        kinds: By kind, over the lines that name one.
        unreadable: Lines left out.
    """

    lines: tuple[Scored, ...]
    implied: dict[str, Rate]
    kinds: dict[str, Rate]
    unreadable: int


_decoder = msgspec.json.Decoder(Fragment)


def score_fragments(lines: Iterable[str | bytes], *, rules: Rules = DEFAULT_RULES) -> Report:
    """Judge each fragment, and count where the truth is given. Empty lines are skipped."""
    scored = tuple(
        _score(number, line, rules) for number, line in enumerate(lines, start=1) if line.strip()
    )
    implied = [
        (one.implied.value, one.truth.value)
        for one in scored
        if one.implied is not None and one.truth is not None
    ]
    kinds = [(one.kind, one.truth_kind) for one in scored if one.truth_kind is not None]
    return Report(
        lines=scored,
        implied=_rates(implied),
        kinds=_rates(kinds),
        unreadable=sum(one.error is not None for one in scored),
    )


def completions(fragment: Fragment) -> tuple[CompletionServed, CompletionServed]:
    """Turn a fragment into the two completions that the sidecar would have recorded."""
    return _completion("first", fragment.first), _completion("second", fragment.second)


def _score(number: int, line: str | bytes, rules: Rules) -> Scored:
    try:
        fragment = _decoder.decode(line)
        first, second = completions(fragment)
    # The last of these: a time beyond the calendar's end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        return Scored(line=number, error=str(error))
    found = judge(sketch(first), sketch(second), rules=rules)
    return Scored(
        line=number,
        id=str(fragment.id),
        implied=found.implied if found is not None else Implied.NONE,
        kind=found.reason if found is not None else "unrelated",
        confidence=found.confidence if found is not None else 0.5,
        truth=fragment.implied,
        truth_kind=fragment.kind,
    )


def _completion(name: str, half: Half) -> CompletionServed:
    hashes = chain(half.messages, key=_KEY)
    texts = [half.response] if isinstance(half.response, str) else half.response or []
    at = _START + timedelta(seconds=half.at)
    headers = {key.lower(): value for key, value in half.headers.items()}
    user = headers.get("x-feedbackloop-user") or half.params.get("user")
    return CompletionServed(
        event_id=event_id(name),
        tenant=TenantId("default"),
        at=at,
        completion_id=CompletionId(name),
        conversation=ConversationId(""),
        user=UserId(str(user)) if user else None,
        chain=hashes,
        reply_chains=tuple(
            extend(hashes[-1], {"role": "assistant", "content": text}, key=_KEY)
            for text in texts
            if hashes
        ),
        alias=Alias(str(half.params.get("model", ""))),
        assigned=BASE,
        release=BASE,
        release_seq=0,
        arm=Arm.STABLE,
        propensity=1.0,
        epoch=0,
        messages=tuple(half.messages),
        parameters=half.params,
        replies=tuple(Reply(text=text, finish_reason=half.finish_reason) for text in texts),
        accepted_at=at,
        ended_at=at,
        outcome=_outcome(half),
        idempotency_key=headers.get("idempotency-key"),
    )


def _outcome(half: Half) -> Outcome:
    if half.finish_reason in _FAILED:
        return Outcome.UPSTREAM_FAILED
    stopped = half.finish_reason is None or half.finish_reason in _STOPPED
    return Outcome.CLIENT_GONE if stopped else Outcome.COMPLETE


def _rates(pairs: list[tuple[str, str]]) -> dict[str, Rate]:
    found, true = Counter(one for one, _ in pairs), Counter(one for _, one in pairs)
    right = Counter(one for one, other in pairs if one == other)
    return {name: _rate(right, found, true, name) for name in sorted(found | true)}


def _rate(
    right: Mapping[str, int], found: Mapping[str, int], true: Mapping[str, int], name: str
) -> Rate:
    hits = right.get(name, 0)
    return Rate(
        precision=hits / found[name] if name in found else None,
        recall=hits / true[name] if name in true else None,
        found=found.get(name, 0),
        true=true.get(name, 0),
    )
