from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.reply import Said, read
from tests.capture.records import a_delta, a_stream, encoded


def texts(said: Said) -> list[str]:
    """What each choice says."""
    return [reply.text for reply in said.replies]


@given(st.lists(st.text(max_size=9), max_size=9))
def test_a_stream_says_what_a_whole_reply_says(pieces: list[str]) -> None:
    """Training must not depend on whether the client liked to watch."""
    message = {"role": "assistant", "content": "".join(pieces)}
    chunks = [a_delta(piece) for piece in pieces]

    streamed = read(
        a_stream(a_delta(""), *chunks, a_delta("", finish_reason="stop")), streamed=True
    )
    whole = read(
        encoded({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}),
        streamed=False,
    )

    assert streamed == whole


@given(st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=5), st.integers(0, 10_000))
def test_a_stream_cut_anywhere_gives_a_true_beginning(pieces: list[str], cut: int) -> None:
    """People leave in the middle of a character; what they saw up to there is evidence."""
    body = a_stream(*(a_delta(piece) for piece in pieces))

    said = read(body[: cut % (len(body) + 1)], streamed=True)

    assert "".join(pieces).startswith("".join(texts(said)))


def test_choices_are_told_apart_by_their_index() -> None:
    """Their chunks come interleaved."""
    body = a_stream(a_delta("b", index=1), a_delta("a", index=0), a_delta("B", index=1))

    assert texts(read(body, streamed=True)) == ["a", "bB"]


def test_tool_calls_are_joined_over_chunks() -> None:
    """vLLM sends the name once and the arguments in pieces."""
    start = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
    more = {"index": 0, "id": None, "function": {"name": None, "arguments": '{"x":'}}
    other = {"index": 1, "id": "2", "type": "function", "function": {"name": "g"}}
    end = {"index": 0, "function": {"arguments": "1}"}}
    body = a_stream(
        *({"choices": [{"delta": {"tool_calls": [c]}}]} for c in [start, more, other, end])
    )

    (reply,) = read(body, streamed=True).replies

    assert reply.tool_calls == (
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "2", "type": "function", "function": {"name": "g", "arguments": ""}},
    )


def test_hidden_reasoning_is_kept_apart_from_what_was_shown() -> None:
    """People judge what they read."""
    old = {"choices": [{"delta": {"reasoning_content": "Hmm, "}}]}
    new = {"choices": [{"delta": {"reasoning": "four."}}]}

    (reply,) = read(a_stream(old, new, a_delta("4")), streamed=True).replies

    assert (reply.text, reply.reasoning) == ("4", "Hmm, four.")


def test_a_refusal_is_what_was_shown() -> None:
    """It has a field of its own, and the person read it all the same."""
    message = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}

    said = read(encoded({"choices": [{"message": message}]}), streamed=False)

    assert texts(said) == ["I cannot help with that."]


def test_log_probabilities_are_summed_over_the_sampled_tokens() -> None:
    """Their sum is the behaviour policy's log-probability, needed off policy."""
    half = {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": [{"logprob": -9}]}]}
    body = a_stream(a_delta("a", logprobs=half), a_delta("b", logprobs=half), a_delta("c"))

    (reply,) = read(body, streamed=True).replies

    assert reply.logp == -1.0


def test_nothing_asked_for_is_nothing_known() -> None:
    """A log-probability of 0 would claim certainty."""
    (reply,) = read(a_stream(a_delta("a")), streamed=True).replies

    assert reply.logp is None


def test_tokens_are_those_of_the_last_count() -> None:
    """With continuous usage every chunk carries a running count."""
    running = a_delta("a") | {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    final = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}

    usage = read(a_stream(running, final), streamed=True).usage

    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 2)


def test_other_lines_of_a_stream_say_nothing() -> None:
    """Keep-alive comments and event names are part of the format."""
    body = b": ping\r\n\r\nevent: chunk\r\ndata: " + encoded(a_delta("a")) + b"\r\n\r\n"

    said = read(body, streamed=True)

    assert (texts(said), said.sound) == (["a"], True)


def test_what_is_broken_in_the_middle_ends_there() -> None:
    """Words from behind the gap would make an answer that nobody gave."""
    body = b"data: " + encoded(a_delta("a")) + b"\n\ndata: {broken\n\n" + a_stream(a_delta("c"))

    said = read(body, streamed=True)

    assert (texts(said), said.sound) == (["a"], False)


documents = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": st.integers(0, 2),
                    "delta": st.dictionaries(
                        st.sampled_from(["content", "refusal", "reasoning", "role", "new"]),
                        st.none() | st.text(max_size=4) | st.integers(),
                    ),
                    "text": st.none() | st.text(max_size=4),
                    "finish_reason": st.sampled_from([None, "stop", "length", 1]),
                },
            ),
            max_size=2,
        ),
        "usage": st.none() | st.just({"prompt_tokens": 1, "completion_tokens": 2}),
        "error": st.none() | st.just({"message": "x"}),
        "new": st.integers(),
    },
)


@given(st.lists(documents, max_size=4))
def test_a_stream_reads_the_same_however_its_lines_end(found: list[dict[str, object]]) -> None:
    """vLLM's form is read at one stroke, any other line by line; both must say the same."""
    body = a_stream(*found)

    assert read(body, streamed=True) == read(body.replace(b"\n", b"\r\n"), streamed=True)


def test_a_field_of_an_unknown_type_costs_no_more_than_itself() -> None:
    """A newer vLLM may say more than we know of; what people read is still there."""
    odd = {"choices": [{"index": 0, "delta": {"content": "b", "reasoning": {"new": "form"}}}]}

    said = read(a_stream(a_delta("a"), odd, a_delta("c")), streamed=True)

    assert (texts(said), said.sound) == (["abc"], True)
