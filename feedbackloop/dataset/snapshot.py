"""Rows, held-out rows, manifest and content hash: what one run trains on and is judged by.

A snapshot is a function of the log up to a moment, the options and the seed: the same inputs
give the same bytes, whoever computes them and however often the log was delivered.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from random import Random

import msgspec

from feedbackloop.capture.attribution import implied
from feedbackloop.capture.retries import DEFAULT_RULES, Rules
from feedbackloop.dataset.balance import down_sample
from feedbackloop.dataset.dpo import dpo_rows
from feedbackloop.dataset.kto import kto_rows
from feedbackloop.dataset.rows import DpoRow, KtoRow
from feedbackloop.dataset.selection import Labelled, select
from feedbackloop.dataset.split import Holdouts, fingerprint, is_trainable
from feedbackloop.events import Alias, CompletionId, TenantId
from feedbackloop.labels.calibration import Calibration, calibrate, confidences
from feedbackloop.labels.gather import Gathered, Gathering
from feedbackloop.labels.resolve import Label, Source, resolve
from feedbackloop.log import completeness

FORMAT = 4
"""Grows when the same inputs would give other bytes."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot depends on beside the log.

    Attributes:
        alias: Whose completions.
        until: Nothing that happened later is looked at, in UTC.
        window_seconds: How far back completions are taken.
        watermark_seconds: A completion is labelled this long after it ended.
        min_confidence: Least confidence of a label that is trained on.
        max_rows_per_user: Most rows of one person.
        max_ratio: Most rows of the commoner label for each of the rarer.
        holdout_share: Share of people held out.
        seed: Of down-sampling.
        retries: Thresholds of retry detection.
        untrained: Kinds of placeholder that no reply may hold; up to format 3 there were none.
    """

    alias: Alias
    until: datetime
    window_seconds: float
    watermark_seconds: float
    min_confidence: float
    max_rows_per_user: int
    max_ratio: float
    holdout_share: float
    seed: int = 0
    retries: Rules = DEFAULT_RULES
    untrained: tuple[str, ...] = ()


class Influence(msgspec.Struct, frozen=True, kw_only=True):
    """How much one person can move a snapshot: the largest share of its total weight."""

    people: int
    largest_share: float


class Completeness(msgspec.Struct, frozen=True, kw_only=True):
    """What is known to be missing: loss is never silent.

    Attributes:
        completions: Recorded in the window.
        orphans: Completions that only signals speak of.
        records: What producers numbered, against what arrived: expected, seen, declared, missing.
    """

    completions: int
    orphans: int
    records: completeness.Completeness


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What went in, what was left out and why, and what came out.

    Attributes:
        format: Version of the computation.
        options: As given.
        holdout: Fingerprint of the secret that holds people out, of each tenant in the window that
            has one; up to format 2 there was a single one.
        calibration: By kind of signal, as measured in this window.
        completeness: What is known to be missing.
        labelled: Completions with a label, by ``desirable`` and ``undesirable``.
        left_out: Labelled completions that became no KTO row, by reason.
        rows: KTO rows by ``desirable`` and ``undesirable``, and DPO ``pairs`` by origin.
        held_out: The same for held-out people.
        influence: Of one person on the KTO rows, and on the pairs.
    """

    format: int
    options: Options
    holdout: dict[TenantId, str] | str
    calibration: dict[str, Calibration]
    completeness: Completeness
    labelled: dict[str, int]
    left_out: dict[str, int]
    rows: dict[str, int]
    held_out: dict[str, int]
    influence: dict[str, Influence]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The immutable rows that one run trains on, and those that it is judged by."""

    manifest: Manifest
    kto: tuple[KtoRow, ...]
    dpo: tuple[DpoRow, ...]
    held_out_kto: tuple[KtoRow, ...]
    held_out_dpo: tuple[DpoRow, ...]


PARTS = ("kto", "dpo", "held_out_kto", "held_out_dpo")
"""The names of a snapshot's parts beside its manifest."""


def build(gathering: Gathering, options: Options, *, holdouts: Holdouts) -> Snapshot:
    """Make the snapshot of what was known at ``options.until``.

    Args:
        gathering: The log's events; later ones than ``until`` are left out here.
        options: What else it depends on.
        holdouts: Hold people out; only their fingerprints are kept. Completions of a tenant that
            has none are neither trained on nor judged by, and counted as left out.
    """
    known = _with_retries(gathering.until(options.until), options.retries)
    window = [one for one in known.completions() if _in_window(one, options)]
    table = calibrate(window)
    trust = confidences(table)
    labels = _labels(window, trust)
    train, held_out = _split(window, holdouts, options.holdout_share)
    kto, left_out = _kto(train, labels, options)
    left_out += _without_secret(window, labels, holdouts)
    judged, _ = _selected(held_out, labels, options)
    pairs, judged_pairs = (
        dpo_rows(some, labels, confidences=trust, untrained=options.untrained)
        for some in (train, held_out)
    )
    trained = tuple(kto_rows(kto)), tuple(_capped_pairs(pairs, options))
    judging = tuple(kto_rows(judged)), tuple(judged_pairs)
    manifest = Manifest(
        format=FORMAT,
        options=options,
        holdout=_fingerprints(window, holdouts),
        calibration={source.value: row for source, row in sorted(table.items())},
        completeness=Completeness(
            completions=len(window),
            orphans=known.orphans(),
            records=known.audit().report(now=options.until),
        ),
        labelled=_by_label(label.desirable for label in labels.values()),
        left_out=dict(sorted(left_out.items())),
        rows=_counts(*trained),
        held_out=_counts(*judging),
        influence=_influences(*trained),
    )
    return Snapshot(
        manifest=manifest,
        kto=trained[0],
        dpo=trained[1],
        held_out_kto=judging[0],
        held_out_dpo=judging[1],
    )


def encode(snapshot: Snapshot) -> dict[str, bytes]:
    """Write a snapshot as its files' contents: JSON lines for rows, JSON for the manifest."""
    encoder = msgspec.json.Encoder(order="deterministic")
    files = {f"{part}.jsonl": encoder.encode_lines(getattr(snapshot, part)) for part in PARTS}
    return files | {"manifest.json": encoder.encode(snapshot.manifest)}


def digest(files: Mapping[str, bytes]) -> str:
    """Name a snapshot by its contents: SHA-256 over each file's name, length and bytes."""
    total = sha256()
    for name in sorted(files):
        total.update(f"{name}\0{len(files[name])}\0".encode())
        total.update(files[name])
    return total.hexdigest()


def decode(files: Mapping[str, bytes]) -> Snapshot:
    """Read a snapshot from its files' contents.

    Raises:
        msgspec.ValidationError: If they are none; the message names the field.
        KeyError: If a file is missing.
    """
    kto, dpo = msgspec.json.Decoder(KtoRow), msgspec.json.Decoder(DpoRow)
    return Snapshot(
        manifest=decode_manifest(files["manifest.json"]),
        kto=tuple(kto.decode_lines(files["kto.jsonl"])),
        dpo=tuple(dpo.decode_lines(files["dpo.jsonl"])),
        held_out_kto=tuple(kto.decode_lines(files["held_out_kto.jsonl"])),
        held_out_dpo=tuple(dpo.decode_lines(files["held_out_dpo.jsonl"])),
    )


def decode_manifest(raw: bytes) -> Manifest:
    """Read a manifest alone.

    Raises:
        msgspec.ValidationError: If it is none; the message names the field.
    """
    return msgspec.json.decode(raw, type=Manifest)


def influence(weights: Iterable[tuple[str, float]]) -> Influence:
    """Measure the largest share of the total weight that one person holds."""
    by_person: Counter[str] = Counter()
    for who, weight in weights:
        by_person[who] += weight  # type: ignore[assignment]  # Counter sums floats as well
    total = sum(by_person.values())
    largest = max(by_person.values(), default=0.0)
    return Influence(people=len(by_person), largest_share=largest / total if total else 0.0)


def _with_retries(known: Gathering, rules: Rules) -> Gathering:
    """Add the retries that no sidecar saw alone; those that one saw have the same ids."""
    completions = [one.completion for one in known.completions() if one.completion is not None]
    for event in implied(completions, rules=rules):
        known.add(event)
    return known


def _in_window(one: Gathered, options: Options) -> bool:
    completion = one.completion
    if completion is None or completion.alias != options.alias:
        return False
    start = options.until - timedelta(seconds=options.window_seconds)
    ripe = options.until - timedelta(seconds=options.watermark_seconds)
    return start <= completion.ended_at <= ripe


def _labels(window: Sequence[Gathered], trust: Mapping[Source, float]) -> dict[CompletionId, Label]:
    labels = (resolve(one.completion_id, one.signals, confidences=trust) for one in window)
    return {label.completion_id: label for label in labels if label is not None}


def _split(
    window: Sequence[Gathered], holdouts: Holdouts, share: float
) -> tuple[list[Gathered], list[Gathered]]:
    train: list[Gathered] = []
    held_out: list[Gathered] = []
    for one in window:
        assert one.completion is not None  # noqa: S101  # the window holds nothing else
        secret = holdouts.get(one.completion.tenant)
        if secret is not None:
            trainable = is_trainable(one.completion, secret=secret, share=share)
            (train if trainable else held_out).append(one)
    return train, held_out


def _without_secret(
    window: Sequence[Gathered], labels: Mapping[CompletionId, Label], holdouts: Holdouts
) -> Counter[str]:
    labelled = _labelled(window, labels)
    return +Counter(no_secret=sum(one.completion.tenant not in holdouts for one in labelled))


def _fingerprints(window: Sequence[Gathered], holdouts: Holdouts) -> dict[TenantId, str]:
    """Fingerprint the secrets that mattered: another tenant's arrival changes no snapshot."""
    tenants = {one.completion.tenant for one in window if one.completion is not None}
    return {tenant: fingerprint(holdouts[tenant]) for tenant in sorted(tenants & holdouts.keys())}


def _labelled(gathered: Sequence[Gathered], labels: Mapping[CompletionId, Label]) -> list[Labelled]:
    return [
        Labelled(completion=one.completion, label=labels[one.completion_id])
        for one in gathered
        if one.completion is not None and one.completion_id in labels
    ]


def _selected(
    gathered: Sequence[Gathered], labels: Mapping[CompletionId, Label], options: Options
) -> tuple[list[Labelled], Counter[str]]:
    return select(
        _labelled(gathered, labels),
        min_confidence=options.min_confidence,
        max_rows_per_user=options.max_rows_per_user,
        untrained=options.untrained,
    )


def _kto(
    train: Sequence[Gathered], labels: Mapping[CompletionId, Label], options: Options
) -> tuple[list[Labelled], Counter[str]]:
    selected, left_out = _selected(train, labels, options)
    kept, dropped = down_sample(
        selected,
        max_ratio=options.max_ratio,
        random=Random(options.seed),  # noqa: S311  # reproducible, not secret
    )
    left_out["balance"] = dropped
    return kept, +left_out


def _capped_pairs(rows: Sequence[DpoRow], options: Options) -> list[DpoRow]:
    """Keep the surest pairs that are sure enough, no more of one person than of rows."""
    taken: Counter[str] = Counter()
    kept = []
    for row in sorted(rows, key=lambda row: (-row.confidence, row.chosen_id, row.rejected_id)):
        taken[row.unit] += 1
        if (
            row.confidence >= options.min_confidence
            and taken[row.unit] <= options.max_rows_per_user
        ):
            kept.append(row)
    return kept


def _by_label(labels: Iterable[bool]) -> dict[str, int]:
    counted = Counter(labels)
    return {"desirable": counted[True], "undesirable": counted[False]}


def _influences(kto: Sequence[KtoRow], dpo: Sequence[DpoRow]) -> dict[str, Influence]:
    return {
        "kto": influence([(row.unit, row.weight) for row in kto]),
        "dpo": influence([(row.unit, 1.0) for row in dpo]),
    }


def _counts(kto: Sequence[KtoRow], dpo: Sequence[DpoRow]) -> dict[str, int]:
    origins = Counter(row.origin for row in dpo)
    return (
        _by_label(row.label for row in kto)
        | {"pairs": len(dpo)}
        | {f"pairs_{origin}": origins[origin] for origin in sorted(origins)}
    )
