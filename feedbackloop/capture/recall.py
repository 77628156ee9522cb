"""How much of what was planted in texts is found, kind by kind, and what is found besides."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from feedbackloop.capture.planting import Text
from feedbackloop.capture.redactor import Redactor


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """How well one kind was found.

    Attributes:
        planted: How many values there were.
        removed: How many of them are gone, to the last character, under whatever kind.
        typed: How many of those stand under their own kind.
        found: How many finds of this kind there were.
        right: How many of those are of something planted.
        recall: Share of ``removed`` in ``planted``; None if nothing was planted.
        precision: Share of ``right`` in ``found``; None if nothing was found.
    """

    planted: int
    removed: int
    typed: int
    found: int
    right: int
    recall: float | None
    precision: float | None


class Missed(msgspec.Struct, frozen=True, kw_only=True):
    """A value that was not removed, or a find where nothing was planted.

    Attributes:
        id: Of the text.
        kind: What was planted, or taken for something.
        start: Where it begins.
        planted: Whether it was planted.
    """

    id: str
    kind: str
    start: int
    planted: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came out, by kind and of all kinds together, and every mistake."""

    texts: int
    kinds: dict[str, Counted]
    total: Counted
    mistakes: list[Missed]


def score(texts: Iterable[Text], redactor: Redactor) -> Report:
    """Compare what a redactor finds with what was planted."""
    counts: dict[str, Counter[str]] = {}
    mistakes: list[Missed] = []
    number = 0
    for text in texts:
        number += 1
        mistakes += _compared(text, redactor, counts)
    kinds = {kind: _counted(each) for kind, each in sorted(counts.items())}
    total = sum(counts.values(), Counter[str]())
    return Report(texts=number, kinds=kinds, total=_counted(total), mistakes=mistakes)


def _compared(text: Text, redactor: Redactor, counts: dict[str, Counter[str]]) -> list[Missed]:
    found = redactor.finds(text.text)
    covered = {place: one.kind for one in found for place in range(one.start, one.end)}
    planted = {place for span in text.spans for place in range(span.start, span.end)}
    mistakes: list[Missed] = []
    for span in text.spans:
        kinds = [covered.get(place) for place in range(span.start, span.end)]
        count = counts.setdefault(span.kind, Counter())
        count["planted"] += 1
        count["removed"] += None not in kinds
        count["typed"] += set(kinds) == {span.kind}
        if None in kinds:
            mistakes.append(Missed(id=text.id, kind=span.kind, start=span.start, planted=True))
    for one in found:
        count = counts.setdefault(one.kind, Counter())
        is_right = not planted.isdisjoint(range(one.start, one.end))
        count["found"] += 1
        count["right"] += is_right
        if not is_right:
            mistakes.append(Missed(id=text.id, kind=one.kind, start=one.start, planted=False))
    return mistakes


def _counted(count: Counter[str]) -> Counted:
    return Counted(
        planted=count["planted"],
        removed=count["removed"],
        typed=count["typed"],
        found=count["found"],
        right=count["right"],
        recall=count["removed"] / count["planted"] if count["planted"] else None,
        precision=count["right"] / count["found"] if count["found"] else None,
    )
