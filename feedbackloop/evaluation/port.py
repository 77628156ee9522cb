"""What the gate asks of an evaluator: generations and log-probabilities, item by item."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from feedbackloop.events import JsonObject


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt, and a completion to be scored on it."""

    prompt: tuple[JsonObject, ...]
    completion: str


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy said to one prompt.

    Attributes:
        text: Its words, special tokens left out.
        tokens: How many tokens, the end token included.
        finished: Whether it ended by itself rather than at the limit.
    """

    text: str
    tokens: int
    finished: bool


class Likelihood(msgspec.Struct, frozen=True, kw_only=True):
    """How likely a policy finds a completion.

    Attributes:
        logp: Sum of the log-probabilities of the completion's tokens, in nats, the end token
            left out: what vLLM's raw ``logprobs`` add up to for the same tokens.
        tokens: How many tokens that were.
        end_logp: Log-probability that the policy ends its turn there, in nats.
    """

    logp: float
    tokens: int
    end_logp: float = 0.0


class Evaluator(Protocol):
    """Lets one policy at a time speak. Blocking: it runs in a process of its own.

    ``adapter`` is an adapter folder, or None for the base. Results come in the order of the
    input, and the same call gives the same result.
    """

    def generate(
        self,
        prompts: Sequence[Sequence[JsonObject]],
        *,
        adapter: Path | None,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Sequence[Generation]:
        """Answer each prompt once; greedily at temperature 0."""
        ...

    def score(
        self, conversations: Sequence[Conversation], *, adapter: Path | None
    ) -> Sequence[Likelihood]:
        """Measure how likely the policy finds each completion given its prompt."""
        ...
