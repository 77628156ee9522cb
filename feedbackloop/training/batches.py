"""The order of rows that keeps KTO's batches right and lean.

TRL takes rows in the order they come and pairs each completion with the prompt before it in its
batch to estimate the KL term. So the order is part of the method, and it is planned here:

- a batch holds both labels in the proportion of all rows;
- rows of one prompt never meet in a batch: a mismatched pair would be a matched one;
- every batch is full, so that no row is left alone with its own completion;
- rows of like length share a batch, so that little is padding;
- each epoch is planned anew, and handed over as further rows of a single epoch.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random

import msgspec

_JITTER = 0.1
"""How far a length may stray when rows are sorted by it, so that no two epochs are alike."""


class RowFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the order depends on.

    Attributes:
        tokens: Prompt and completion together.
        label: True if desirable; the same for all rows where labels do not matter.
        prompt: Equal for rows of one prompt.
    """

    tokens: int
    label: bool
    prompt: str


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Batches of row numbers, epoch after epoch.

    Attributes:
        batch_size: Rows in each batch.
        epochs: For each epoch its batches, in order.
    """

    batch_size: int
    epochs: tuple[tuple[tuple[int, ...], ...], ...]

    def rows(self) -> list[int]:
        """List row numbers as the trainer is to read them."""
        return [row for epoch in self.epochs for batch in epoch for row in batch]


def plan_order(rows: Sequence[RowFacts], *, batch_size: int, epochs: int, seed: int) -> Order:
    """Plan each epoch's batches.

    Args:
        rows: The facts of all rows; their order does not matter for what may share a batch.
        batch_size: Rows in one forward pass; fewer only if there are fewer rows.
        epochs: Passes over the rows, each in another order.
        seed: The same inputs and seed give the same order.

    Returns:
        Full batches only. In each epoch the rows that fill no batch stay out, other ones each
        time; so do rows of a prompt that has more rows than there are batches.

    Raises:
        ValueError: If ``batch_size`` is below 2.
    """
    if batch_size < 2:  # noqa: PLR2004  # a completion needs another one to be mismatched with
        raise ValueError(f"a batch needs two rows, not {batch_size}")
    random = Random(seed)  # noqa: S311  # reproducible, not secret
    size = min(batch_size, len({row.prompt for row in rows}))
    if size < 2:  # noqa: PLR2004  # as above
        return Order(batch_size=batch_size, epochs=((),) * epochs)
    planned = tuple(_plan_epoch(rows, size=size, random=random) for _ in range(epochs))
    return Order(batch_size=size, epochs=planned)


def _plan_epoch(
    rows: Sequence[RowFacts], *, size: int, random: Random
) -> tuple[tuple[int, ...], ...]:
    """Plan one pass over the rows."""
    chosen = _separable(rows, size=size, random=random)
    batches = _stratify(rows, chosen, size=size, random=random)
    if not _separate(rows, batches):
        batches = _deal(rows, chosen, size=size)
    for batch in batches:
        random.shuffle(batch)
    random.shuffle(batches)
    return tuple(map(tuple, batches))


def _separable(rows: Sequence[RowFacts], *, size: int, random: Random) -> list[int]:
    """Draw as many rows as fill whole batches, no prompt more often than there are batches.

    Rows that must stay out are taken from both labels alike, as the shuffle has them.
    """
    shuffled = list(range(len(rows)))
    random.shuffle(shuffled)
    count = len(rows) // size
    while True:
        taken: Counter[str] = Counter()
        kept = []
        for row in shuffled:
            taken[rows[row].prompt] += 1
            if taken[rows[row].prompt] <= count:
                kept.append(row)
        if len(kept) // size == count:
            return kept[: count * size]
        count = len(kept) // size


def _stratify(
    rows: Sequence[RowFacts], chosen: Sequence[int], *, size: int, random: Random
) -> list[list[int]]:
    """Cut each label, sorted by length, into one run for each batch, by its share."""
    lengths = {row: rows[row].tokens * (1 + random.uniform(-_JITTER, _JITTER)) for row in chosen}
    by_length = sorted(chosen, key=lambda row: lengths[row])
    desirable = [row for row in by_length if rows[row].label]
    others = [row for row in by_length if not rows[row].label]
    count = len(chosen) // size
    batches = []
    for number in range(count):
        start, stop = (len(desirable) * edge // count for edge in (number, number + 1))
        rest = slice(number * size - start, (number + 1) * size - stop)
        batches.append(desirable[start:stop] + others[rest])
    return batches


def _separate(rows: Sequence[RowFacts], batches: list[list[int]]) -> bool:
    """Swap rows of one label between batches until no prompt is in a batch twice.

    Near batches are tried first, since their rows are of like length.

    Returns:
        Whether it succeeded.
    """
    prompts = [Counter(rows[row].prompt for row in batch) for batch in batches]
    for number, batch in enumerate(batches):
        for place, row in enumerate(batch):
            if prompts[number][rows[row].prompt] > 1 and not _swap(
                rows, batches, prompts, (number, place)
            ):
                return False
    return True


def _swap(
    rows: Sequence[RowFacts],
    batches: list[list[int]],
    prompts: list[Counter[str]],
    at: tuple[int, int],
) -> bool:
    """Exchange one row for the nearest one that lets neither batch hold a prompt twice."""
    number, place = at
    row = rows[batches[number][place]]
    for other in sorted(range(len(batches)), key=lambda one: abs(one - number)):
        if other == number or prompts[other][row.prompt]:
            continue
        for seat, candidate in enumerate(batches[other]):
            theirs = rows[candidate]
            if theirs.label == row.label and not prompts[number][theirs.prompt]:
                batches[number][place], batches[other][seat] = candidate, batches[number][place]
                prompts[number][row.prompt] -= 1
                prompts[number][theirs.prompt] += 1
                prompts[other][theirs.prompt] -= 1
                prompts[other][row.prompt] += 1
                return True
    return False


def _deal(rows: Sequence[RowFacts], chosen: Sequence[int], *, size: int) -> list[list[int]]:
    """Deal rows out like cards, prompt by prompt: separates whatever can be separated.

    The last resort, for a handful of prompts: labels and lengths fall as they may.
    """
    by_prompt: dict[str, list[int]] = defaultdict(list)
    for row in chosen:
        by_prompt[rows[row].prompt].append(row)
    cards = [row for prompt in by_prompt.values() for row in prompt]
    count = len(cards) // size
    return [cards[number::count] for number in range(count)]
