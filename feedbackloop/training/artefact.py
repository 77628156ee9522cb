"""What an adapter folder may hold: files, config keys, tensors, and the digest that names it.

Everything that vLLM would refuse only after it has taken a slot, or would accept and silently
serve wrongly, is found here, from facts alone. ``safetensors.py`` reads the facts.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping

import msgspec

from feedbackloop.errors import AdapterRejected
from feedbackloop.events import JsonObject

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FILES = frozenset({CONFIG, WEIGHTS})
"""Exactly these files make an adapter."""

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM's ``--max-lora-rank`` knows."""

DTYPES = frozenset({"F32", "F16", "BF16"})
"""Element types, in safetensors' words, that adapters are kept in."""

_NAME = re.compile(r"base_model\.model\.(?P<module>[\w.]+)\.lora_(?P<side>[AB])\.weight")

_PLAIN = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "bias",
        "inference_mode",
        "init_lora_weights",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "revision",
        "target_modules",
        "task_type",
        "use_rslora",
    }
)
"""Keys that carry no feature of their own, or whose value is checked below."""

_OFF = frozenset(
    {
        "alora_invocation_tokens",
        "alpha_pattern",
        "arrow_config",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "kasa_config",
        "layer_replication",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_bias",
        "lora_ga_config",
        "megatron_config",
        "modules_to_save",
        "monteclora_config",
        "rank_pattern",
        "target_parameters",
        "trainable_token_indices",
        "use_bdlora",
        "use_dora",
        "use_qalora",
        "velora_config",
    }
)
"""PEFT's features that change what an adapter means: known, and to be left off."""


class TensorFact(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor of an adapter, as far as the rules need to know it.

    Attributes:
        name: As in the file.
        dtype: Safetensors' word for the element type.
        shape: Rows and columns for LoRA's factors.
        finite: Whether no element is an infinity or not a number.
        zero: Whether every element is zero.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    finite: bool
    zero: bool


def parse_config(config: bytes) -> JsonObject:
    """Read ``adapter_config.json``.

    Raises:
        AdapterRejected: If it is no JSON object, or names a key twice.
    """
    try:
        found = json.loads(config, object_pairs_hook=_no_key_twice)
    except (ValueError, RecursionError) as error:
        raise AdapterRejected(CONFIG, f"is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise AdapterRejected(CONFIG, "is no JSON object")
    return found


def digest(config: bytes, weights: bytes | memoryview) -> str:
    """Name an adapter by what it is: SHA-256 over canonical config and the weights' bytes.

    The config's layout, key order and the order of its lists of module names do not matter.

    Args:
        config: Bytes of ``adapter_config.json``.
        weights: Bytes of ``adapter_model.safetensors``; a memory map will do.

    Returns:
        64 hex digits.

    Raises:
        AdapterRejected: If the config is no JSON object.
    """
    canonical = canonical_config(parse_config(config))
    # The length keeps a byte from moving between the two parts unseen.
    sha = hashlib.sha256(len(canonical).to_bytes(8, "big"))
    sha.update(canonical)
    sha.update(weights)
    return sha.hexdigest()


def canonical_config(config: Mapping[str, object]) -> bytes:
    """Write a config in its one form: sorted keys and module names, no spaces, UTF-8."""
    ordered = {key: _sorted_names(value) for key, value in config.items()}
    return json.dumps(ordered, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def file_problems(names: Iterable[str]) -> list[str]:
    """Say what is missing from a folder, and what must not be in it."""
    found = set(names)
    missing = [f"{name} is missing" for name in sorted(FILES - found)]
    return missing + [f"{name!r} does not belong here" for name in sorted(found - FILES)]


def config_problems(config: Mapping[str, object], *, max_rank: int) -> list[str]:
    """Say in words which rules a config breaks; an empty list means that it may be served."""
    problems = [f"unknown key {key!r}" for key in sorted(config.keys() - _PLAIN - _OFF)]
    problems += [f"{key} must be off" for key in sorted(_OFF) if config.get(key)]
    if config.get("peft_type") != "LORA":
        problems.append(f"peft_type must be LORA, not {config.get('peft_type')!r}")
    if config.get("task_type", "CAUSAL_LM") not in {"CAUSAL_LM", None}:
        problems.append(f"task_type must be CAUSAL_LM, not {config['task_type']!r}")
    if config.get("bias", "none") != "none":
        problems.append(f"bias must be none, not {config['bias']!r}")
    if config.get("auto_mapping"):
        problems.append("auto_mapping names code to import")
    # Inits named by a string may have changed the base's own weights (PiSSA, OLoRA, LoftQ).
    if not isinstance(config.get("init_lora_weights", True), bool):
        problems.append(f"init_lora_weights must be a bool, not {config['init_lora_weights']!r}")
    return problems + _scale_problems(config, max_rank=max_rank) + _target_problems(config)


def tensor_problems(config: Mapping[str, object], tensors: Iterable[TensorFact]) -> list[str]:
    """Say in words which rules the tensors break, given their config."""
    tensors = list(tensors)
    problems = []
    pairs: dict[str, dict[str, TensorFact]] = {}
    for tensor in tensors:
        problems += _element_problems(tensor)
        match = _NAME.fullmatch(tensor.name)
        if match is None:
            problems.append(f"{tensor.name!r} is no LoRA factor")
        else:
            pairs.setdefault(match["module"], {})[match["side"]] = tensor
    for module, sides in sorted(pairs.items()):
        problems += _pair_problems(module, sides, config)
    ups = [sides["B"] for sides in pairs.values() if "B" in sides]
    if all(tensor.zero for tensor in ups):
        problems.append("every lora_B is zero: the adapter changes nothing")
    return problems


def _scale_problems(config: Mapping[str, object], *, max_rank: int) -> list[str]:
    """Check rank and alpha."""
    problems = []
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank not in RANKS:
        problems.append(f"rank {rank!r} is none of vLLM's: {', '.join(map(str, RANKS))}")
    elif rank > max_rank:
        problems.append(f"rank {rank} is above the server's {max_rank}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < 1e6:  # noqa: PLR2004  # a sane scale
        problems.append(f"lora_alpha must be a number above 0, not {alpha!r}")
    return problems


def _target_problems(config: Mapping[str, object]) -> list[str]:
    """Check that the targets are a list of names, without the head or the embeddings."""
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not targets:
        return ["target_modules must list module names"]
    if not all(isinstance(name, str) for name in targets):
        return ["target_modules must list module names"]
    named = {str(name).rpartition(".")[2] for name in targets}
    return [f"{name} must not be adapted" for name in sorted(named & {"lm_head", "embed_tokens"})]


def _element_problems(tensor: TensorFact) -> list[str]:
    """Check one tensor by itself."""
    problems = []
    if tensor.dtype not in DTYPES:
        problems.append(f"{tensor.name!r} is {tensor.dtype}, not one of {sorted(DTYPES)}")
    if not tensor.finite:
        problems.append(f"{tensor.name!r} holds infinities or NaN")
    return problems


def _pair_problems(
    module: str, sides: Mapping[str, TensorFact], config: Mapping[str, object]
) -> list[str]:
    """Check the two factors of one module: A is rank by inputs, B is outputs by rank."""
    if set(sides) != {"A", "B"}:
        return [f"{module} has lora_{next(iter(sides))} alone"]
    problems = []
    down, up, rank = sides["A"].shape, sides["B"].shape, config.get("r")
    if len(down) != 2 or down[0] != rank or down[1] < 1:  # noqa: PLR2004  # a matrix
        problems.append(f"{module}: lora_A is {down}, not ({rank}, inputs)")
    if len(up) != 2 or up[1] != rank or up[0] < 1:  # noqa: PLR2004  # a matrix
        problems.append(f"{module}: lora_B is {up}, not (outputs, {rank})")
    targets = config.get("target_modules")
    names = targets if isinstance(targets, list) else []
    if not any(module == name or module.endswith(f".{name}") for name in names):
        problems.append(f"{module} is not among target_modules")
    return problems


def _sorted_names(value: object) -> object:
    """Sort a list of names; PEFT writes sets, in whatever order the process hashed them."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return sorted(value)
    return value


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build a JSON object, refusing what two readers could read differently."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found
