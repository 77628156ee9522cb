"""What an adapter folder may hold."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.errors import AdapterRejected
from feedbackloop.training.artefact import (
    TensorFact,
    config_problems,
    digest,
    file_problems,
    tensor_problems,
)

CONFIG: dict[str, object] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
    "use_dora": False,
}


def a_pair(module: str = "model.layers.0.self_attn.q_proj", **changes: object) -> list[TensorFact]:
    values = {"dtype": "F32", "finite": True, "zero": False} | changes
    return [
        TensorFact(name=f"base_model.model.{module}.lora_A.weight", shape=(8, 32), **values),  # type: ignore[arg-type]  # changed by name
        TensorFact(name=f"base_model.model.{module}.lora_B.weight", shape=(64, 8), **values),  # type: ignore[arg-type]  # changed by name
    ]


def test_the_two_files_are_all_that_may_be_there() -> None:
    """A leftover `training_args.bin` is a pickle: whoever loads it runs what it says."""
    names = ["adapter_config.json", "training_args.bin"]

    problems = file_problems(names)

    assert problems == [
        "adapter_model.safetensors is missing",
        "'training_args.bin' does not belong here",
    ]


@given(st.permutations(list(CONFIG)), st.sampled_from([None, 2]))
def test_a_digest_does_not_depend_on_how_the_config_was_written(
    keys: list[str], indent: int | None
) -> None:
    """PEFT writes sets in hash order: the same adapter must keep its name in every process."""
    written = {key: CONFIG[key] for key in keys} | {"target_modules": ["v_proj", "q_proj"]}

    one = digest(json.dumps(written, indent=indent).encode(), b"weights")

    assert one == digest(json.dumps(CONFIG).encode(), b"weights")


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_other_weights_have_another_digest(one: bytes, other: bytes) -> None:
    """Path, name and bytes are one thing only if the digest tells bytes apart."""
    config = json.dumps(CONFIG).encode()

    assert (digest(config, one) == digest(config, other)) == (one == other)


@pytest.mark.parametrize("config", [b"", b"[]", b'{"r": 1, "r": 2}', b"\xff"])
def test_a_config_that_can_be_read_two_ways_has_no_digest(config: bytes) -> None:
    """Of a key given twice, PEFT may read one value and vLLM the other."""
    with pytest.raises(AdapterRejected):
        digest(config, b"")


def test_a_plain_config_breaks_no_rule() -> None:
    """What our own trainer writes has to pass."""
    assert config_problems(CONFIG, max_rank=16) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"peft_type": "IA3"}, "LORA"),
        ({"task_type": "SEQ_CLS"}, "CAUSAL_LM"),
        ({"r": 7}, "vLLM's"),
        ({"r": True}, "vLLM's"),
        ({"r": 32}, "above"),
        ({"lora_alpha": 0}, "lora_alpha"),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"target_modules": ["lm_head"]}, "lm_head"),
        ({"target_modules": "all-linear"}, "list"),
        ({"target_modules": [1]}, "list"),
        ({"use_dora": True}, "use_dora"),
        ({"auto_mapping": {"parent_library": "evil"}}, "import"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"bias": "all"}, "bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"rank_pattern": {"q_proj": 64}}, "rank_pattern"),
    ],
)
def test_a_config_that_asks_for_more_is_refused(change: Mapping[str, object], word: str) -> None:
    """vLLM would refuse these only after they took a slot, or serve them wrongly in silence."""
    problems = config_problems({**CONFIG, **change}, max_rank=16)

    assert len(problems) == 1
    assert word in problems[0]


def test_a_pair_of_factors_of_the_right_shape_breaks_no_rule() -> None:
    """What our own trainer writes has to pass."""
    assert tensor_problems(CONFIG, a_pair()) == []


@pytest.mark.parametrize(
    ("tensors", "word"),
    [
        ([], "changes nothing"),
        (a_pair(zero=True), "changes nothing"),
        (a_pair(finite=False), "NaN"),
        (a_pair(dtype="I8"), "I8"),
        (a_pair("lm_head"), "target_modules"),
        (a_pair()[1:], "alone"),
        ([*a_pair(), TensorFact(name="x", dtype="F32", shape=(), finite=True, zero=False)], "no"),
    ],
)
def test_tensors_that_cannot_be_served_are_refused(tensors: list[TensorFact], word: str) -> None:
    """A wrong adapter that vLLM accepts answers as the base, and nobody notices."""
    problems = tensor_problems(CONFIG, tensors)

    assert any(word in problem for problem in problems)


def test_factors_of_another_rank_are_refused() -> None:
    """The config's rank decides the scale: a mismatch is a wrong adapter, or a failed load."""
    problems = tensor_problems({**CONFIG, "r": 16}, a_pair())

    assert [problem.split(" is ")[0].split(": ")[1] for problem in problems] == ["lora_A", "lora_B"]
