"""A real vLLM on a base small enough for any machine, and adapters for it."""

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from feedbackloop.evaluation.measure import fingerprints
from feedbackloop.evaluation.transformers import TransformersEvaluator
from feedbackloop.events import JsonObject
from feedbackloop.promotion.release import Probe
from services.sections.serving import Vllm
from services.settings import Settings
from services.supervisor import vllm_command

HIDDEN, LAYERS, HEADS, VOCABULARY = 128, 3, 4, 512
_SPECIAL = {"pad_token": "<pad>", "eos_token": "<end>", "unk_token": "<unk>"}
_TEMPLATE = (
    "{% for message in messages %}{{ '<' + message['role'] + '> ' + message['content'] }}"
    "{{ ' <end> ' }}{% endfor %}{% if add_generation_prompt %}{{ '<assistant> ' }}{% endif %}"
)
_START_SECONDS = 300


def make_base(folder: Path) -> Path:
    """Write a random Llama and its tokenizer of words; the same bytes every time."""
    tokens = [*_SPECIAL.values(), "<user>", "<assistant>"]
    tokens += [f"w{number}" for number in range(VOCABULARY - len(tokens))]
    words = Tokenizer(models.WordLevel({t: n for n, t in enumerate(tokens)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, chat_template=_TEMPLATE, **_SPECIAL
    ).save_pretrained(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        head_dim=HIDDEN // HEADS,
        max_position_embeddings=1024,
        # Ten times the usual: a base that has opinions, for adapters to change.
        initializer_range=0.2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    return folder


def make_adapter(folder: Path, *, seed: int, rank: int = 8, width: int = HIDDEN) -> Path:
    """Write a random adapter of the attention's projections; another ``width`` fits no base."""
    folder.mkdir(parents=True)
    chance = torch.Generator().manual_seed(seed)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    tensors = {}
    for layer in range(LAYERS):
        for target in targets:
            name = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, width, generator=chance) * 0.1
            tensors[f"{name}.lora_B.weight"] = torch.randn(width, rank, generator=chance) * 0.1
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def recorded(base: Path, adapter: Path) -> list[Probe]:
    """Record probes as the gate does, on transformers."""
    prompts: list[tuple[JsonObject, ...]] = [
        ({"role": "user", "content": f"w{n} w{n + 1}"},) for n in range(6)
    ]
    evaluator = TransformersEvaluator(str(base))
    said = evaluator.generate(prompts, adapter=adapter, max_tokens=12)
    found = fingerprints(evaluator, prompts, said, candidate=adapter)
    return [
        Probe(
            prompt=one.prompt,
            completion=one.completion,
            logp=one.logp,
            base_logp=one.base_logp,
            tokens=one.tokens,
        )
        for one in found
    ]


@contextmanager
def running_vllm(base: Path) -> Iterator[str]:
    """Start vLLM as ``feedbackloop up`` does, and yield its upstream; it is stopped at the end."""
    settings = Settings(vllm=Vllm(model=str(base), served_name="tiny", max_model_len=1024))
    with tempfile.TemporaryDirectory(prefix="vllm-") as short:
        path = Path(short) / "sock"
        environment = os.environ | {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        log = base.parent / "vllm.log"
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603  # our own command
                vllm_command(settings, str(path)), env=environment, stdout=out, stderr=out
            )
        try:
            _wait(process, path, log)
            yield f"unix:{path}"
        finally:
            _stop(process)


def _wait(process: "subprocess.Popen[bytes]", path: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        # vLLM binds its socket long before it listens: only a connection tells.
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        time.sleep(0.5)
    raise RuntimeError(f"vLLM did not start: {log.read_text(errors='replace')[-2000:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
