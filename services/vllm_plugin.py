"""What vLLM's CPU build gets wrong, put right inside vLLM.

vLLM calls ``register`` in each of its processes, by the entry point ``vllm.general_plugins``. Its
GPU kernels skip a token whose adapter has the index -1, "none"; the CPU's read weights at that
index, which in torch is the last slot. So the base, answered in one batch with an adapter's
requests, spoke with the weights of whatever adapter lay in the last slot: a reply's release was
not the one whose weights made it. Here such tokens get nothing from any adapter.

References:
    vllm-project/vllm, pull requests 48421 and 49656; open at vLLM 0.32.
"""

import logging
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

log = logging.getLogger(__name__)

_CALLERS = ("vllm.lora.ops.torch_ops.lora_ops", "vllm.lora.punica_wrapper.punica_cpu")
_NAME = "bgmv_shrink"
_MARK = "skips_tokens_without_adapter"


def register() -> None:
    """Let the CPU's kernels skip tokens without an adapter; no effect on other platforms."""
    if not import_module("vllm.platforms").current_platform.is_cpu():
        return
    modules = [import_module(name) for name in _CALLERS]
    shrink = getattr(modules[0], _NAME, None)
    if shrink is None:
        log.warning("vLLM has no %s.%s: its base is not kept apart", _CALLERS[0], _NAME)
        return
    if not hasattr(shrink, _MARK):
        for module in modules:
            setattr(module, _NAME, skipping(shrink))


def skipping(shrink: Callable[..., None]) -> Callable[..., None]:
    """Wrap the kernel that every part of an adapter begins with: what it leaves at 0 stays 0."""

    @wraps(shrink)
    def shrink_with_adapter(
        inputs: Any,  # noqa: ANN401  # tensors: torch is vLLM's here
        weights: Any,  # noqa: ANN401
        output: Any,  # noqa: ANN401
        indices: Any,  # noqa: ANN401
        scaling: float = 1.0,
    ) -> None:
        shrink(inputs, weights, output, indices, scaling)
        output.masked_fill_((indices < 0).unsqueeze(1), 0)

    setattr(shrink_with_adapter, _MARK, True)
    return shrink_with_adapter
