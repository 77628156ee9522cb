from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.votes import SIGNALS, feedback_id, given_at, parse, signals
from feedbackloop.errors import MalformedEvent, RequestError
from feedbackloop.events import (
    ChoiceMade,
    CommentGiven,
    CorrectionGiven,
    OutcomeReported,
    RatingGiven,
    Signal,
    SignalWithdrawn,
    Thumb,
    ThumbGiven,
    ThumbWithdrawn,
)
from feedbackloop.labels.resolve import resolve
from tests.capture.records import NOON_NS, SECOND_NS, a_vote, encoded

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SKEW = timedelta(minutes=5)
WORDS = st.text(min_size=1, max_size=20).filter(lambda text: bool(text.strip()))
VOTES = st.fixed_dictionaries(
    {"completion_id": st.just("c1"), "thumb": st.sampled_from(["up", "down"])},
    optional={
        "rating": st.integers(1, 5),
        "correction": WORDS,
        "comment": WORDS,
        "reasons": st.lists(WORDS, max_size=3),
        "outcome": WORDS,
        "choice": st.integers(0, 7),
        "user": WORDS,
        "at": st.datetimes(datetime(2001, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001  # hypothesis adds the zone
            datetime.isoformat
        ),
    },
)


@given(VOTES)
def test_what_a_person_said_becomes_one_signal_each(body: dict[str, Any]) -> None:
    """Nothing that was accepted may be missing from the log, nor be there twice."""
    vote = parse(encoded(body))

    made = list(signals(a_vote(body=body)))

    assert len(made) == len(vote.signals()) == len(set(SIGNALS) & set(body))
    assert len({signal.event_id for signal in made}) == len(made)


def test_every_field_arrives_in_its_signal() -> None:
    """A correction is a row for training: its words are what counts."""
    body = {
        "thumb": "down",
        "rating": 2,
        "correction": "four",
        "comment": "rude",
        "reasons": ["tone"],
        "outcome": "abandoned",
        "choice": 1,
    }

    thumb, rating, correction, comment, outcome, choice = signals(a_vote(body=body))

    assert isinstance(thumb, ThumbGiven)
    assert (thumb.thumb, thumb.reasons) == (Thumb.DOWN, ("tone",))
    assert isinstance(rating, RatingGiven)
    assert rating.rating == 2
    assert isinstance(correction, CorrectionGiven)
    assert correction.correction == "four"
    assert isinstance(comment, CommentGiven)
    assert (comment.comment, comment.reasons) == ("rude", ("tone",))
    assert isinstance(outcome, OutcomeReported)
    assert outcome.outcome == "abandoned"
    assert isinstance(choice, ChoiceMade)
    assert choice.choice == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rating", 9),
        ("rating", 0),
        ("rating", "5"),
        ("rating", 4.5),
        ("thumb", "sideways"),
        ("thumb", True),
        ("correction", ""),
        ("correction", " \n"),
        ("correction", "x" * 100_001),
        ("correction", 4),
        ("comment", ""),
        ("comment", []),
        ("reasons", "tone"),
        ("reasons", [""]),
        ("reasons", ["x"] * 21),
        ("outcome", ""),
        ("outcome", "x" * 201),
        ("choice", -1),
        ("choice", 128),
        ("user", ""),
        ("user", "  "),
        ("user", 7),
        ("at", "yesterday"),
        ("at", "2026-03-04T12:00:00"),
        ("completion_id", ""),
        ("completion_id", None),
        ("score", 1),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    """Whoever writes a client at midnight reads the field's name and what was expected."""
    body = {"completion_id": "c1", "thumb": "up", field: value}

    with pytest.raises(RequestError) as caught:
        parse(encoded(body))

    assert (caught.value.status, caught.value.param) == (422, field)
    assert field in caught.value.message


def test_a_vote_has_to_say_something() -> None:
    """An id alone, or tags beside nothing, would be accepted and then lost."""
    empty, tags = {"completion_id": "c1"}, {"completion_id": "c1", "rating": 3, "reasons": ["x"]}

    with pytest.raises(RequestError, match="at least one of thumb, rating") as nothing:
        parse(encoded(empty))
    with pytest.raises(RequestError, match="beside a thumb or a comment") as beside:
        parse(encoded(tags))

    assert (nothing.value.status, beside.value.param) == (422, "reasons")


@pytest.mark.parametrize("body", [b"", b"{", b'{"thumb": up}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_is_a_bad_request(body: bytes) -> None:
    """The parser's own words would help nobody, and a 500 less."""
    with pytest.raises(RequestError) as caught:
        parse(body)

    assert caught.value.status in (400, 422)


@pytest.mark.parametrize("body", [[], "up", 1, None, [{"thumb": "up"}]])
def test_a_body_that_is_no_object_names_no_field(body: object) -> None:
    """There is no field to blame."""
    with pytest.raises(RequestError) as caught:
        parse(encoded(body))

    assert (caught.value.status, caught.value.param) == (422, None)


@given(st.binary() | VOTES.map(encoded).flatmap(lambda raw: st.just(raw[: len(raw) // 2])))
def test_junk_is_refused_and_nothing_worse(body: bytes) -> None:
    """The endpoint is open to whoever holds a receipt."""
    try:
        vote = parse(body)
    except RequestError:
        return

    assert vote.signals()


@given(VOTES, st.text(max_size=9))
def test_a_call_read_twice_is_one_fact(body: dict[str, Any], client_key: str) -> None:
    """The forwarder repeats itself after a crash."""
    voted = a_vote(body=body, client_key=client_key)

    assert list(signals(voted)) == list(signals(voted))


def test_a_repeated_call_is_one_fact_by_its_key() -> None:
    """The client saw a time-out and sent it again: one vote, and one answer."""
    first = a_vote(client_key="k1")
    again = a_vote(client_key="k1", received_ns=NOON_NS + 40 * SECOND_NS)

    assert [s.event_id for s in signals(first)] == [s.event_id for s in signals(again)]
    assert feedback_id(first) == feedback_id(again)


@pytest.mark.parametrize("given_ns", [None, NOON_NS])
def test_changing_ones_mind_twice_ends_with_the_last_word(given_ns: int | None) -> None:
    """Up, down and up again without keys: the third vote must not count as the first."""
    times = [NOON_NS + seconds * SECOND_NS for seconds in (30, 31, 32)]
    thumbs = ["up", "down", "up"] if given_ns is None else ["down", "up", "down"]
    votes = [
        a_vote(body={"thumb": thumb}, received_ns=time, given_ns=given_ns)
        for thumb, time in zip(thumbs, times, strict=True)
    ]

    facts: list[Any] = [signal for voted in votes for signal in signals(voted)]
    label = resolve(facts[0].completion_id, facts)

    assert label is not None
    assert label.desirable is (thumbs[-1] == "up")


def test_different_people_give_different_votes() -> None:
    """Two readers of one answer who press the same button in the same second are two."""
    ann, bob = a_vote(user="0" * 32, client_key="k"), a_vote(user="1" * 32, client_key="k")

    ids = {signal.event_id for voted in (ann, bob) for signal in signals(voted)}

    assert len(ids) == 2


@given(st.integers(-10_000, 10_000), st.integers(0, 5_000))
def test_a_vote_is_given_after_its_completion_and_not_in_the_future(off: int, age: int) -> None:
    """The latest vote counts: a clock that runs ahead would win, one behind would never count."""
    received_at = NOON + timedelta(seconds=age)
    at = NOON + timedelta(seconds=off)

    try:
        given = given_at(at, served_at=NOON, received_at=received_at, skew=SKEW)
    except RequestError:
        given = None

    believed = NOON - SKEW <= at <= received_at + SKEW
    assert (given is not None) == believed
    assert given is None or given == min(max(at, NOON), received_at)


@pytest.mark.parametrize("at", ["2099-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"])
def test_a_vote_from_far_in_the_future_is_refused(at: str) -> None:
    """A clock that is off by years is broken, and the client can leave the time out."""
    with pytest.raises(RequestError, match="in the future") as caught:
        given_at(datetime.fromisoformat(at), served_at=NOON, received_at=NOON, skew=SKEW)

    assert (caught.value.status, caught.value.param) == (422, "at")


@pytest.mark.parametrize("at", ["2026-03-03T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_a_vote_from_before_its_completion_is_refused(at: str) -> None:
    """Nobody can judge what was not said yet."""
    with pytest.raises(RequestError, match="before its completion") as caught:
        given_at(datetime.fromisoformat(at), served_at=NOON, received_at=NOON, skew=SKEW)

    assert (caught.value.status, caught.value.param) == (422, "at")


def test_a_vote_may_be_reported_later() -> None:
    """An app collects votes while it is offline, and sends them with their own times."""
    at = datetime.fromisoformat("2026-03-04T13:00:05+01:00")
    given = given_at(at, served_at=NOON, received_at=NOON + timedelta(hours=1), skew=SKEW)

    (signal,) = signals(a_vote(given_ns=NOON_NS + 5 * SECOND_NS))

    assert (given, given.tzinfo) == (signal.at, UTC)


def test_a_vote_can_be_taken_back() -> None:
    """As if it had not been given."""
    given_at = a_vote()
    taken = msgspec.structs.replace(
        given_at, withdraw="thumb", body=b"", received_ns=NOON_NS + 60 * SECOND_NS
    )

    (withdrawal,) = signals(taken)
    label = resolve(withdrawal.completion_id, [*signals(given_at), withdrawal])

    assert isinstance(withdrawal, ThumbWithdrawn)
    assert label is None


@pytest.mark.parametrize("signal", SIGNALS[1:])
def test_everything_that_was_said_can_be_taken_back(signal: str) -> None:
    """A correction that somebody regrets must not become a pair."""
    taken = msgspec.structs.replace(a_vote(), withdraw=signal, body=b"")

    (withdrawal,) = signals(taken)

    assert isinstance(withdrawal, SignalWithdrawn)
    assert withdrawal.signal == signal


def test_a_record_that_is_no_vote_is_set_aside() -> None:
    """It was checked when it was accepted, but disks are what they are."""
    with pytest.raises(MalformedEvent):
        list(signals(msgspec.structs.replace(a_vote(), body=b"{")))


def test_a_signal_names_its_completion_and_conversation() -> None:
    """They decide the partition, so that a vote meets its completion."""
    voted = a_vote("c9")

    for signal in signals(voted):
        assert isinstance(signal, Signal)
        assert (signal.completion_id, signal.conversation, signal.user) == (
            voted.completion_id,
            voted.conversation,
            voted.user,
        )
