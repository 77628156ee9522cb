from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.exchange import completion_served, moment
from feedbackloop.capture.record import without_body
from feedbackloop.errors import RecordError
from feedbackloop.events import BASE, CompletionServed, Outcome, ReleaseName, Reply
from feedbackloop.log import codec
from tests.capture.records import (
    KEYS,
    NOON_NS,
    a_closing,
    a_delta,
    a_stream,
    an_opening,
)


def served(asked: object = None, answered: object = None, **closing: Any) -> CompletionServed:
    """What becomes of one exchange."""
    return completion_served(an_opening(body=asked), a_closing(body=answered, **closing), keys=KEYS)


def test_an_exchange_becomes_a_completion() -> None:
    """The record is all that training, lineage and audits will ever know of this moment."""
    asked = {
        "model": "assistant",
        "user": "ann@example.com",
        "messages": [{"role": "user", "content": "2 + 2?"}],
        "tools": [{"type": "function", "function": {"name": "add"}}],
        "temperature": 0.5,
        "vendor_extension": {"x": 1},
    }

    completion = served(asked)

    assert completion.messages == ({"role": "user", "content": "2 + 2?"},)
    assert completion.tools == ({"type": "function", "function": {"name": "add"}},)
    assert completion.parameters == {"temperature": 0.5, "vendor_extension": {"x": 1}}
    assert [reply.text for reply in completion.replies] == ["4"]
    assert completion.at == completion.accepted_at == moment(NOON_NS)
    assert completion.ended_at - completion.accepted_at == timedelta(seconds=2)
    assert (completion.outcome, completion.status) == (Outcome.COMPLETE, 200)


def test_a_reply_that_was_not_kept_is_said_to_be_none() -> None:
    """Votes join it by its id, and nobody takes the placeholder for what was said."""
    closing = a_closing(body=b"x" * 9_000)

    completion = completion_served(an_opening(), without_body(closing), keys=KEYS)

    (unkept,) = completion.unkept
    assert (unkept.part, unkept.size) == ("reply", 9_000)
    assert completion.replies == (Reply(text="[WITHHELD_1]", finish_reason=None),)
    assert completion.reply_chains == ()
    assert completion.messages == ({"role": "user", "content": "2 + 2?"},)
    assert completion.outcome is Outcome.COMPLETE


def test_without_its_prompt_a_reply_is_not_told_either() -> None:
    """What it answers is not known: it could be taken for an answer to something else."""
    opening = an_opening(body={"messages": [{"role": "user", "content": "My secret"}]})

    completion = completion_served(without_body(opening), a_closing(streamed=False), keys=KEYS)

    assert [one.part for one in completion.unkept] == ["prompt", "reply"]
    assert completion.chain == completion.reply_chains == ()
    assert completion.messages == ({"role": "user", "content": "[WITHHELD_1]"},)
    assert [reply.text for reply in completion.replies] == ["[WITHHELD_1]"]
    assert completion.outcome is Outcome.COMPLETE


def test_the_digest_of_what_was_not_kept_needs_the_tenants_key() -> None:
    """Else whoever reads the log could guess at what people said."""
    other = msgspec.structs.replace(KEYS, chain=b"another key of this length, yes!")
    opening = without_body(an_opening())

    ours, theirs = (
        completion_served(opening, a_closing(), keys=keys).unkept[0] for keys in (KEYS, other)
    )

    assert ours.digest != theirs.digest
    assert opening.left_out is not None
    assert ours.digest != opening.left_out.digest.hex()
    assert completion_served(opening, None, keys=KEYS).unkept == (ours,)


def test_who_was_served_is_stored_as_a_pseudonym_only() -> None:
    """Whatever a request calls its user must not slip into the log beside the messages."""
    asked = {
        "messages": [{"role": "user", "content": "Hi"}],
        "user": "ann@example.com",
        "safety_identifier": "ann@example.com",
    }

    raw = codec.encode(served(asked))

    assert b"ann@example.com" not in raw


def test_a_bare_prompt_becomes_one_user_message() -> None:
    """Labels and datasets know one form of prompt, whichever route it came by."""
    opened = an_opening(body={"model": "m", "prompt": "2 + 2 ="}, endpoint="completions")
    closed = a_closing(body={"choices": [{"index": 0, "text": " 4", "finish_reason": "stop"}]})

    completion = completion_served(opened, closed, keys=KEYS)

    assert completion.messages == ({"role": "user", "content": "2 + 2 ="},)
    assert completion.replies[0].text == " 4"


def test_the_release_that_answered_is_on_record_beside_the_one_assigned() -> None:
    """During a rollback a canary's request is answered by the stable: both facts matter."""
    other = ReleaseName("assistant.00002.0123456789ab")

    completion = served(release=other, release_seq=2)

    assert (completion.assigned, completion.release, completion.release_seq) == (BASE, other, 2)


def test_a_request_whose_end_nobody_saw_is_a_crash() -> None:
    """The sidecar died: the prompt is known, the answer is not, and neither is a retry of it."""
    completion = completion_served(an_opening(), None, keys=KEYS)

    assert (completion.outcome, completion.replies, completion.reply_chains) == (
        Outcome.CRASHED,
        (),
        (),
    )
    assert completion.chain


def test_the_same_exchange_has_one_id_however_it_ended() -> None:
    """After a crash the forwarder repeats itself, and labelling counts it once."""
    whole, cut = served(), completion_served(an_opening(), None, keys=KEYS)

    assert whole.event_id == cut.event_id


def test_an_error_in_the_middle_of_a_stream_is_a_failure() -> None:
    """Its HTTP status said success long before; the half answer must not be trained on."""
    broken = a_stream(a_delta("The answer"), {"error": {"message": "engine died", "code": 500}})

    completion = served(None, broken, streamed=True)

    assert completion.outcome is Outcome.UPSTREAM_FAILED
    assert completion.replies[0].text == "The answer"


def test_an_answer_that_cannot_be_read_is_a_failure() -> None:
    """A proxy between us and vLLM answered with a page of its own."""
    completion = served(None, b"<html>502</html>")

    assert (completion.outcome, completion.replies) == (Outcome.UPSTREAM_FAILED, ())


def test_a_refused_request_keeps_the_outcome_that_the_client_saw() -> None:
    """A 400 is the client's mistake: the upstream did what it should."""
    completion = served(None, {"error": {"message": "too long"}}, status=400)

    assert (completion.outcome, completion.status) == (Outcome.COMPLETE, 400)


def test_log_probabilities_of_an_echoed_prompt_are_not_the_answers() -> None:
    """The sum would be the prompt's too, and off-policy weights would be nonsense."""
    body = {"choices": [{"text": "a b", "logprobs": {"token_logprobs": [None, -0.5]}}]}
    plain, echoed = {"prompt": "a"}, {"prompt": "a", "echo": True}

    assert served(plain, body).replies[0].logp == -0.5
    assert served(echoed, body).replies[0].logp is None


FIELDS = [
    "messages",
    "prompt",
    "tools",
    "role",
    "content",
    "tool_calls",
    "function",
    "n",
    "choices",
    "message",
    "delta",
    "index",
    "logprobs",
    "token_logprobs",
    "usage",
    "arguments",
    "refusal",
    "reasoning",
    "finish_reason",
    "error",
    "name",
    "text",
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(asked=JSON | st.binary(), answered=JSON | st.binary(), streamed=st.booleans())
def test_no_junk_stops_the_forwarder(*, asked: object, answered: object, streamed: bool) -> None:
    """One record that cannot be read is set aside; those behind it must not wait for ever."""
    body = a_stream(answered) if streamed and not isinstance(answered, bytes) else answered
    try:
        completion = served({} if asked is None else asked, body, streamed=streamed)
    except RecordError:
        return

    assert codec.read(codec.encode(completion)) == completion


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_request_that_is_no_object_is_set_aside(body: bytes) -> None:
    """The sidecar refuses such a body; should one pass, it is a record error and no crash."""
    with pytest.raises(RecordError):
        completion_served(an_opening(body=body), None, keys=KEYS)


def test_a_talk_that_vllm_remembers_begins_with_its_id() -> None:
    """The same words after two replies are two prompts; asked again after one, they are one."""
    asked = [
        {"model": "a", "input": "And Spain?", "previous_response_id": name}
        for name in ("resp_1", "resp_1", "resp_2")
    ]

    first, again, other = (
        completion_served(an_opening(body=body, endpoint="responses"), a_closing(), keys=KEYS)
        for body in asked
    )

    assert first.chain == again.chain != other.chain
    assert first.messages == ({"role": "user", "content": "And Spain?"},)
