"""Choose the method that fits the data at hand, and say why.

The defaults and the order of the methods are explained in docs/training.md.
"""

from collections.abc import Mapping

import msgspec

from feedbackloop.errors import SettingsError
from feedbackloop.labels.tally import Counts
from feedbackloop.training.artefact import RANKS
from feedbackloop.training.recipe import LoraShape, Method, Recipe

DEFAULTS = {
    Method.KTO: Recipe(method=Method.KTO, learning_rate=1e-5, beta=0.2),
    # The NLL term keeps what the chosen completions already knew (arXiv:2404.19733).
    Method.DPO: Recipe(method=Method.DPO, learning_rate=5e-6, beta=0.2, nll_weight=0.2),
}
"""What a recipe is if nobody says otherwise."""

_SHAPE = frozenset(LoraShape.__struct_fields__)
_FLAT = frozenset(Recipe.__struct_fields__) - {"method", "lora"}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How little data is too little, and how large an adapter too large.

    Attributes:
        min_pairs: Least pairs for DPO.
        min_minority: Least rows of the rarer label for KTO.
        max_rank: Largest adapter rank that the policy server takes.
    """

    min_pairs: int
    min_minority: int
    max_rank: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to train, or None if there is too little; ``why`` is a sentence with the numbers."""

    recipe: Recipe | None
    why: str


def plan(
    counts: Counts,
    limits: Limits,
    *,
    configured: Mapping[str, Mapping[str, object]],
    asked: Mapping[str, object],
) -> Plan:
    """Choose the method and fill in its recipe.

    Pairs come first: two completions of one prompt differ only in what the person disliked, and
    cost the least of what the base already knew. Unpaired rows are next, counted by their rarer
    label. A method that the run itself asks for is used with any two rows that it can learn from.

    Args:
        counts: Rows in the snapshot.
        limits: How little is too little.
        configured: Fields that differ from the defaults, by method; LoRA's by their own names.
        asked: The same for this run alone; these win, and may name the ``method``.

    Raises:
        SettingsError: If a field is unknown or out of range; the message names it.
    """
    method, why = _asked_method(counts, asked) if "method" in asked else _method(counts, limits)
    # Checked even if nothing is trained: a misspelt field must not wait for enough data.
    for name in configured:
        _named(name)
    own = {field: value for field, value in asked.items() if field != "method"}
    recipes = {
        each: build_recipe(
            each, {**configured.get(each.value, {}), **own}, max_rank=limits.max_rank
        )
        for each in Method
    }
    return Plan(recipe=None if method is None else recipes[method], why=why)


def build_recipe(method: Method, changes: Mapping[str, object], *, max_rank: int) -> Recipe:
    """Change a method's default recipe.

    Raises:
        SettingsError: If a field is unknown, of another type or out of range.
    """
    default = DEFAULTS[method]
    unknown = sorted(changes.keys() - _SHAPE - _FLAT)
    if unknown:
        raise SettingsError(
            f"{method.value} recipe: no such field: {', '.join(unknown)};"
            f" there are {', '.join(sorted(_SHAPE | _FLAT))}"
        )
    shape = {key: _whole(value) for key, value in changes.items() if key in _SHAPE}
    rest = {key: _whole(value) for key, value in changes.items() if key in _FLAT}
    fields = msgspec.structs.asdict(default)
    lora = {**msgspec.structs.asdict(default.lora), **shape}
    try:
        recipe = msgspec.convert({**fields, **rest, "lora": lora}, Recipe)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{method.value} recipe: {error}") from error
    problems = _problems(recipe, max_rank=max_rank)
    if problems:
        raise SettingsError(f"{method.value} recipe: {'; '.join(problems)}")
    return recipe


def _method(counts: Counts, limits: Limits) -> tuple[Method | None, str]:
    """Choose by what there is enough of."""
    pairs = f"{counts.pairs} pairs"
    rarer = (
        f"{counts.minority} rows of the rarer label"
        f" ({counts.desirable} desirable, {counts.undesirable} undesirable)"
    )
    if counts.pairs >= limits.min_pairs:
        return Method.DPO, f"DPO: {pairs}, and {limits.min_pairs} suffice."
    too_few = f"{pairs} are fewer than the {limits.min_pairs} that DPO needs"
    if counts.minority >= limits.min_minority:
        return Method.KTO, f"KTO: {rarer}, and {limits.min_minority} suffice; {too_few}."
    return None, f"Nothing to train: {too_few}, and {rarer} than the {limits.min_minority} of KTO."


def _asked_method(counts: Counts, asked: Mapping[str, object]) -> tuple[Method | None, str]:
    """Use the method that the run asks for, if there is anything to use it on."""
    method = _named(asked["method"])
    enough = counts.pairs > 1 if method is Method.DPO else counts.minority > 0
    found = (
        f"{counts.pairs} pairs"
        if method is Method.DPO
        else f"{counts.desirable} desirable and {counts.undesirable} undesirable rows"
    )
    if not enough:
        return None, f"Nothing to train: the run asks for {method.name}, and there are {found}."
    return method, f"{method.name}: the run asks for it, and there are {found}."


def _named(name: object) -> Method:
    """Find a method by name."""
    try:
        return Method(str(name).lower())
    except ValueError as error:
        known = ", ".join(method.value for method in Method)
        raise SettingsError(f"recipe: no such method: {name!r}; there are {known}") from error


def _whole(value: object) -> object:
    """Let 2.0 be 2: a variable's text does not say which was meant."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _problems(recipe: Recipe, *, max_rank: int) -> list[str]:
    """Name each field that is out of range, and the range."""
    rules = [
        (recipe.lora.rank in RANKS, f"rank must be one of {', '.join(map(str, RANKS))}"),
        (recipe.lora.rank <= max_rank, f"rank must be at most the server's {max_rank}"),
        (recipe.lora.alpha > 0, "alpha must be above 0"),
        (0 <= recipe.lora.dropout < 1, "dropout must lie in [0, 1)"),
        (0 < recipe.learning_rate < 1, "learning_rate must lie in (0, 1)"),
        (recipe.beta > 0, "beta must be above 0"),
        (recipe.epochs > 0, "epochs must be above 0"),
        (recipe.micro_batch_size > 1, "micro_batch_size must be above 1"),
        (
            recipe.batch_size > 0 and recipe.batch_size % max(recipe.micro_batch_size, 1) == 0,
            "batch_size must be a multiple of micro_batch_size",
        ),
        (recipe.nll_weight >= 0, "nll_weight must not be below 0"),
        (0 <= recipe.warmup_share < 1, "warmup_share must lie in [0, 1)"),
        (recipe.max_length > 1, "max_length must be above 1"),
        (recipe.max_grad_norm > 0, "max_grad_norm must be above 0"),
        (recipe.seed >= 0, "seed must not be below 0"),
    ]
    return [rule for kept, rule in rules if not kept]
