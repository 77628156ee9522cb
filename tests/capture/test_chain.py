from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.chain import chain
from feedbackloop.capture.exchange import completion_served
from feedbackloop.events import JsonObject
from tests.capture.records import KEYS, a_closing, an_opening

KEY = KEYS.chain
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"])}
    ).flatmap(lambda role: st.fixed_dictionaries({"content": JSON}).map(lambda rest: role | rest)),
    max_size=6,
)


@given(MESSAGES, MESSAGES)
def test_a_longer_talk_contains_the_chain_of_a_shorter_one(
    before: list[JsonObject], after: list[JsonObject]
) -> None:
    """This is what finds the completion that a later prompt reacts to."""
    whole = chain([*before, *after], key=KEY)

    assert whole[: len(before)] == chain(before, key=KEY)
    assert len(whole) == len(before) + len(after)


@given(st.text(), st.text())
def test_other_words_give_another_hash(one: str, other: str) -> None:
    """A collision would blame one answer for another's fault."""
    left = chain([{"role": "user", "content": one}], key=KEY)
    right = chain([{"role": "user", "content": other}], key=KEY)

    assert (left == right) == (one.strip() == other.strip())


@given(st.text(alphabet=" \n\t"), st.text(alphabet=" \n\t"))
def test_white_space_around_a_message_does_not_matter(left: str, right: str) -> None:
    """Clients trim what they show, and send back what they show."""
    padded = chain([{"role": "assistant", "content": f"{left}Hello{right}"}], key=KEY)

    assert padded == chain([{"role": "assistant", "content": "Hello"}], key=KEY)


def test_parts_of_text_count_as_the_text() -> None:
    """Some client libraries turn every string into a list of parts."""
    parts = [{"type": "text", "text": "What is"}, {"type": "text", "text": "this?"}]

    hashed = chain([{"role": "user", "content": parts}], key=KEY)

    assert hashed == chain([{"role": "user", "content": "What is\nthis?"}], key=KEY)


def test_a_picture_is_part_of_the_prompt() -> None:
    """The same question about another picture is another prompt."""
    question = {"type": "text", "text": "What is this?"}
    cat = [question, {"type": "image_url", "image_url": {"url": "cat"}}]
    dog = [question, {"type": "image_url", "image_url": {"url": "dog"}}]

    assert chain([{"role": "user", "content": cat}], key=KEY) != chain(
        [{"role": "user", "content": dog}], key=KEY
    )


def test_the_hash_tells_nothing_without_the_key() -> None:
    """Hashes outlive the redaction of what they are hashes of."""
    message: list[JsonObject] = [{"role": "user", "content": "my card is 4111"}]

    assert chain(message, key=KEY) != chain(message, key=b"another")


def a_call(city: str, **more: Any) -> list[JsonObject]:
    function = {"name": "weather", "arguments": f'{{"city": "{city}"}}'}
    call = {"type": "function", "function": function, **more}
    return [{"role": "assistant", "tool_calls": [call]}]


def test_tool_calls_are_told_apart_by_what_is_called() -> None:
    """Two answers without text may still differ; ids that a client made anew do not."""
    oslo = chain(a_call("Oslo", id="1"), key=KEY)
    again = chain(a_call("Oslo", id="2"), key=KEY)
    rome = chain(a_call("Rome", id="1"), key=KEY)

    assert oslo == again != rome


@given(
    text=st.text(min_size=1).filter(lambda text: bool(text.strip())),
    with_call=st.booleans(),
    next_turn=st.text(max_size=9),
)
def test_a_reply_extends_the_chain_as_the_client_sends_it_back(
    *, text: str, with_call: bool, next_turn: str
) -> None:
    """The next request's prefix names this completion, whatever it said."""
    said: JsonObject = {"role": "assistant", "content": text}
    if with_call:
        said |= a_call("Oslo", id="call-1")[0]
    asked: list[JsonObject] = [{"role": "user", "content": "Hi"}]
    reply = a_closing(body={"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]})
    served = completion_served(an_opening(body={"messages": asked}), reply, keys=KEYS)

    later = chain([*asked, said, {"role": "user", "content": next_turn}], key=KEY)

    assert later[:1] == served.chain
    assert later[1] == served.reply_chains[0]
