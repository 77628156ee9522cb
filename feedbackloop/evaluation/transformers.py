"""The evaluator on transformers and PEFT: one load of the base, adapters put on and off."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from feedbackloop.errors import AdapterRejected
from feedbackloop.evaluation.port import Conversation, Generation, Likelihood
from feedbackloop.events import JsonObject

_LOGITS = 2**27
"""Most logits held at once while scoring: 512 MiB in float32."""


class TransformersEvaluator:
    """A base and its adapters in this process.

    Args:
        base: Folder or hub id.
        device: As torch names it.
        dtype: Of weights and activations, as torch names it.
        batch_size: Prompts answered, or completions scored, at once.
    """

    def __init__(
        self, base: str, *, device: str = "cpu", dtype: str = "float32", batch_size: int = 64
    ) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(base)
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype))
        self._model: Any = model.to(device).eval()
        self._device = device
        self._batch_size = batch_size
        self._words: int = model.get_output_embeddings().weight.shape[0]
        self._adapters: dict[Path, str] = {}

    def generate(
        self,
        prompts: Sequence[Sequence[JsonObject]],
        *,
        adapter: Path | None,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Sequence[Generation]:
        encoded = [self._prompt(prompt) for prompt in prompts]
        results: dict[int, Generation] = {}
        torch.manual_seed(seed)
        with self._wearing(adapter), torch.inference_mode():
            for batch in self._batches([(len(tokens), 1) for tokens in encoded]):
                tokens = [encoded[n] for n in batch]
                answers = self._answer(tokens, max_tokens=max_tokens, temperature=temperature)
                results.update(zip(batch, answers, strict=True))
        return [results[n] for n in range(len(prompts))]

    def score(
        self, conversations: Sequence[Conversation], *, adapter: Path | None
    ) -> Sequence[Likelihood]:
        encoded = [self._conversation(one) for one in conversations]
        results: dict[int, Likelihood] = {}
        with self._wearing(adapter), torch.inference_mode():
            sizes = [(len(tokens), len(tokens) - prompt + 1) for tokens, prompt in encoded]
            for batch in self._batches(sizes):
                scored = self._measure([encoded[n] for n in batch])
                results.update(zip(batch, scored, strict=True))
        return [results[n] for n in range(len(conversations))]

    @contextmanager
    def _wearing(self, adapter: Path | None) -> Iterator[None]:
        """Put an adapter on for a while; None takes all of them off."""
        if adapter is None:
            if not self._adapters:
                yield
                return
            with self._model.disable_adapter():
                yield
            return
        self._model = self._put_on(adapter)
        self._model.set_adapter(self._adapters[adapter])
        self._model.eval()
        yield

    def _put_on(self, adapter: Path) -> Any:  # noqa: ANN401  # a PEFT model, untyped
        if adapter in self._adapters:
            return self._model
        name = f"adapter{len(self._adapters)}"
        try:
            if not self._adapters:
                wrapped = PeftModel.from_pretrained(self._model, adapter, adapter_name=name)
            else:
                self._model.load_adapter(adapter, adapter_name=name)
                wrapped = self._model
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise AdapterRejected(adapter.name, f"PEFT cannot put it on: {error}") from error
        self._adapters[adapter] = name
        return wrapped

    def _batches(self, sizes: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
        """Group indices by length, so that little is padded; the same groups every time.

        Args:
            sizes: Of each row, its tokens, and for how many of them logits are kept.
        """
        batch: list[int] = []
        widest = 0
        for n in sorted(range(len(sizes)), key=lambda n: (sizes[n], n)):
            widest = max(widest, sizes[n][1])
            full = len(batch) == self._batch_size
            if batch and (full or (len(batch) + 1) * widest * self._words > _LOGITS):
                yield batch
                batch, widest = [], sizes[n][1]
            batch.append(n)
        if batch:
            yield batch

    def _prompt(self, messages: Sequence[JsonObject]) -> list[int]:
        return self._template(messages, add_generation_prompt=True)

    def _conversation(self, one: Conversation) -> tuple[list[int], int]:
        """Return prompt, completion and end token, and how many tokens the prompt has."""
        prompt = self._prompt(one.prompt)
        completion: list[int] = self._tokenizer(one.completion, add_special_tokens=False).input_ids
        return [*prompt, *completion, self._end()], len(prompt)

    def _template(self, messages: Sequence[JsonObject], **options: bool) -> list[int]:
        text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, **options)
        # The template writes what special tokens there are: none may be added to it.
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return tokens

    def _end(self) -> int:
        end: int = self._tokenizer.eos_token_id
        return end

    def _padded(self, rows: Sequence[list[int]]) -> dict[str, Tensor]:
        """Pad rows on the left, so that all end together: ids and mask, both ``(rows, width)``."""
        width = max(len(tokens) for tokens in rows)
        pad = self._tokenizer.pad_token_id
        ids = [[pad] * (width - len(tokens)) + tokens for tokens in rows]
        mask = [[0] * (width - len(tokens)) + [1] * len(tokens) for tokens in rows]
        return {
            "input_ids": torch.tensor(ids, device=self._device),
            "attention_mask": torch.tensor(mask, device=self._device),
        }

    def _answer(
        self, prompts: Sequence[list[int]], *, max_tokens: int, temperature: float
    ) -> list[Generation]:
        padded = self._padded(prompts)
        width = padded["input_ids"].shape[1]
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        said: Tensor = self._model.generate(
            **padded,
            max_new_tokens=max_tokens,
            pad_token_id=self._tokenizer.pad_token_id,
            eos_token_id=self._end(),
            **(sampling if temperature > 0 else {"do_sample": False}),
        )
        return [self._generation(row[width:].tolist(), max_tokens) for row in said]

    def _generation(self, tokens: list[int], max_tokens: int) -> Generation:
        finished = self._end() in tokens
        if finished:
            tokens = tokens[: tokens.index(self._end()) + 1]
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return Generation(text=text, tokens=min(len(tokens), max_tokens), finished=finished)

    def _measure(self, rows: Sequence[tuple[list[int], int]]) -> list[Likelihood]:
        """Sum the log-probabilities of each row's completion."""
        padded = self._padded([tokens for tokens, _ in rows])
        positions = (padded["attention_mask"].cumsum(1) - 1).clamp(min=0)
        # Only the ends of rows are asked about: logits of long prompts would be the largest
        # thing in memory by far. The last position predicts what comes after the end token.
        kept = max(len(tokens) - prompt for tokens, prompt in rows) + 1
        logits: Tensor = self._model(**padded, position_ids=positions, logits_to_keep=kept).logits
        return [
            self._likelihood(logits[n, -(len(tokens) - prompt) - 1 : -1], tokens[prompt:])
            for n, (tokens, prompt) in enumerate(rows)
        ]

    @staticmethod
    def _likelihood(logits: Tensor, completion: list[int]) -> Likelihood:
        """Read one row: ``logits[i]``, shape ``(tokens, words)``, tells ``completion[i]``."""
        wanted = torch.tensor(completion, device=logits.device).unsqueeze(1)
        found = logits.float().log_softmax(-1).gather(1, wanted).squeeze(1).double()
        return Likelihood(
            logp=float(found[:-1].sum()), tokens=len(completion) - 1, end_logp=float(found[-1])
        )
