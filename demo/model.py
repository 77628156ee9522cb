"""A small base model, made on the spot: tokenizer, weights and chat template in one folder.

It is a Llama of 0.7 million parameters that answers the questions of ``demo.world`` rightly and
in the habitual mix of styles. The folder is named by a hash of everything it depends on, so a
second call finds the first one's work.

    python -m demo.model --out .demo/model --seed 0
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from inspect import getsource
from pathlib import Path
from random import Random

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo import world
from demo.world import Question, Task, lesson, questions

END = "<|end|>"
PAD = "<|pad|>"
SPECIAL = (PAD, END, "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_IGNORED = -100  # torch's cross entropy leaves these out


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecipe:
    """Everything that the model's bytes depend on, beside the world and this file.

    Attributes:
        seed: Of the initial weights and the order of lessons.
        shares: Of lessons, by task.
    """

    seed: int = 0
    vocabulary: int = 512
    hidden: int = 128
    layers: int = 3
    heads: int = 4
    steps: int = 900
    batch: int = 96
    learning_rate: float = 3e-3
    shares: tuple[tuple[str, float], ...] = (
        ("add", 0.45),
        ("capital", 0.25),
        ("sort", 0.2),
        ("last", 0.1),
    )

    def digest(self) -> str:
        """Name the recipe, the world and the code that reads them, in 12 hex digits."""
        code = getsource(world) + getsource(sys.modules[__name__])
        return sha256(f"{json.dumps(asdict(self))}{code}".encode()).hexdigest()[:12]


def make(recipe: ModelRecipe, out: Path, progress: Callable[[int, float], None]) -> None:
    """Make the model in the folder ``out``, which appears when it is whole.

    Args:
        recipe: What to make.
        out: Folder that must not exist yet.
        progress: Called with the steps done and the mean loss since the last call.
    """
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tokenizer = make_tokenizer(recipe)
    model = train(recipe, tokenizer, progress)
    tokenizer.save_pretrained(partial)
    model.save_pretrained(partial, safe_serialization=True)
    (partial / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2))
    partial.rename(out)


def make_tokenizer(recipe: ModelRecipe) -> PreTrainedTokenizerFast:
    """Learn a byte-level vocabulary from the world's own words; digits stay single."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    lessons = _lessons(recipe)
    texts = (text for _ in range(4_000) for text in next(lessons))
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def train(
    recipe: ModelRecipe,
    tokenizer: PreTrainedTokenizerFast,
    progress: Callable[[int, float], None],
) -> LlamaForCausalLM:
    """Teach a fresh model to answer; the loss looks at replies only."""
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(_config(recipe, tokenizer))
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.learning_rate, total_steps=recipe.steps, pct_start=0.1
    )
    lessons, losses = _lessons(recipe), []
    for step in range(1, recipe.steps + 1):
        batch = [next(lessons) for _ in range(recipe.batch)]
        ids, labels = _tensors(tokenizer, batch)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 25 == 0 or step == recipe.steps:
            progress(step, sum(losses) / len(losses))
            losses.clear()
    return model.eval()


def _config(recipe: ModelRecipe, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.hidden * 11 // 4,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _lessons(recipe: ModelRecipe) -> Iterator[tuple[str, str]]:
    """Yield questions and right replies without end, held-out items among them.

    The base is to know everything; held out means out of the traffic that the loop learns from.
    """
    random = Random(recipe.seed)
    tasks = [Task(task) for task, _ in recipe.shares]
    weights = [share for _, share in recipe.shares]
    asked: dict[Task, Sequence[Question]] = {
        task: questions(task, held_out=True) + questions(task, held_out=False) for task in tasks
    }
    while True:
        (task,) = random.choices(tasks, weights=weights)
        question = random.choice(asked[task])
        yield question.prompt, lesson(question, random)


def _tensors(
    tokenizer: PreTrainedTokenizerFast, batch: Sequence[tuple[str, str]]
) -> tuple[Tensor, Tensor]:
    prompts = tokenizer([f"<|user|>{prompt}{END}<|assistant|>" for prompt, _ in batch])["input_ids"]
    replies = tokenizer([f"{reply}{END}" for _, reply in batch])["input_ids"]
    pairs = list(zip(prompts, replies, strict=True))
    longest = max(len(prompt) + len(reply) for prompt, reply in pairs)
    ids = torch.full((len(pairs), longest), tokenizer.pad_token_id)
    labels = torch.full((len(pairs), longest), _IGNORED)
    for row, (prompt, reply) in enumerate(pairs):
        end = len(prompt) + len(reply)
        ids[row, :end] = torch.tensor(prompt + reply)
        labels[row, len(prompt) : end] = torch.tensor(reply)
    return ids, labels


def main() -> int:
    """Make the model unless it is there, and print its folder as the last line."""
    parser = argparse.ArgumentParser(prog="python -m demo.model", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".demo/model"), help="parent folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=ModelRecipe().steps)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    recipe = ModelRecipe(seed=arguments.seed, steps=arguments.steps)
    folder: Path = arguments.out / recipe.digest()
    cached = folder.exists()
    begun = time.monotonic()
    if not cached:
        torch.set_num_threads(arguments.threads)

        def progress(step: int, loss: float) -> None:
            line = {"step": step, "steps": recipe.steps, "loss": round(loss, 3)}
            print(json.dumps(line), flush=True)

        make(recipe, folder, progress)
    seconds = round(time.monotonic() - begun, 1)
    print(json.dumps({"model": str(folder), "cached": cached, "seconds": seconds}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
