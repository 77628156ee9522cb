"""Who answers, and how many are under way."""

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.events import BASE, Arm, ConversationId, ReleaseName
from feedbackloop.serving.routing import Routes, Served
from services.sidecar.router import Router
from tests.services.sidecar.stub import ALIAS

ONE = Served(release=ReleaseName("assistant.00001.aaaaaaaaaaaa"), seq=1, model="one")
TWO = Served(release=ReleaseName("assistant.00002.bbbbbbbbbbbb"), seq=2, model="two")
TALK = ConversationId("0011223344556677")


def rollout(share: float, *, epoch: int = 1, stable: Served = ONE) -> dict[str, Routes]:
    return {
        ALIAS: Routes(
            alias=ALIAS, epoch=epoch, stable=stable, canary=TWO, canary_share=share, salt="s"
        )
    }


def a_router(share: float = 0.0) -> Router:
    router = Router({ALIAS: "base"})
    router.set({ALIAS: rollout(share)[ALIAS]})
    return router


def test_a_talk_stays_on_the_release_that_it_began_with() -> None:
    """Somebody in the middle of a talk should not meet another voice."""
    router = a_router(share=0.0)
    router.pick(ALIAS, "ann", TALK)
    router.set({ALIAS: rollout(1.0)[ALIAS]})

    picked = router.pick(ALIAS, "ann", TALK)

    assert picked is not None
    assert (picked.served, picked.arm, picked.propensity) == (ONE, Arm.STABLE, 1.0)


def test_a_new_talk_goes_where_the_share_sends_it() -> None:
    """What is remembered must not keep a canary from its traffic."""
    router = a_router(share=1.0)

    picked = router.pick(ALIAS, "ann", TALK)

    assert picked is not None
    assert (picked.served, picked.propensity) == (TWO, 1.0)


def test_a_talk_whose_release_is_gone_is_routed_anew() -> None:
    """After a promotion the old stable release is on its way out of memory."""
    router = a_router(share=0.0)
    router.pick(ALIAS, "ann", TALK)
    router.set({ALIAS: Routes(alias=ALIAS, epoch=2, stable=TWO)})

    picked = router.pick(ALIAS, "ann", TALK)

    assert picked is not None
    assert (picked.served, picked.epoch) == (TWO, 2)


def test_only_so_many_talks_are_remembered() -> None:
    """Memory is bounded, however many people come."""
    router = Router({ALIAS: "base"}, remembered=1)
    router.set({ALIAS: rollout(0.0)[ALIAS]})
    router.pick(ALIAS, "ann", TALK)
    router.pick(ALIAS, "bob", ConversationId("8899aabbccddeeff"))
    router.set({ALIAS: rollout(1.0)[ALIAS]})

    picked = router.pick(ALIAS, "ann", TALK)

    assert picked is not None
    assert picked.served == TWO


@given(st.lists(st.tuples(st.text(max_size=3), st.booleans()), max_size=20))
def test_who_came_also_left(visits: list[tuple[str, bool]]) -> None:
    """A release that never counts down to zero is never unloaded."""
    router = a_router(share=0.5)
    tickets = []
    for unit, moves in visits:
        ticket = router.admit(ALIAS, unit)
        assert ticket is not None
        tickets.append(ticket)
        if moves:
            ticket.move(TWO)
    assert sum(router.counts().values()) == len(visits)

    for ticket in tickets:
        ticket.leave()

    assert router.counts() == {}


def test_a_lost_canary_falls_back_to_stable_and_then_to_the_base() -> None:
    """A vLLM that restarted has forgotten adapters, and still has its base."""
    lost: list[ReleaseName] = []
    router = Router({ALIAS: "base"}, on_lost=lost.append)
    router.set({ALIAS: rollout(0.5)[ALIAS]})

    first = router.lost(ALIAS, TWO)
    second = router.lost(ALIAS, ONE)
    third = router.lost(ALIAS, Served(release=BASE, seq=0, model="base"))

    assert first == ONE
    assert second is not None
    assert (second.release, third) == (BASE, None)
    assert lost == [TWO.release, ONE.release, BASE]


def test_an_alias_that_nobody_configured_has_no_release() -> None:
    """Unknown names never reach vLLM, which would keep each in mind for ever."""
    router = a_router()

    picked = router.pick(ALIAS, "ann"), router.admit(type(ALIAS)("other"), "ann")

    assert picked[0] is not None
    assert picked[1] is None
