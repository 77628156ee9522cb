"""Only ``model`` changes, however the bytes are cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sidecar.splice import StreamSplicer, replace_model, restore_names
from tests.services.sidecar.stub import DONE, a_chunk

names = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=6) | st.just("model2"), values), names, names)
def test_nothing_but_the_top_level_model_changes(
    other: dict[str, object], old: str, new: str
) -> None:
    """A nested key of that name belongs to the client, and so does every space."""
    body = {**other, "inner": {"model": old}, "model": old}
    raw = json.dumps(body).encode()

    changed = replace_model(raw, old, new)

    assert json.loads(changed) == {**body, "model": new}
    assert replace_model(changed, new, old) == raw


@pytest.mark.parametrize(
    ("raw", "changed"),
    [
        (b'{"model":"a","x":1}', b'{"model":"b","x":1}'),
        (b'{ "model" : "a" }', b'{ "model" : "b" }'),
        (b'{"mod\\u0065l":"a","y":{"model":"a"}}', b'{"mod\\u0065l":"b","y":{"model":"a"}}'),
        (b'{"model":"a","model":"a"}', b'{"model":"b","model":"b"}'),
        (b'{"x":"\\"model\\":\\"a\\"","model":"a"}', b'{"x":"\\"model\\":\\"a\\"","model":"b"}'),
        (b'{"x":"model","model":"a"}', b'{"x":"model","model":"b"}'),
        (b'{"x":["model","a"],"model":"a"}', b'{"x":["model","a"],"model":"b"}'),
    ],
)
def test_a_model_is_found_however_it_is_written(raw: bytes, changed: bytes) -> None:
    """JSON may escape a key, repeat it, and hide its like in a string."""
    result = replace_model(raw, "a", "b")

    assert result == changed


@given(st.lists(st.sampled_from(["hi", "model", "[DONE]", "é"]), min_size=1), st.data())
def test_a_stream_cut_anywhere_comes_out_the_same(texts: list[str], data: st.DataObject) -> None:
    """The network cuts where it likes."""
    stream = b"".join(a_chunk(text) for text in texts) + DONE
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    splicer = StreamSplicer("base", "assistant")

    out = b"".join(splicer.feed(piece) for piece in pieces)
    held = splicer.finish()

    assert out == b"".join(a_chunk(text, "assistant") for text in texts)
    assert held == DONE


def test_a_whole_event_is_not_held_back() -> None:
    """A token that waits for the next one is a slower model."""
    splicer = StreamSplicer("base", "assistant")

    out = splicer.feed(a_chunk("one") + a_chunk("two")[:20])

    assert out == a_chunk("one", "assistant")


def test_a_model_in_a_nested_field_of_an_event_stays() -> None:
    """Only the name that the reply goes by is ours."""
    event = b'data: {"model":"base","x":{"model":"base"}}\n\n'

    out = StreamSplicer("base", "a").feed(event)

    assert out == b'data: {"model":"a","x":{"model":"base"}}\n\n'


def test_events_with_carriage_returns_pass_too() -> None:
    """The standard allows them, and some servers write them."""
    splicer = StreamSplicer("base", "a")

    out = splicer.feed(b'data: {"model": "base"}\r\n\r\ndata: [DONE]\r\n\r\n')

    assert (out, splicer.done) == (b'data: {"model": "a"}\r\n\r\n', True)


def test_an_error_names_the_alias_and_not_the_release() -> None:
    """Release names are ours; a client that reads one would ask for it."""
    said = b"The model `a.00001.ab` does not exist, nor a.00001.abc."

    restored = restore_names(said, "a.00001.ab", "a")

    assert restored == b"The model `a` does not exist, nor a.00001.abc."
