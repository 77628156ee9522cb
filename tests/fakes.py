"""Parts that need no GPU and no process: real classes, for whole turns of the loop."""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feedbackloop.evaluation.port import Conversation, Generation, Likelihood
from feedbackloop.events import JsonObject, RunId
from feedbackloop.training.port import StepStatus, TrainingReport
from feedbackloop.training.recipe import Recipe
from feedbackloop.training.run import RunState


class MemoryLauncher:
    """Steps that run until a test says how they end. Held by ``contracts/test_launcher.py``."""

    def __init__(self) -> None:
        self.started = 0
        self._attempts: dict[tuple[RunId, RunState, int], StepStatus] = {}

    async def start(self, run: RunId, step: RunState, *, attempt: int) -> None:
        if (run, step, attempt) not in self._attempts:
            self.started += 1
            self._attempts[run, step, attempt] = StepStatus(state="running")

    async def status(self, run: RunId, step: RunState, *, attempt: int) -> StepStatus:
        return self._attempts.get((run, step, attempt), StepStatus(state="missing"))

    async def stop(self, run: RunId, step: RunState, *, attempt: int) -> None:
        if (await self.status(run, step, attempt=attempt)).state == "running":
            self.fail(run, step, attempt=attempt, reason="stopped", retryable=True)

    def finish(
        self, run: RunId, step: RunState, *, attempt: int, result: dict[str, object]
    ) -> None:
        """Let an attempt end with a result."""
        done = StepStatus(state="done", result=result, progress=1.0)
        self._attempts[run, step, attempt] = done

    def fail(
        self, run: RunId, step: RunState, *, attempt: int, reason: str, retryable: bool
    ) -> None:
        """Let an attempt end without one."""
        failed = StepStatus(state="failed", reason=reason, retryable=retryable)
        self._attempts[run, step, attempt] = failed

    def advance(self, run: RunId, step: RunState, *, attempt: int, progress: float) -> None:
        """Let an attempt say how far it is."""
        self._attempts[run, step, attempt] = StepStatus(state="running", progress=progress)


def an_adapter(folder: Path, *, up: tuple[float, float] = (0.5, 0.0)) -> Path:
    """Write the smallest adapter that breaks no rule: one module, rank 1; ``up`` is its B."""
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    header = {
        f"{module}.lora_A.weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        f"{module}.lora_B.weight": {"dtype": "F32", "shape": [2, 1], "data_offsets": [8, 16]},
        "__metadata__": {"format": "pt"},
    }
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj"]}
    text = json.dumps(header).encode()
    data = struct.pack("<4f", 1.0, -1.0, *up)
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


class FakeTrainer:
    """Makes the smallest adapter, and remembers the rows that it was given."""

    def __init__(self) -> None:
        self.rows: Sequence[Mapping[str, object]] = ()

    def train(
        self,
        recipe: Recipe,
        *,
        base: str,
        rows: Sequence[Mapping[str, object]],
        out: Path,
        progress: Callable[[int, int], None],
    ) -> TrainingReport:
        del base
        self.rows = rows
        an_adapter(out)
        progress(1, 1)
        return TrainingReport(
            method=recipe.method.value,
            rows=len(rows),
            steps=1,
            seconds=1.0,
            setup_seconds=0.0,
            first_loss=0.5,
            last_loss=0.4,
            reward_margin=0.1,
            kl_share=0.0,
            tokens=len(rows),
        )


class WishfulEvaluator:
    """Every adapter finds completions that hold one word likelier than the base does."""

    def __init__(self, *, liked: str, says: str = "a word or two") -> None:
        self._liked = liked
        self._says = says

    def generate(
        self,
        prompts: Sequence[Sequence[JsonObject]],
        *,
        adapter: Path | None,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Sequence[Generation]:
        del adapter, max_tokens, temperature, seed
        return [Generation(text=self._says, tokens=4, finished=True) for _ in prompts]

    def score(
        self, conversations: Sequence[Conversation], *, adapter: Path | None
    ) -> Sequence[Likelihood]:
        return [
            Likelihood(
                logp=-1.0 if adapter is not None and self._liked in one.completion else -2.0,
                tokens=2,
            )
            for one in conversations
        ]


@dataclass(frozen=True, kw_only=True)
class FakePolicy:
    """What a policy says and likes, as functions of texts.

    Attributes:
        says: From a prompt's last message to the completion.
        likes: From that message and a completion to its log-probability per word, in nats.
        finishes: Whether its completions end by themselves.
    """

    says: Callable[[str], str] = lambda prompt: f"you said {prompt}"
    likes: Callable[[str, str], float] = lambda _prompt, _completion: -1.0
    finishes: bool = True


class FakeEvaluator:
    """Policies by adapter folder; None is the base, and so is a folder without a policy."""

    def __init__(self, policies: Mapping[Path | None, FakePolicy] | None = None) -> None:
        self._policies = dict(policies or {})

    def generate(
        self,
        prompts: Sequence[Sequence[JsonObject]],
        *,
        adapter: Path | None,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Sequence[Generation]:
        del temperature, seed
        policy = self._policy(adapter)
        said = [policy.says(_last(prompt)).split() for prompt in prompts]
        return [
            Generation(
                text=" ".join(words[:max_tokens]),
                tokens=min(len(words) + 1, max_tokens),
                finished=policy.finishes and len(words) < max_tokens,
            )
            for words in said
        ]

    def score(
        self, conversations: Sequence[Conversation], *, adapter: Path | None
    ) -> Sequence[Likelihood]:
        policy = self._policy(adapter)
        return [
            Likelihood(
                logp=policy.likes(_last(one.prompt), one.completion) * len(one.completion.split()),
                tokens=len(one.completion.split()),
            )
            for one in conversations
        ]

    def _policy(self, adapter: Path | None) -> FakePolicy:
        base = self._policies.get(None, FakePolicy())
        return self._policies.get(adapter, base)


def _last(prompt: Sequence[JsonObject]) -> str:
    return str(prompt[-1]["content"])
