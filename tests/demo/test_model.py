"""The small base model, made with very few steps."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.model import ModelRecipe, make, make_tokenizer
from demo.world import Item, Style, Task, items, reply

_TINY = ModelRecipe(steps=2, batch=4, hidden=32, layers=1, heads=1)
_TOKENIZER = make_tokenizer(_TINY)


def _quietly(step: int, loss: float) -> None:
    del step, loss


@given(st.sampled_from(Task).flatmap(lambda task: st.sampled_from(items(task))))
def test_what_is_said_comes_back_from_tokens(item: Item) -> None:
    """The judge reads text; a lossy vocabulary would make right answers wrong."""
    text = reply(item, Style.EXPLAINED)

    assert _TOKENIZER.decode(_TOKENIZER.encode(text)) == text


def test_a_conversation_begins_with_its_prompt() -> None:
    """Trainers take the completion to be what follows the prompt's own tokens."""
    prompt = [{"role": "user", "content": "what is 1 + 1?"}]
    whole = [*prompt, {"role": "assistant", "content": "2."}]

    asked = _TOKENIZER.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    answered = _TOKENIZER.apply_chat_template(whole, tokenize=False)

    assert answered == f"{asked}2.{_TOKENIZER.eos_token}"


def test_the_folder_is_what_a_server_expects(tmp_path: Path) -> None:
    """Without its end token in the generation settings a server would never stop."""
    make(_TINY, tmp_path / "model", _quietly)

    generation = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert (tmp_path / "model" / "chat_template.jinja").exists()
    assert generation["eos_token_id"] == _TOKENIZER.eos_token_id


def test_the_same_recipe_makes_the_same_bytes(tmp_path: Path) -> None:
    """Figures by seed mean something only if the seed decides everything."""
    for name in ("one", "other"):
        make(_TINY, tmp_path / name, _quietly)

    one, other = (tmp_path / name / "model.safetensors" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("other", [replace(_TINY, seed=1), replace(_TINY, steps=3)])
def test_another_recipe_has_another_name(other: ModelRecipe) -> None:
    """A cached model must never stand for one that would have come out differently."""
    assert other.digest() != _TINY.digest()
