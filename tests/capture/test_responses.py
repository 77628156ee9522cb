"""``/v1/responses`` says what a chat says, in other words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture import responses
from feedbackloop.capture.chain import chain

KEY = b"k" * 32
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x":1}'}
WHOLE: dict[str, Any] = {
    "id": "resp_x",
    "object": "response",
    "status": "completed",
    "model": "base",
    "error": None,
    "incomplete_details": None,
    "output": [
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hmm."}]},
        {"type": "message", "role": "assistant",
         "content": [{"type": "output_text", "text": "Paris.", "annotations": []}]},
    ],
    "usage": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
}  # fmt: skip


def a_stream(*events: dict[str, Any]) -> bytes:
    """A stream as vLLM writes it: every event has its name before it."""
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode())
        for event in events
    )


def a_delta(text: str, kind: str = "response.output_text.delta", index: int = 0) -> dict[str, Any]:
    return {"type": kind, "delta": text, "output_index": index}


def test_a_talk_has_the_same_chain_on_either_route() -> None:
    """An app that moves over must not lose sight of which completion its users react to."""
    chat: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "Paris.", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
    ]  # fmt: skip
    body = {
        "instructions": "Be kind.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Where?"}]},
            *WHOLE["output"],
            CALL,
            {"type": "function_call_output", "call_id": "c1", "output": "ok"},
        ],
    }

    found = responses.messages(body)

    assert chain(found, key=KEY) == chain(chat, key=KEY)


@pytest.mark.parametrize(
    ("given", "content"),
    [
        ("hello", "hello"),
        ([{"role": "user", "content": "hello"}], "hello"),
        ([{"type": "message", "role": "user",
           "content": [{"type": "input_image", "image_url": "data:x"}]}],
         [{"type": "image_url", "image_url": {"url": "data:x"}}]),
        ([{"role": "user", "content": [{"type": "input_file", "file_id": "1"}]}],
         [{"type": "input_file", "file_id": "1"}]),
    ],
)  # fmt: skip
def test_every_form_of_input_is_a_turn(given: object, content: object) -> None:
    """What we do not know is kept as it came."""
    assert responses.messages({"input": given}) == ({"role": "user", "content": content},)


def test_a_whole_reply_is_read() -> None:
    """Reasoning is kept apart, as in a chat."""
    said = responses.read(json.dumps(WHOLE).encode(), streamed=False)

    (reply,) = said.replies
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("Paris.", "Hmm.", "stop")
    assert (said.usage.prompt_tokens, said.usage.completion_tokens, said.sound) == (7, 3, True)


@pytest.mark.parametrize(
    ("changed", "finish", "sound"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
         "length", True),
        ({"output": [CALL]}, "tool_calls", True),
        ({"status": "failed", "error": {"message": "x"}}, None, False),
    ],
)  # fmt: skip
def test_an_end_has_a_chats_word_for_it(
    changed: dict[str, Any], finish: str | None, *, sound: bool
) -> None:
    """What was cut at its length is no evidence of anything, on either route."""
    said = responses.read(json.dumps({**WHOLE, **changed}).encode(), streamed=False)

    assert (said.replies[0].finish_reason, said.sound) == (finish, sound)


@given(st.lists(st.text(max_size=5), max_size=5), st.integers(0, 5_000))
def test_a_stream_cut_anywhere_gives_a_true_beginning(pieces: list[str], cut: int) -> None:
    """People leave in the middle; what they saw up to there is evidence."""
    body = a_stream(*(a_delta(piece) for piece in pieces))

    said = responses.read(body[: cut % (len(body) + 1)], streamed=True)

    assert "".join(pieces).startswith(said.replies[0].text)


def test_a_stream_says_what_its_last_event_says() -> None:
    """It holds the whole response."""
    final = {"type": "response.completed", "response": WHOLE}
    body = a_stream({"type": "response.created", "response": {}}, a_delta("Par"), final)

    whole = responses.read(json.dumps(WHOLE).encode(), streamed=False)

    assert responses.read(body, streamed=True) == whole


def test_calls_and_reasoning_of_a_stream_that_was_cut_are_kept() -> None:
    """Until the last event comes, the deltas are all there is."""
    added = {"type": "response.output_item.added", "output_index": 1,
             "item": {**CALL, "arguments": ""}}  # fmt: skip
    body = a_stream(
        a_delta("Hm", "response.reasoning_text.delta"),
        added,
        a_delta('{"x"', "response.function_call_arguments.delta", index=1),
    )

    (reply,) = responses.read(body, streamed=True).replies

    assert reply.reasoning == "Hm"
    assert reply.tool_calls[0]["function"] == {"name": "f", "arguments": '{"x"'}


def test_an_error_in_a_stream_is_no_sound_end() -> None:
    """vLLM says so with an event of its own."""
    said = responses.read(a_stream(a_delta("a"), {"type": "error", "message": "x"}), streamed=True)

    assert (said.replies[0].text, said.sound) == ("a", False)


def test_tools_have_a_chats_form() -> None:
    """Rows for training know one form."""
    flat = {"type": "function", "name": "f", "parameters": {}}

    found = responses.tools({"tools": [flat, {"type": "web_search"}]})

    assert found == (
        {"type": "function", "function": {"name": "f", "parameters": {}}},
        {"type": "web_search"},
    )
