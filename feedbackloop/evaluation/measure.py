"""Everything that the gate wants to know of a candidate and its incumbent, item by item."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec

from feedbackloop.dataset.rows import DpoRow, KtoRow, Messages
from feedbackloop.evaluation.port import Conversation, Evaluator, Generation, Likelihood
from feedbackloop.evaluation.suite import Suite, passes

_Row = TypeVar("_Row", KtoRow, DpoRow)

_WORD = re.compile(r"\S+")
_PROBE_WORDS = 16
_PROBE_CHARACTERS = 160
_NGRAM = 4
_REPEATS = 4
"""A completion that says the same four words more often than this goes round in circles."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure on.

    Attributes:
        rows: Held-out labelled completions.
        pairs: Held-out pairs.
        suites: Suites of the operator.
        max_rows: Most rows, and most pairs, that are scored.
        max_prompts: Most held-out prompts that are answered.
        max_tokens: Longest completion of a held-out prompt.
    """

    rows: Sequence[KtoRow] = ()
    pairs: Sequence[DpoRow] = ()
    suites: Sequence[Suite] = ()
    max_rows: int = 4_000
    max_prompts: int = 200
    max_tokens: int = 256


class ScoredRow(msgspec.Struct, frozen=True, kw_only=True):
    """A held-out completion; log-probabilities in nats, summed over tokens and the end token."""

    unit: str
    label: bool
    weight: float
    tokens: int
    base_logp: float
    candidate_logp: float
    incumbent_logp: float


class ScoredPair(msgspec.Struct, frozen=True, kw_only=True):
    """A held-out pair: how much likelier each policy finds the chosen than the base does.

    Attributes:
        unit: Who was served.
        candidate: Implicit reward of chosen less that of rejected, in nats, under the candidate.
        incumbent: The same under the incumbent; 0 if that is the base.
    """

    unit: str
    candidate: float
    incumbent: float


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one prompt under one policy; its words are not kept.

    Attributes:
        tokens: How long the completion was, the end token included.
        degenerate: Empty, cut off at the limit, or going round in circles.
        passed: Whether it was all that the item expected; True for a prompt without expectations.
    """

    tokens: int
    degenerate: bool
    passed: bool = True


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt, answered greedily by both.

    Attributes:
        id: The item's, or empty.
        unit: Who asked, or else the item.
        group: The item's task.
    """

    id: str
    unit: str
    group: str
    candidate: Said
    incumbent: Said


class SuiteResult(msgspec.Struct, frozen=True, kw_only=True):
    """A suite's items as both policies answered them, and the terms it set."""

    name: str
    digest: str
    margin: float
    alpha: float | None
    blocking: bool
    items: tuple[Answered, ...]


class Drifted(msgspec.Struct, frozen=True, kw_only=True):
    """One completion of the base, and how likely base and candidate find it, in nats."""

    unit: str
    tokens: int
    base_logp: float
    candidate_logp: float


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt that tells the candidate from the base: a release's probe to be.

    Attributes:
        prompt: Messages.
        completion: How the candidate's greedy completion begins: 16 words at most.
        logp: Its summed log-probability under the candidate, in nats, the end token left out.
        base_logp: The same under the base.
        tokens: How many tokens that were.
    """

    prompt: Messages
    completion: str
    logp: float
    base_logp: float
    tokens: int


class Measurements(msgspec.Struct, frozen=True, kw_only=True):
    """What a verdict is made from, and all of it."""

    rows: tuple[ScoredRow, ...] = ()
    pairs: tuple[ScoredPair, ...] = ()
    answers: tuple[Answered, ...] = ()
    suites: tuple[SuiteResult, ...] = ()
    drift: tuple[Drifted, ...] = ()
    probes: tuple[Fingerprint, ...] = ()


def measure(
    evaluator: Evaluator, *, candidate: Path, incumbent: Path | None, scope: Scope
) -> Measurements:
    """Let both policies score and answer the same things in one session.

    Args:
        evaluator: Lets one policy at a time speak.
        candidate: Its adapter folder.
        incumbent: The stable adapter's folder; None for the base.
        scope: What to measure on.
    """
    rows = thin(scope.rows, scope.max_rows)
    pairs = thin(scope.pairs, scope.max_rows)
    asked = _prompts(scope.rows, scope.pairs, scope.max_prompts)
    prompts = [prompt for prompt, _ in asked]
    said = evaluator.generate(prompts, adapter=candidate, max_tokens=scope.max_tokens)
    base_said = evaluator.generate(prompts, adapter=None, max_tokens=scope.max_tokens)
    before = (
        evaluator.generate(prompts, adapter=incumbent, max_tokens=scope.max_tokens)
        if incumbent
        else base_said
    )
    return Measurements(
        rows=_rows(evaluator, rows, candidate, incumbent),
        pairs=_pairs(evaluator, pairs, candidate, incumbent),
        answers=tuple(
            Answered(id="", unit=unit, group="", candidate=_said(ours), incumbent=_said(theirs))
            for (_, unit), ours, theirs in zip(asked, said, before, strict=True)
        ),
        suites=tuple(_suite(evaluator, suite, candidate, incumbent) for suite in scope.suites),
        drift=_drift(evaluator, asked, base_said, candidate),
        probes=fingerprints(evaluator, prompts, said, candidate=candidate),
    )


def thin(rows: Sequence[_Row], most: int) -> list[_Row]:
    """Keep ``most`` rows, chosen by their contents: the same ones every time, in their order."""
    if len(rows) <= most:
        return list(rows)
    encoder = msgspec.json.Encoder(order="deterministic")
    chosen = sorted(range(len(rows)), key=lambda n: sha256(encoder.encode(rows[n])).digest())
    return [rows[n] for n in sorted(chosen[:most])]


def fingerprints(
    evaluator: Evaluator,
    prompts: Sequence[Messages],
    said: Sequence[Generation],
    *,
    candidate: Path,
    most: int = 8,
) -> tuple[Fingerprint, ...]:
    """Choose the prompts whose completion tells the candidate from the base most clearly.

    Only how a completion begins is used, 16 words at most: a replica scores it token by token.
    Those that begin or end in a blank are passed over: chat templates trim them, and then a
    replica would not score the same tokens.

    Args:
        evaluator: Scores under candidate and base.
        prompts: To choose from.
        said: What the candidate says to each, greedily.
        candidate: Its adapter folder.
        most: How many to choose; the clearest first.
    """
    usable = [
        Conversation(prompt=tuple(prompt), completion=opening)
        for prompt, one in zip(prompts, said, strict=True)
        if (opening := _opening(one.text)) and opening == opening.strip()
    ]
    ours = evaluator.score(usable, adapter=candidate)
    base = evaluator.score(usable, adapter=None)
    found = [
        Fingerprint(
            prompt=conversation.prompt,
            completion=conversation.completion,
            logp=one.logp,
            base_logp=other.logp,
            tokens=one.tokens,
        )
        for conversation, one, other in zip(usable, ours, base, strict=True)
        if one.tokens
    ]
    found.sort(key=lambda probe: abs(probe.logp - probe.base_logp), reverse=True)
    return tuple(found[:most])


def _opening(text: str) -> str:
    """Return how a text begins: some words, or where words have no blanks, some characters."""
    beginning = text[:_PROBE_CHARACTERS]
    words = list(islice(_WORD.finditer(beginning), _PROBE_WORDS))
    if len(words) < _PROBE_WORDS:
        return beginning if beginning == text else beginning.rstrip()
    return beginning[: words[-1].end()]


def is_degenerate(generation: Generation) -> bool:
    """Say whether a completion is empty, was cut off, or goes round in circles."""
    words = generation.text.split()
    grams = Counter(tuple(words[n : n + _NGRAM]) for n in range(len(words) - _NGRAM + 1))
    circles = max(grams.values(), default=0) > _REPEATS
    return not words or not generation.finished or circles


def _said(generation: Generation, *, passed: bool = True) -> Said:
    return Said(tokens=generation.tokens, degenerate=is_degenerate(generation), passed=passed)


def _prompts(
    rows: Sequence[KtoRow], pairs: Sequence[DpoRow], most: int
) -> list[tuple[Messages, str]]:
    """Choose distinct prompts, one of each person before a second of anyone."""
    encoder = msgspec.json.Encoder(order="deterministic")
    asked = {encoder.encode(row.prompt): (row.prompt, row.unit) for row in rows}
    asked |= {encoder.encode(pair.prompt): (pair.prompt, pair.unit) for pair in pairs}
    turn: defaultdict[str, int] = defaultdict(int)
    queue: list[tuple[int, int, bytes]] = []
    for key in sorted(asked, key=lambda key: sha256(key).digest()):
        unit = asked[key][1]
        queue.append((turn[unit], len(queue), key))
        turn[unit] += 1
    return [asked[key] for _, _, key in sorted(queue)[:most]]


def _text(messages: Messages) -> str:
    content = messages[0].get("content")
    return content if isinstance(content, str) else ""


def _total(likelihood: Likelihood) -> float:
    return likelihood.logp + likelihood.end_logp


def _thrice(
    evaluator: Evaluator,
    conversations: Sequence[Conversation],
    candidate: Path,
    incumbent: Path | None,
) -> list[tuple[Likelihood, Likelihood, Likelihood]]:
    """Score under base, candidate and incumbent."""
    base = evaluator.score(conversations, adapter=None)
    ours = evaluator.score(conversations, adapter=candidate)
    theirs = evaluator.score(conversations, adapter=incumbent) if incumbent else base
    return list(zip(base, ours, theirs, strict=True))


def _rows(
    evaluator: Evaluator, rows: Sequence[KtoRow], candidate: Path, incumbent: Path | None
) -> tuple[ScoredRow, ...]:
    asked = [Conversation(prompt=row.prompt, completion=_text(row.completion)) for row in rows]
    scores = _thrice(evaluator, asked, candidate, incumbent)
    return tuple(
        ScoredRow(
            unit=row.unit,
            label=row.label,
            weight=row.weight,
            tokens=base.tokens + 1,
            base_logp=_total(base),
            candidate_logp=_total(ours),
            incumbent_logp=_total(theirs),
        )
        for row, (base, ours, theirs) in zip(rows, scores, strict=True)
    )


def _pairs(
    evaluator: Evaluator, pairs: Sequence[DpoRow], candidate: Path, incumbent: Path | None
) -> tuple[ScoredPair, ...]:
    chosen = [Conversation(prompt=row.prompt, completion=_text(row.chosen)) for row in pairs]
    rejected = [Conversation(prompt=row.prompt, completion=_text(row.rejected)) for row in pairs]
    scores = _thrice(evaluator, chosen + rejected, candidate, incumbent)
    ours = [_total(one) - _total(base) for base, one, _ in scores]
    theirs = [_total(one) - _total(base) for base, _, one in scores]
    n = len(pairs)
    return tuple(
        ScoredPair(
            unit=row.unit,
            candidate=ours[place] - ours[n + place],
            incumbent=theirs[place] - theirs[n + place],
        )
        for place, row in enumerate(pairs)
    )


def _suite(
    evaluator: Evaluator, suite: Suite, candidate: Path, incumbent: Path | None
) -> SuiteResult:
    header = suite.header
    prompts = [item.prompt for item in suite.items]
    ours = evaluator.generate(prompts, adapter=candidate, max_tokens=header.max_tokens)
    theirs = evaluator.generate(prompts, adapter=incumbent, max_tokens=header.max_tokens)
    return SuiteResult(
        name=header.name,
        digest=suite.digest,
        margin=header.margin,
        alpha=header.alpha,
        blocking=header.blocking,
        items=tuple(
            Answered(
                id=item.id,
                unit=item.id,
                group=item.group,
                candidate=_said(one, passed=passes(one.text, item.expect, header.checks)),
                incumbent=_said(other, passed=passes(other.text, item.expect, header.checks)),
            )
            for item, one, other in zip(suite.items, ours, theirs, strict=True)
        ),
    )


def _drift(
    evaluator: Evaluator,
    asked: Sequence[tuple[Messages, str]],
    said: Sequence[Generation],
    candidate: Path,
) -> tuple[Drifted, ...]:
    spoken = [
        (Conversation(prompt=prompt, completion=one.text), unit)
        for (prompt, unit), one in zip(asked, said, strict=True)
        if one.text
    ]
    texts = [conversation for conversation, _ in spoken]
    base = evaluator.score(texts, adapter=None)
    ours = evaluator.score(texts, adapter=candidate)
    return tuple(
        Drifted(unit=unit, tokens=one.tokens, base_logp=one.logp, candidate_logp=other.logp)
        for (_, unit), one, other in zip(spoken, base, ours, strict=True)
        if one.tokens
    )
