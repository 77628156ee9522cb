"""Events lose what names people, and nothing else."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedbackloop.capture.placeholders import PLACEHOLDER, Numbers
from feedbackloop.capture.recognisers import Found
from feedbackloop.capture.redaction import Redaction
from feedbackloop.capture.redactor import Redactor, built_in
from feedbackloop.errors import MalformedEvent
from feedbackloop.events import CommentGiven, CompletionId, CompletionServed, Reply, Thumb
from tests.builders import NOON, a_completion, a_correction, a_retry, a_thumb, an_outcome
from tests.capture.test_recognisers import SPECIMENS

KEY = b"k" * 32
REDACTOR = Redactor(built_in())
CARD, MAIL = "4111 1111 1111 1111", "jane@example.org"
VALUES = [value for _, value in SPECIMENS]

texts = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(VALUES),
        st.sampled_from([" ", ", ", "\n", "[EMAIL_1]", "[", "]", '"', "\\", ": ", "4", "@", "x"]),
    ),
    max_size=8,
).map("".join)
quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)


def redacted(text: str, redactor: Redactor = REDACTOR) -> str:
    return redactor.text(text, Numbers())


def bare(value: str) -> str:
    return "".join(one for one in value.lower() if one.isalnum())


def event_of(event: CompletionServed, redactor: Redactor = REDACTOR) -> CompletionServed:
    return Redaction(redactor).event(event, key=KEY)


def shape(value: Any) -> Any:
    """Reduce JSON to its form: names and types."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return type(value).__name__


@quick
@given(texts)
def test_redacting_twice_is_redacting_once(text: str) -> None:
    """Events are forwarded again after a crash, and imported from places that redacted before."""
    once = redacted(text)

    assert redacted(once) == once


@quick
@given(st.text(alphabet=st.characters(exclude_categories=["Nd", "Cs"], exclude_characters="@%")))
def test_words_of_any_script_stay_as_they_are(text: str) -> None:
    """What has neither a digit nor an address in it can be nobody's number."""
    assert redacted(text) == text


@quick
@given(st.sampled_from(SPECIMENS), st.text(max_size=20), st.text(max_size=20))
def test_no_specimen_survives_between_other_words(
    specimen: tuple[str, str], before: str, after: str
) -> None:
    """Whatever stands around it, in whatever script."""
    _, value = specimen

    assert value not in redacted(f"{before} {value} {after}")


@quick
@given(st.lists(st.sampled_from([*VALUES, "and", "ok"]), max_size=6, unique_by=bare))
def test_a_value_has_one_number_and_no_other_value_has_it(values: list[str]) -> None:
    """Otherwise a row tells another story than the talk that it was made of."""
    numbers = Numbers()

    said = [REDACTOR.text(f"is {value}?", numbers) for value in values]

    assert [REDACTOR.text(f"is {value}?", numbers) for value in values] == said
    removed = {one for one in said if PLACEHOLDER.search(one)}
    assert len(removed) == len(set(values) - {"and", "ok"})


def test_the_same_value_is_known_however_it_is_written() -> None:
    """People write their address in capitals, and their card in blocks."""
    said = f"{MAIL} {MAIL.upper()} {CARD} {CARD.replace(' ', '')} {CARD.replace(' ', '-')}"

    assert redacted(said) == "[EMAIL_1] [EMAIL_1] [CARD_1] [CARD_1] [CARD_1]"


def test_numbers_that_a_text_brings_along_are_left_alone() -> None:
    """A client that redacts by itself must not find two people under one name."""
    assert redacted(f"[EMAIL_1] wrote to {MAIL}") == "[EMAIL_1] wrote to [EMAIL_2]"


@given(
    st.lists(st.sampled_from(["[EMAIL_1]", "[CARD_12]", "ab", " ", "["]), max_size=8).map("".join),
    st.integers(0, 60),
    st.integers(1, 60),
)
def test_a_find_never_cuts_a_placeholder_in_two(text: str, start: int, length: int) -> None:
    """Half of one would be read as a word of the person's."""
    end = min(start + length, len(text))
    places = [match.span() for match in PLACEHOLDER.finditer(text)]
    touched = [(first, last) for first, last in places if first < end and start < last]
    inside = any(first <= start and end <= last for first, last in touched)
    begin = min([start, *(first for first, _ in touched)])
    finish = max([end, *(last for _, last in touched)])

    said = Numbers().replaced(text, [Found(start, end, "MARK")] if start < end else [])

    whole = inside or start >= end
    assert said == (text if whole else f"{text[:begin]}[MARK_1]{text[finish:]}")


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**17), 10**17), texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


@quick
@given(json_values, st.sampled_from([{}, {"indent": 2}, {"ensure_ascii": False}]))
def test_arguments_stay_json_of_the_same_form(value: Any, written: dict[str, Any]) -> None:
    """A row whose tool call no parser reads teaches the model to write such."""
    text = json.dumps(value, **written)

    numbers = Numbers()
    said = REDACTOR.json_text(text, numbers)

    assert REDACTOR.json_text(said, Numbers()) == said
    if not numbers.tally.removed:
        assert said == text
    forms = [json.dumps(shape(one)).replace('"int"', '"str"') for one in (value, json.loads(said))]
    assert forms[0] == forms[1]


def test_a_number_in_arguments_becomes_a_text() -> None:
    """The placeholder is no number, and the rest has to stay what it was."""
    arguments = '{"card": 4111111111111111, "pin":  1234, "to": "jane\\u0040example.org"}'

    said = REDACTOR.json_text(arguments, Numbers())

    assert said == '{"card": "[CARD_1]", "pin":  1234, "to": "[EMAIL_1]"}'


def everything(value: str) -> CompletionServed:
    """Put one value everywhere that a person's words, or an app's, can be in a completion."""
    arguments = json.dumps({"to": value, "again": [value]})
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "send", "arguments": arguments},
    }
    said = f"it is {value}, ok"
    return a_completion(
        messages=(
            {"role": "system", "content": said},
            {"role": "user", "content": [{"type": "text", "text": said}], "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [call], "refusal": said},
            {"role": "tool", "tool_call_id": "call_1", "content": said},
            {"role": "assistant", "content": "", "reasoning_content": said},
            {"role": "user", "content": [{"type": "unheard_of", "payload": {"deep": [said]}}]},
        ),
        tools=({"type": "function", "function": {"name": "f", "description": said}},),
        parameters={"metadata": {"who": value}, "stop": [said], "seed": 4111111111111111},
        replies=(Reply(text=said, reasoning=said, tool_calls=(call,), finish_reason="stop"),),
        idempotency_key=f"vote {value}",
        source_id=f"row {value}",
    )


@pytest.mark.parametrize("value", [MAIL, CARD, "219-09-9999", "DE89 3704 0044 0532 0130 00"])
def test_nothing_of_a_value_is_left_anywhere_in_an_event(value: str) -> None:
    """Prompts, tools, parameters, replies, hidden reasoning, names of the client's own."""
    event = event_of(everything(value))

    assert value.encode() not in msgspec.json.encode(event)


def test_the_form_of_an_event_stays() -> None:
    """Roles, ids, numbers and names of fields are what labelling and training read."""
    before, after = everything(MAIL), event_of(everything(MAIL))

    assert [shape(one) for one in after.messages] == [shape(one) for one in before.messages]
    assert [one["role"] for one in after.messages] == [one["role"] for one in before.messages]
    assert after.messages[3]["tool_call_id"] == "call_1"
    assert after.parameters["seed"] == before.parameters["seed"]
    assert (after.chain, after.event_id) == (before.chain, before.event_id)


def test_a_value_has_one_number_in_prompt_and_reply() -> None:
    """The reply's "I wrote to ..." and the prompt's address are one person's."""
    event = event_of(
        a_completion(prompt=f"{MAIL} or bob@example.org?", text=f"To bob@example.org, not {MAIL}")
    )

    assert event.messages[0]["content"] == "[EMAIL_1] or [EMAIL_2]?"
    assert event.replies[0].text == "To [EMAIL_2], not [EMAIL_1]"


def test_a_correction_has_the_numbers_of_its_completion() -> None:
    """Chosen and rejected of one pair speak of the same people."""
    redaction = Redaction(REDACTOR)
    redaction.event(a_completion("c1", prompt=f"{MAIL} or bob@example.org?"), key=KEY)

    right = redaction.event(a_correction("c1", "bob@example.org, not eve@example.org"), key=KEY)

    assert right.correction == "[EMAIL_2], not [EMAIL_3]"


def test_what_people_say_about_a_completion_is_redacted() -> None:
    """Comments, reasons and outcomes are words too."""
    redaction = Redaction(REDACTOR)
    comment = CommentGiven(
        event_id=a_thumb().event_id,
        tenant=a_thumb().tenant,
        at=NOON,
        completion_id=CompletionId("c1"),
        conversation=a_thumb().conversation,
        comment=f"ask {MAIL}",
        reasons=(MAIL,),
        client_key=f"from {MAIL}",
    )
    others = (a_thumb(thumb=Thumb.DOWN, reasons=(f"sent to {MAIL}",)), an_outcome(outcome=MAIL))

    said = redaction.event(comment, key=KEY)
    rest = [redaction.event(one, key=KEY) for one in others]

    assert MAIL.encode() not in msgspec.json.encode([said, *rest])
    assert said.comment == "ask [EMAIL_1]"
    assert redaction.event(a_retry(), key=KEY) == a_retry()


def test_names_of_the_clients_stay_different() -> None:
    """Two people's votes must not become one for having an address in their key."""
    redaction = Redaction(REDACTOR)

    keys = [
        redaction.event(a_thumb(client_key=key), key=KEY).client_key
        for key in ("vote-1", f"from {MAIL}", "from bob@example.org", f"from {MAIL}")
    ]

    assert keys[0] == "vote-1"
    assert keys[1] == keys[3]
    assert len(set(keys)) == 3


def test_what_cannot_be_searched_is_removed() -> None:
    """A picture of a passport is as good as its number; token ids are text for whoever asks."""
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 40
    parts: list[Any] = [
        {"type": "image_url", "image_url": {"url": picture, "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRiQ" * 60, "format": "wav"}},
        {"type": "text", "text": f"this: ![]({picture})"},
    ]
    event = event_of(
        a_completion(
            messages=(
                {"role": "user", "content": parts},
                {"role": "user", "content": [791, 6864, 315]},
            )
        )
    )

    first, second = (one["content"] for one in event.messages)
    assert first[0]["image_url"] == {"url": "[MEDIA_1]", "detail": "low"}
    assert first[1]["input_audio"] == {"data": "[MEDIA_2]", "format": "wav"}
    assert first[2]["text"] == "this: ![]([MEDIA_1])"
    assert second == "[TOKENS_1]"


def test_media_can_be_kept() -> None:
    """Whoever trains on pictures has other means to look at them."""
    picture = "data:image/png;base64," + "iVBORw0KGgo" * 40
    content = [{"type": "image_url", "image_url": {"url": picture}}]
    keeping = Redactor(built_in(), keeps_media=True)

    event = event_of(a_completion(messages=({"role": "user", "content": content},)), keeping)

    assert event.messages[0]["content"] == content


def test_only_chosen_kinds_are_removed() -> None:
    """A help desk may need its addresses and nobody's cards."""
    only = Redactor(built_in(), kinds={"CARD"})

    assert redacted(f"{MAIL} {CARD}", only) == f"{MAIL} [CARD_1]"


class Breaks:
    """A recogniser that fails, and says why with the text itself."""

    kinds = frozenset({"PERSON"})

    def find(self, text: str) -> Iterator[Found]:
        if "boom" in text:
            raise ValueError(text)
        yield from ()


def test_a_text_that_cannot_be_searched_is_withheld() -> None:
    """Who fails must fail closed: the text could hold anything."""
    redaction = Redaction(Redactor((*built_in(), Breaks())))

    event = redaction.event(a_completion(prompt=f"boom {MAIL}", text="fine"), key=KEY)

    assert event.messages[0]["content"] == "[WITHHELD_1]"
    assert event.replies[0].text == "fine"
    assert redaction.tally.failed == {"Breaks: ValueError": 1}


@pytest.mark.parametrize("said", ["text", "json_text"])
def test_a_text_in_which_more_is_found_each_time_is_withheld(said: str) -> None:
    """A megabyte of it would hold up all that comes after for half an hour."""
    redactor, numbers = Redactor(built_in()), Numbers()

    text = getattr(redactor, said)("xoxb-" * 2_000, numbers)

    assert text.strip('"') == "[WITHHELD_1]"
    assert numbers.tally.failed == {"still found something": 1}


def test_what_is_nested_beyond_reading_is_refused() -> None:
    """It is set aside with its record, rather than passed on unread."""
    deep: Any = MAIL
    for _ in range(5_000):
        deep = [deep]

    with pytest.raises(MalformedEvent, match="nested too deeply"):
        event_of(a_completion(parameters={"metadata": deep}))


def test_nothing_is_removed_if_nobody_wants_it() -> None:
    """A team may redact elsewhere."""
    event = a_completion(prompt=MAIL)

    assert Redaction(None).event(event, key=KEY) is event


def test_what_is_removed_is_counted_by_kind() -> None:
    """An operator sees that it works, and never what."""
    redaction = Redaction(REDACTOR)

    redaction.event(a_completion(prompt=f"{MAIL} {CARD}", text=MAIL), key=KEY)

    assert redaction.tally.removed == {"EMAIL": 2, "CARD": 1}


class Names:
    """A team's own recogniser: names from a list."""

    kinds = frozenset({"PERSON"})

    def find(self, text: str) -> Iterable[Found]:
        at = text.find("Jane Doe")
        return [Found(at, at + 8, "PERSON")] if at >= 0 else []


def test_a_teams_own_recogniser_stands_beside_ours() -> None:
    """Names need a model, or a list: we have neither."""
    own = Redactor((*built_in(), Names()))

    assert redacted(f"Jane Doe <{MAIL}>", own) == "[PERSON_1] <[EMAIL_1]>"
