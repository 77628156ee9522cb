from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.identity import (
    TenantKeys,
    conversation,
    event_id,
    pseudonym,
)
from feedbackloop.events import JsonObject, UserId
from tests.capture.records import KEYS

OTHER = TenantKeys(
    current="k001", receipts={"k001": b"x"}, pseudonym=b"x" * 32, chain=b"y" * 32, holdout=b"z"
)
TALK: list[JsonObject] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
]


@given(st.text(min_size=1), st.text(min_size=1))
def test_people_have_one_name_each(one: str, other: str) -> None:
    """Caps, holdout and canary count people: two must not be one, nor one two."""
    names = pseudonym(KEYS, one), pseudonym(KEYS, other)

    assert (names[0] == names[1]) == (one == other)
    assert len(bytes.fromhex(names[0])) == 16


def test_another_tenant_cannot_recognise_a_person() -> None:
    """The same address is a customer of two tenants, and neither may learn of the other."""
    here, there = pseudonym(KEYS, "ann@example.com"), pseudonym(OTHER, "ann@example.com")

    assert here != there


@given(st.lists(st.text(max_size=5), max_size=5))
def test_a_talk_keeps_its_name_as_it_grows(answers: list[str]) -> None:
    """Routing and the log's partition follow the conversation from its first turn on."""
    later: list[JsonObject] = [{"role": "assistant", "content": text} for text in answers]

    first = conversation(KEYS, named=None, user=None, messages=TALK)
    grown = conversation(KEYS, named=None, user=None, messages=[*TALK, *later])

    assert first == grown
    assert len(bytes.fromhex(first)) == 8


def test_the_form_of_a_turn_does_not_make_it_another_talk() -> None:
    """Clients send the same words as a string, as parts, trimmed, or under the newer role."""
    again: list[JsonObject] = [
        {"role": "developer", "content": "Be kind. "},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]

    assert conversation(KEYS, named=None, user=None, messages=again) == conversation(
        KEYS, named=None, user=None, messages=TALK
    )


def test_who_asks_and_what_is_asked_tell_talks_apart() -> None:
    """Two people who both begin with "Hi" do not share a conversation."""
    ann = conversation(KEYS, named=None, user=UserId("ann"), messages=TALK)
    bob = conversation(KEYS, named=None, user=UserId("bob"), messages=TALK)
    other = conversation(KEYS, named=None, user=UserId("ann"), messages=TALK[1:])

    assert len({ann, bob, other}) == 3


def test_a_name_from_the_client_outranks_what_is_said() -> None:
    """An app that knows its conversations need not rely on our guess."""
    one = conversation(KEYS, named="t-1", user=None, messages=TALK)
    same = conversation(KEYS, named="t-1", user=None, messages=[])
    other = conversation(KEYS, named="t-2", user=None, messages=TALK)

    assert one == same != other


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_different_facts_have_different_ids(one: list[str], other: list[str]) -> None:
    """Ids deduplicate the log; parts that run into each other would lose a fact."""
    ids = event_id(*one), event_id(*other)

    assert (ids[0] == ids[1]) == (one == other)
