"""The order of a swap, against a model of the server: whatever happens, nobody is dropped."""

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.events import BASE, Alias, ReleaseName
from feedbackloop.promotion import changes
from feedbackloop.promotion.changes import Change
from feedbackloop.promotion.release import Release, ReleaseDocument
from feedbackloop.serving.convergence import (
    Load,
    Observed,
    Prove,
    State,
    Step,
    Unload,
    next_steps,
    routed,
    routes,
    state,
    wanted,
)
from feedbackloop.serving.routing import Routes, RouteTable, Served

ALIAS = Alias("assistant")
BASES = {ALIAS: "model"}
START = ReleaseDocument(alias=ALIAS)


def done(change: Change) -> ReleaseDocument:
    """Expect a move to be allowed."""
    assert isinstance(change, ReleaseDocument), change
    return change


def staged(document: ReleaseDocument, digit: str) -> ReleaseDocument:
    """Stage the adapter whose digest is one digit over and over."""
    release = changes.next_release(document, digest=digit * 64)
    return done(changes.stage(document, release, salt="s", by="x"))


def promoted(document: ReleaseDocument, digit: str) -> ReleaseDocument:
    return done(changes.promote(staged(document, digit), by="x"))


ONE = promoted(START, "1")
TWO = promoted(ONE, "2")
TRIED = done(changes.widen(staged(TWO, "3"), share=0.25, by="x"))
FIRST, SECOND = ONE.stable, TWO.stable
THIRD = promoted(TWO, "3").stable
NAMES = frozenset({FIRST.name, SECOND.name, THIRD.name})


def served(release: Release) -> Served:
    return Served(release=release.name, seq=release.seq, model=release.name)


def table(
    document: ReleaseDocument, servable: frozenset[ReleaseName], before: RouteTable | None = None
) -> Routes:
    """Route the one alias."""
    found = routes([document], servable=servable, bases=BASES, before=before or {})
    return found[ALIAS]


def observed(
    *loaded: ReleaseName, capacity: int = 3, in_flight: tuple[ReleaseName, ...] = ()
) -> Observed:
    """Describe a server on which everything that is loaded is proven."""
    names = frozenset(loaded)
    flying = dict.fromkeys(in_flight, 1)
    return Observed(loaded=names, proven=names, in_flight=flying, capacity=capacity)


def test_a_new_pod_loads_what_answers_before_what_is_tried_and_the_way_back_last() -> None:
    """It is ready as soon as its stable release is."""
    steps = next_steps([TRIED], observed(), frozenset())

    loads = [step.release for step in steps if isinstance(step, Load)]
    assert loads == [SECOND, THIRD, FIRST]


def test_each_load_is_followed_by_its_proof() -> None:
    """What is loaded and not proven must never get traffic."""
    steps = next_steps([ONE], observed(), frozenset())

    assert steps == [Load(FIRST), Prove(FIRST)]


def test_what_is_in_place_needs_nothing() -> None:
    """A converged replica is left alone."""
    names = {SECOND.name, FIRST.name}

    assert not next_steps([TWO], observed(*names), frozenset({SECOND.name}))


def test_what_nobody_needs_is_unloaded_first() -> None:
    """Its place may be needed by what comes."""
    old = ReleaseName("assistant.00009.999999999999")

    steps = next_steps([ONE], observed(old, capacity=1), frozenset())

    assert steps == [Unload(old), Load(FIRST), Prove(FIRST)]


def test_a_release_with_requests_or_routes_keeps_its_place() -> None:
    """A long stream ends on the release that it began with."""
    old = FIRST.name
    document = done(changes.retire(TWO, by="x"))

    flying = next_steps([document], observed(old, SECOND.name, in_flight=(old,)), frozenset())
    reachable = next_steps([document], observed(old, SECOND.name), frozenset({old}))

    assert flying == reachable == []


def test_what_does_not_fit_waits() -> None:
    """A load too many would push out an adapter that answers."""
    steps = next_steps([TRIED], observed(capacity=2), frozenset())

    assert [step.release for step in steps if isinstance(step, Load)] == [SECOND, THIRD]


def test_what_failed_is_not_tried_again() -> None:
    """Each failed load costs a live adapter its place in vLLM's cache."""
    seen = Observed(failed={FIRST.name}, capacity=3)

    assert not next_steps([ONE], seen, frozenset())
    assert state(FIRST.name, seen, frozenset()) is State.FAILED


def test_what_failed_gives_its_place_to_what_may_still_serve() -> None:
    """A canary that does nothing must not keep the next stable release out."""
    seen = Observed(loaded={FIRST.name, THIRD.name}, failed={THIRD.name}, capacity=2)

    steps = next_steps([TRIED], seen, frozenset({FIRST.name}))

    assert steps[:3] == [Unload(THIRD.name), Load(SECOND), Prove(SECOND)]


def test_with_one_place_the_old_release_stays() -> None:
    """Going through the base on the way to the next release would drop everyone's adapter."""
    steps = next_steps([TWO], observed(FIRST.name, capacity=1), frozenset({FIRST.name}))

    assert not steps


def test_the_stable_release_answers_once_it_is_proven_and_the_base_until_then() -> None:
    """A new pod must answer something, and never with what is not proven."""
    assert table(ONE, frozenset()).stable == Served(release=BASE, seq=0, model="model")
    assert table(ONE, frozenset({FIRST.name})).stable == served(FIRST)


def test_what_answered_goes_on_until_its_successor_is_proven() -> None:
    """After a swap that cannot be carried out here, nobody falls back to the base."""
    before = {ALIAS: table(ONE, frozenset({FIRST.name}))}

    assert table(TWO, frozenset({FIRST.name}), before).stable == served(FIRST)


def test_previous_stands_in_for_a_stable_that_a_restart_took() -> None:
    """It is the best that is left, and was stable once."""
    assert table(TWO, frozenset({FIRST.name})).stable == served(FIRST)


def test_what_was_rolled_back_does_not_go_on_answering() -> None:
    """Even if what it is rolled back to is not proven yet: the base does no such harm."""
    before = {ALIAS: table(TWO, NAMES)}
    back = done(changes.rollback(TWO, by="x"))

    assert table(back, frozenset({SECOND.name}), before).stable.release == BASE


def test_a_canary_gets_its_share_only_beside_the_stable_it_is_compared_with() -> None:
    """Against a stand-in its numbers would mean nothing."""
    beside = table(TRIED, NAMES)
    alone = table(TRIED, NAMES - {SECOND.name})

    assert (beside.canary, beside.canary_share) == (served(THIRD), 0.25)
    assert (alone.canary, alone.canary_share) == (None, 0.0)


def test_a_staged_release_is_no_route() -> None:
    """At share 0 it is loaded and proven, and nobody can reach it."""
    document = staged(START, "1")

    assert table(document, NAMES).canary is None


def test_an_alias_without_a_base_here_is_not_served() -> None:
    """Another pod's alias must not appear in this pod's list of models."""
    assert routes([ONE], servable=NAMES, bases={}, before={}) == {}


def test_the_base_needs_no_place() -> None:
    """It cannot be loaded, proven or unloaded."""
    assert not wanted([START])
    assert state(BASE, observed(), frozenset({BASE})) is State.SERVING
    assert state(BASE, observed(), frozenset()) is State.PROVEN


def test_a_state_says_how_far_a_release_is() -> None:
    """The scheduler opens a canary only once every replica says proven."""
    name = FIRST.name
    loaded = Observed(loaded={name}, capacity=3)

    assert state(name, observed(), frozenset()) is State.ABSENT
    assert state(name, loaded, frozenset()) is State.LOADED
    assert state(name, observed(name), frozenset()) is State.PROVEN
    assert state(name, observed(name), frozenset({name})) is State.SERVING
    assert state(name, observed(name, in_flight=(name,)), frozenset()) is State.DRAINING


class Server:
    """A model of a server: it loads, proves and unloads, refuses some, and restarts."""

    def __init__(self, capacity: int, refused: frozenset[ReleaseName]) -> None:
        self.capacity = capacity
        self.refused = refused
        self.loaded: set[ReleaseName] = set()
        self.proven: set[ReleaseName] = set()
        self.failed: set[ReleaseName] = set()
        self.in_flight: dict[ReleaseName, int] = {}
        self.table: RouteTable = {}

    def restart(self) -> None:
        self.loaded.clear()
        self.proven.clear()
        self.in_flight.clear()

    def look(self) -> Observed:
        return Observed(
            loaded=frozenset(self.loaded),
            proven=frozenset(self.proven),
            failed=frozenset(self.failed),
            in_flight=dict(self.in_flight),
            capacity=self.capacity,
        )

    def take(self, step: Step) -> None:
        """Do as told; every assertion is a promise to somebody who is being answered."""
        match step:
            case Load(release):
                self.loaded.add(release.name)
                assert len(self.loaded) <= self.capacity
            case Prove(release):
                assert release.name in self.loaded
                good = release.name not in self.refused
                (self.proven if good else self.failed).add(release.name)
            case Unload(name):
                assert not self.in_flight.get(name)
                assert name not in routed(self.table)
                self.loaded.discard(name)
                self.proven.discard(name)

    def converge(self, document: ReleaseDocument) -> Sequence[Step]:
        """Route, take the steps that are safe now, and route again, as a sidecar does."""
        self.route(document)
        steps = next_steps([document], self.look(), routed(self.table))
        for step in steps:
            self.take(step)
        self.route(document)
        return steps

    def route(self, document: ReleaseDocument) -> None:
        servable = frozenset(self.loaded & self.proven)
        self.table = routes([document], servable=servable, bases=BASES, before=self.table)
        assert routed(self.table) <= servable | {BASE}


DOCUMENTS = st.lists(
    st.sampled_from([START, ONE, TWO, TRIED, done(changes.rollback(TRIED, by="x"))]), max_size=8
)
REFUSED = st.frozensets(st.sampled_from(sorted(NAMES)), max_size=2)


@given(DOCUMENTS, st.integers(1, 4), REFUSED, st.sets(st.integers(0, 7)), st.randoms())
def test_whatever_happens_nobody_is_dropped_and_it_comes_to_rest(
    documents: list[ReleaseDocument],
    capacity: int,
    refused: frozenset[ReleaseName],
    restarts: set[int],
    random: Random,
) -> None:
    """Restarts, refusals, full servers and long requests, in any order.

    The server's own assertions hold throughout: it is never overfull, only what is proven is
    routed to, and nothing is unloaded that answers or may be asked to.
    """
    server = Server(capacity, refused)
    for turn, document in enumerate(documents):
        if turn in restarts:
            server.restart()
        server.converge(document)
        server.in_flight = {name: 1 for name in sorted(server.loaded) if random.random() < 0.5}

    server.in_flight = {}
    last = documents[-1] if documents else START
    turns = 0
    while server.converge(last):
        turns += 1
        assert turns < 10, "it never comes to rest"

    # With one place only, what answers holds it: see the test for that.
    if capacity > 1 and last.stable.name not in refused:
        assert server.table[ALIAS].stable.release == last.stable.name
