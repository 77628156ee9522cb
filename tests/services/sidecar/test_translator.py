"""Records become events, and a spool is held no longer than it must be."""

from datetime import timedelta

from feedbackloop.capture import record
from feedbackloop.capture.attribution import Attribution
from feedbackloop.events import CaptureGap, CompletionServed, Outcome, TenantId, ThumbGiven
from feedbackloop.log.port import SpoolGap
from services.sidecar.translator import Translator
from tests.capture.records import KEYS, TENANT, a_closing, a_vote, an_opening
from tests.services.sidecar.forwarding import NOON, Frames, Shelf, a_translator, translated


def test_a_vote_needs_not_wait_for_its_completion() -> None:
    """People vote on the first words of a stream."""
    frames, translator = Frames(), a_translator()

    events = translated(translator, frames(an_opening()), frames(a_vote()), frames(a_closing()))

    assert [type(event) for event in events] == [ThumbGiven, CompletionServed]


def test_the_spool_keeps_a_request_until_it_has_ended() -> None:
    """A crash right now must find it again; what is behind it is translated twice instead."""
    frames, translator = Frames(), a_translator()
    first = frames(a_vote())
    translated(translator, first, frames(an_opening("slow")), frames(a_vote("c9")))

    while_open = translator.finished()
    end = frames(a_closing("slow"))
    translated(translator, end)

    assert while_open == first.position
    assert translator.finished() == end.position


def test_what_a_dead_incarnation_had_opened_is_a_crash() -> None:
    """The client got half an answer or none: known, and not counted against any release."""
    old, new, translator = Frames("old"), Frames("new", start=100), a_translator()
    translated(translator, old(an_opening("c1")))

    (crashed,) = translated(translator, new(an_opening("c2")), new(an_opening("c3")))

    assert isinstance(crashed, CompletionServed)
    assert (crashed.completion_id, crashed.outcome) == ("c1", Outcome.CRASHED)


def test_what_the_dead_had_opened_needs_no_new_request_to_be_closed() -> None:
    """A night may pass before somebody asks again, and the log would lack a record all night."""
    translator = a_translator()
    translated(translator, Frames("old")(an_opening("c1")))

    (crashed,) = translator.left_by_the_dead("new")

    assert isinstance(crashed, CompletionServed)
    assert (crashed.completion_id, crashed.outcome) == ("c1", Outcome.CRASHED)
    assert translator.left_by_the_dead("new") == []


def test_a_request_whose_end_was_shed_does_not_hold_the_spool_for_ever() -> None:
    """Else one lost record would fill the disk, and the full disk would lose all others."""
    frames, translator = Frames(), a_translator()
    soon = frames(an_opening("lost"))
    late = frames(a_vote(), at=NOON + timedelta(hours=2))

    patient = translated(translator, soon, frames(a_vote(), at=NOON + timedelta(minutes=30)))
    given_up = translated(translator, late)

    assert [type(event) for event in patient] == [ThumbGiven]
    assert [type(event) for event in given_up] == [ThumbGiven, CompletionServed]
    assert translator.finished() == late.position


def test_an_open_request_holds_up_so_much_of_the_spool_and_no_more() -> None:
    """Its end was shed, perhaps: the spool would stay full, and shed all that follows."""
    frames = Frames()
    translator = Translator({TENANT: KEYS}, Attribution(), Shelf(), held_bytes=15)
    farther = Frames(start=20)(a_vote())

    patient = translated(translator, frames(an_opening("slow")), frames(a_vote()))
    given_up = translated(translator, farther)

    assert [type(event) for event in patient] == [ThumbGiven]
    assert [type(event) for event in given_up] == [ThumbGiven, CompletionServed]
    assert translator.finished() == farther.position


def test_an_end_that_comes_after_all_is_not_lost() -> None:
    """The reply ran longer than we held the spool for it: what it says outranks our guess."""
    frames = Frames()
    translator = Translator({TENANT: KEYS}, Attribution(), Shelf(), held_bytes=5)
    _, guess = translated(translator, frames(an_opening("slow")), frames(a_vote()))

    (event,) = translated(translator, frames(a_closing("slow")))

    assert isinstance(event, CompletionServed)
    assert event.event_id == guess.event_id
    assert event.outcome == Outcome.COMPLETE


def test_a_reply_whose_request_is_not_known_is_declared() -> None:
    """Its request was shed, or went to the log before a restart: an event then outranks this."""
    shelf = Shelf()
    translator = a_translator(shelf)

    (event,) = translated(translator, Frames()(a_closing()))

    assert isinstance(event, CaptureGap)
    assert (event.reason, shelf.found, translator.unmatched) == ("unmatched", [], 1)


def test_a_loss_is_written_down() -> None:
    """Completeness is counted from these: a silent loss would bias what we learn."""
    gap = SpoolGap(
        position=3,
        producer="one",
        first=7,
        last=9,
        reason="disk_full",
        first_at=NOON,
        last_at=NOON + timedelta(seconds=5),
    )

    first, again = (translated(a_translator(), gap) for _ in range(2))

    assert first == again
    assert isinstance(first[0], CaptureGap)
    assert (first[0].first, first[0].last, first[0].count) == (7, 9, 3)


def test_both_halves_of_an_exchange_that_cannot_be_read_are_kept() -> None:
    """Either alone would be of no use to whoever looks into it."""
    shelf = Shelf()
    frames, translator = Frames(), a_translator(shelf)
    opened, closed = an_opening(body=b"{"), a_closing()

    events = translated(translator, frames(opened), frames(closed))

    assert [type(event) for event in events] == [CaptureGap, CaptureGap]
    assert [record.decode(payload) for payload, _ in shelf.found] == [opened, closed]


def test_a_tenant_without_keys_is_set_aside() -> None:
    """Without keys there is no pseudonym and no chain; with them the record can be replayed."""
    shelf = Shelf()
    frames, translator = Frames(), a_translator(shelf)
    stranger = TenantId("stranger")

    translated(translator, frames(an_opening(tenant=stranger)), frames(a_closing()))

    assert len(shelf.found) == 2
