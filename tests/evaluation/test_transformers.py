"""The evaluator on transformers says the same however it is asked."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from feedbackloop.errors import AdapterRejected
from feedbackloop.evaluation.port import Conversation
from feedbackloop.evaluation.transformers import TransformersEvaluator
from tests.tiny import WORDS, make_base

PROMPTS = [({"role": "user", "content": " ".join(WORDS[: n + 1])},) for n in range(7)]
CONVERSATIONS = [
    Conversation(prompt=prompt, completion=" ".join(WORDS[n : n + 3 + n]))
    for n, prompt in enumerate(PROMPTS)
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an adapter that changes what the base says."""
    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(1)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=8, lora_alpha=64, target_modules="all-linear", init_lora_weights=False),
    )
    model.save_pretrained(folder)
    return folder


def by_hand(base: Path, one: Conversation) -> float:
    """Score one completion alone, token by token."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    text = tokenizer.apply_chat_template(
        list(one.prompt), tokenize=False, add_generation_prompt=True
    )
    prompt = tokenizer(text, add_special_tokens=False).input_ids
    completion = tokenizer(one.completion, add_special_tokens=False).input_ids
    total = 0.0
    for n, token in enumerate(completion):
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *completion[:n]]])).logits[0, -1]
        total += float(logits.log_softmax(-1)[token])
    return total


def logps(evaluator: TransformersEvaluator, adapter: Path | None) -> Sequence[float]:
    return [one.logp for one in evaluator.score(CONVERSATIONS, adapter=adapter)]


def test_a_score_is_the_sum_over_the_completions_tokens(base: Path) -> None:
    """Whatever is padded beside it: a gate that scores padding judges nonsense."""
    evaluator = TransformersEvaluator(str(base), batch_size=3)

    found = evaluator.score(CONVERSATIONS, adapter=None)

    assert [one.logp for one in found] == pytest.approx(
        [by_hand(base, one) for one in CONVERSATIONS], abs=1e-4
    )
    assert [one.tokens for one in found] == [3 + n for n in range(7)]


def test_the_size_of_batches_does_not_matter(base: Path) -> None:
    """It is chosen for the machine, and the verdict must not depend on the machine."""
    small = TransformersEvaluator(str(base), batch_size=2)
    large = TransformersEvaluator(str(base), batch_size=64)

    said = [
        [one.text for one in evaluator.generate(PROMPTS, adapter=None, max_tokens=8)]
        for evaluator in (small, large)
    ]

    assert said[0] == said[1]


def test_scores_do_not_depend_on_their_neighbours(base: Path) -> None:
    """A long prompt pads the others in its batch; what is asked together is an accident."""
    evaluator = TransformersEvaluator(str(base))
    together = evaluator.score(CONVERSATIONS, adapter=None)

    alone = [evaluator.score([one], adapter=None)[0] for one in CONVERSATIONS]

    assert [one.logp for one in together] == pytest.approx([one.logp for one in alone], abs=1e-4)
    assert [one.end_logp for one in together] == pytest.approx(
        [one.end_logp for one in alone], abs=1e-4
    )


def test_what_peft_cannot_put_on_ends_the_run(base: Path, tmp_path: Path) -> None:
    """The run says which adapter and why, and serving goes on."""
    evaluator = TransformersEvaluator(str(base))

    with pytest.raises(AdapterRejected, match="PEFT"):
        evaluator.score(CONVERSATIONS, adapter=tmp_path)


def test_an_adapter_changes_the_scores_and_taking_it_off_brings_the_base_back(
    base: Path, adapter: Path
) -> None:
    """Candidate and base are compared in one session, on one load of the weights."""
    evaluator = TransformersEvaluator(str(base))
    before = logps(evaluator, None)

    candidate = logps(evaluator, adapter)

    assert candidate != pytest.approx(before, abs=0.1)
    assert logps(evaluator, None) == pytest.approx(before, abs=1e-5)
    assert logps(evaluator, adapter) == pytest.approx(candidate, abs=1e-5)


def test_a_completion_ends_at_its_end_token_or_at_the_limit(base: Path) -> None:
    """A completion that was cut counts against a policy."""
    evaluator = TransformersEvaluator(str(base))

    found = evaluator.generate(PROMPTS, adapter=None, max_tokens=5)

    assert all(one.tokens == 5 for one in found if not one.finished)
    assert all("<end>" not in one.text for one in found)


def test_sampling_is_repeated_by_its_seed(base: Path) -> None:
    """A verdict that cannot be computed again cannot be argued with."""
    evaluator = TransformersEvaluator(str(base))

    def said(seed: int) -> list[str]:
        found = evaluator.generate(PROMPTS, adapter=None, max_tokens=8, temperature=1.0, seed=seed)
        return [one.text for one in found]

    assert said(3) == said(3)
    assert said(3) != said(4)
