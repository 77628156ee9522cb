"""The release document's moves: what may follow what, and what never may."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.events import BASE, Alias
from feedbackloop.promotion import changes
from feedbackloop.promotion.changes import Change, Refused
from feedbackloop.promotion.release import BASE_RELEASE, Release, ReleaseDocument

START = ReleaseDocument(alias=Alias("assistant"))
ONE, TWO = "1" * 64, "2" * 64


def done(change: Change) -> ReleaseDocument:
    """Expect a move to be allowed."""
    assert isinstance(change, ReleaseDocument), change
    return change


def staged(document: ReleaseDocument, digest: str) -> ReleaseDocument:
    """Stage an adapter as the document's next release."""
    release = changes.next_release(document, digest=digest)
    return done(changes.stage(document, release, salt="s", by="scheduler"))


def promoted(document: ReleaseDocument, digest: str) -> ReleaseDocument:
    """Stage and promote an adapter."""
    return done(changes.promote(staged(document, digest), by="scheduler"))


def test_a_release_is_named_after_alias_number_and_bytes() -> None:
    """The name must be safe as a label and a folder, and never stand for other bytes."""
    release = changes.next_release(START, digest=ONE, run="run-1")

    assert (release.name, release.seq) == ("assistant.00001.111111111111", 1)


def test_a_staged_release_sees_no_traffic() -> None:
    """It is loaded and proven everywhere before the first person meets it."""
    document = staged(START, ONE)

    assert document.canary is not None
    assert (document.canary_share, document.stable, document.next_seq) == (0.0, BASE_RELEASE, 2)


def test_a_rollback_after_a_promotion_restores_what_was_stable() -> None:
    """It is one write, and the adapter that did harm is never proposed again."""
    before = promoted(START, ONE)
    after = promoted(before, TWO)

    back = done(changes.rollback(after, by="operator", why="complaints"))

    assert (back.stable, back.previous, back.quarantined) == (before.stable, None, (TWO,))
    assert (back.by, back.why) == ("operator", "complaints")


def test_the_first_release_rolls_back_to_the_base() -> None:
    """The base is what there is before the first release; it cannot be quarantined."""
    back = done(changes.rollback(promoted(START, ONE), by="operator"))

    assert (back.stable.name, back.quarantined) == (BASE, (ONE,))


def test_a_canary_that_did_harm_is_quarantined_and_one_without_evidence_is_not() -> None:
    """Lack of traffic is no verdict about the bytes."""
    document = staged(START, ONE)

    harmful = done(changes.take_back(document, quarantine=True, by="scheduler"))
    unknown = done(changes.take_back(document, quarantine=False, by="scheduler"))

    assert (harmful.quarantined, unknown.quarantined) == ((ONE,), ())
    assert harmful.canary is unknown.canary is None


def test_a_rollback_takes_an_unjudged_canary_with_it() -> None:
    """It was compared with a stable that is gone; its bytes may be tried again."""
    document = staged(promoted(START, ONE), TWO)

    back = done(changes.rollback(document, by="operator"))

    assert (back.canary, back.quarantined) == (None, (ONE,))


def test_freezing_stops_what_is_new_and_never_the_way_back() -> None:
    """An operator who freezes in an incident must still be able to roll back."""
    frozen = done(changes.freeze(staged(promoted(START, ONE), TWO), by="operator", why="incident"))

    assert changes.promote(frozen, by="x") == Refused("assistant is frozen (operator: incident)")
    assert isinstance(changes.widen(frozen, share=0.5, by="x"), Refused)
    assert done(changes.rollback(frozen, by="x")).stable == BASE_RELEASE
    assert done(changes.take_back(frozen, quarantine=False, by="x")).canary is None


def test_retiring_frees_the_slot_of_previous() -> None:
    """Once the time for a rollback is over, its place in vLLM is for the next candidate."""
    document = done(changes.retire(promoted(START, ONE), by="scheduler"))

    assert document.previous is None
    assert document.stable.digest == ONE


FROZEN = done(changes.freeze(START, by="operator"))
STAGED = staged(START, ONE)
LIVE = promoted(START, ONE)
ROLLED_BACK = done(changes.rollback(LIVE, by="operator"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changes.promote(START, by="x"), "no canary is staged"),
        (changes.widen(START, share=0.1, by="x"), "no canary is staged"),
        (changes.take_back(START, quarantine=True, by="x"), "no canary is staged"),
        (changes.rollback(START, by="x"), "there is no previous release to go back to"),
        (changes.rollback(STAGED, by="x"), "take the canary back instead"),
        (changes.rollback(ROLLED_BACK, by="x"), "there is no previous release"),
        (changes.retire(START, by="x"), "there is no previous release"),
        (changes.widen(STAGED, share=0.0, by="x"), "can only grow"),
        (changes.widen(STAGED, share=1.1, by="x"), "at most 1"),
        (changes.freeze(FROZEN, by="x"), "is frozen already"),
        (changes.unfreeze(START, by="x"), "is not frozen"),
        (
            changes.stage(FROZEN, changes.next_release(FROZEN, digest=ONE), salt="s", by="x"),
            "is frozen",
        ),
        (
            changes.stage(STAGED, changes.next_release(STAGED, digest=TWO), salt="s", by="x"),
            "is being tried",
        ),
        (
            changes.stage(
                ROLLED_BACK, changes.next_release(ROLLED_BACK, digest=ONE), salt="s", by="x"
            ),
            "quarantined",
        ),
        (
            changes.stage(LIVE, changes.next_release(LIVE, digest=ONE), salt="s", by="x"),
            "the same adapter as assistant.00001",
        ),
        (
            changes.stage(LIVE, changes.next_release(START, digest=TWO), salt="s", by="x"),
            "would name it",
        ),
        (
            changes.stage(START, changes.next_release(START, digest="short"), salt="s", by="x"),
            "would name it",
        ),
    ],
)
def test_an_illegal_move_is_refused_with_its_reason(change: Change, reason: str) -> None:
    """A refusal is for a person to read: it names what stands in the way."""
    assert isinstance(change, Refused)
    assert reason in change.reason


MOVES = st.lists(
    st.tuples(
        st.sampled_from(
            ["stage", "widen", "promote", "harm", "unknown", "rollback", "retire", "freeze", "thaw"]
        ),
        st.integers(0, 5),
    ),
    max_size=30,
)


def move(document: ReleaseDocument, name: str, number: int) -> Change:
    """Try one move; ``number`` picks the adapter or the share."""
    release = changes.next_release(document, digest=f"{number:064x}")
    tries: dict[str, Callable[[], Change]] = {
        "stage": lambda: changes.stage(document, release, salt=f"{number}", by="x"),
        "widen": lambda: changes.widen(document, share=number / 5, by="x"),
        "promote": lambda: changes.promote(document, by="x"),
        "harm": lambda: changes.take_back(document, quarantine=True, by="x"),
        "unknown": lambda: changes.take_back(document, quarantine=False, by="x"),
        "rollback": lambda: changes.rollback(document, by="x"),
        "retire": lambda: changes.retire(document, by="x"),
        "freeze": lambda: changes.freeze(document, by="x"),
        "thaw": lambda: changes.unfreeze(document, by="x"),
    }
    return tries[name]()


def history(moves: list[tuple[str, int]]) -> list[ReleaseDocument]:
    """Play moves, and keep each document that came of one."""
    documents = [START]
    for name, number in moves:
        change = move(documents[-1], name, number)
        if isinstance(change, ReleaseDocument):
            documents.append(change)
    return documents


def named_in(document: ReleaseDocument) -> list[Release]:
    """List the releases that a document names."""
    return [r for r in (document.stable, document.canary, document.previous) if r is not None]


@given(MOVES)
def test_the_epoch_grows_by_one_with_every_change(moves: list[tuple[str, int]]) -> None:
    """Compare-and-set and 'a lower epoch never wins' rest on it."""
    documents = history(moves)

    assert [document.epoch for document in documents] == list(range(len(documents)))


@given(MOVES)
def test_a_name_never_stands_for_two_adapters(moves: list[tuple[str, int]]) -> None:
    """vLLM caches by name: the second adapter would answer with the first one's cache."""
    digests: dict[str, set[str]] = {}
    for document in history(moves):
        for release in named_in(document):
            digests.setdefault(release.name, set()).add(release.digest)

    assert all(len(found) == 1 for found in digests.values())


@given(MOVES)
def test_nothing_quarantined_is_ever_named_again(moves: list[tuple[str, int]]) -> None:
    """What did harm once must not come back through any sequence of moves."""
    for document in history(moves):
        assert not {release.digest for release in named_in(document)} & set(document.quarantined)


@given(MOVES)
def test_only_a_canary_has_a_share(moves: list[tuple[str, int]]) -> None:
    """A share without a canary would send people nowhere."""
    for document in history(moves):
        assert document.canary is not None or document.canary_share == 0.0


@given(MOVES)
def test_a_rollback_undoes_a_promotion_from_anywhere(moves: list[tuple[str, int]]) -> None:
    """Whatever happened before, the way back leads to what was stable."""
    document = history(moves)[-1]
    promotion = changes.promote(document, by="x")

    if isinstance(promotion, ReleaseDocument):
        assert done(changes.rollback(promotion, by="x")).stable == document.stable


def test_each_move_is_known_by_what_it_left_behind() -> None:
    """Rollbacks are counted, and whoever is woken by that count must not see promotions in it."""
    first = staged(START, ONE)
    widened = done(changes.widen(first, share=0.5, by="me"))
    stable = done(changes.promote(widened, by="me"))
    second = staged(stable, TWO)
    taken_back = done(changes.take_back(second, quarantine=True, by="me"))
    frozen = done(changes.freeze(taken_back, by="me"))
    rolled_back = done(changes.rollback(frozen, by="me"))
    documents = [START, first, widened, stable, second, taken_back, frozen, rolled_back]

    kinds = [changes.kind_of(*pair) for pair in itertools.pairwise(documents)]

    assert kinds == [
        *("staged", "widened", "promoted"),
        *("staged", "taken_back", "other", "rolled_back"),
    ]
