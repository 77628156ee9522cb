"""Which adapters may go."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.events import ReleaseName, RunId
from feedbackloop.promotion.release import Release, ReleaseDocument
from feedbackloop.promotion.retention import Retention, collectable
from feedbackloop.training.run import FINAL, Run, RunState
from tests.builders import ALIAS, NOON

RETENTION = Retention(releases=2, grace_seconds=3600)
LATER = NOON + timedelta(days=1)
DIGESTS = [f"{number:064x}" for number in range(0x10**63, 0x10**63 * 8, 0x10**63)]


def a_run(digest: str, state: RunState = RunState.REFUSED, **changed: Any) -> Run:
    fields: dict[str, Any] = {
        "run": RunId(f"run-{digest[:6]}-{state}"),
        "alias": ALIAS,
        "slot": digest,
        "state": state,
        "attempt": 1,
        "version": 1,
        "epoch": 1,
        "reason": "",
        "recipe": {},
        "created_at": NOON,
        "changed_at": NOON,
        "facts": {"train": {"digest": digest}},
    }
    return Run(**(fields | changed))


def a_release(digest: str, seq: int) -> Release:
    return Release(name=ReleaseName(f"{ALIAS}.{seq:05d}.{digest[:12]}"), seq=seq, digest=digest)


def going(runs: list[Run], history: list[ReleaseDocument] | None = None, **given: Any) -> list[str]:
    options: dict[str, Any] = {"served": [], "retention": RETENTION, "now": LATER}
    return collectable(DIGESTS, runs=runs, histories=[history or []], **(options | given))


def test_what_was_refused_long_ago_goes() -> None:
    """Most candidates end so, and each holds some hundred megabytes."""
    assert going([a_run(DIGESTS[0])]) == [DIGESTS[0]]


def test_what_nobody_made_stays() -> None:
    """Somebody put it there by hand, and may have no other copy."""
    assert going([]) == []


def test_what_ended_a_moment_ago_stays() -> None:
    """People look at a candidate that was refused."""
    assert going([a_run(DIGESTS[0], changed_at=LATER - timedelta(seconds=3599))]) == []


def test_while_a_run_trains_nothing_goes() -> None:
    """It may make the same bytes: they would be found in the store, and then be gone."""
    assert going([a_run(DIGESTS[0]), a_run("", RunState.TRAIN, facts={})]) == []


def test_what_a_sidecar_still_has_stays() -> None:
    """It may follow an older document, or one that was given to it by hand."""
    served = [a_release(DIGESTS[0], 1).name]

    assert going([a_run(DIGESTS[0])], served=served) == []


def test_what_another_run_made_again_and_is_not_done_with_stays() -> None:
    """The same rows and the same seed make the same bytes."""
    runs = [a_run(DIGESTS[0]), a_run(DIGESTS[0], RunState.CANARY)]

    assert going(runs) == []


def test_the_last_releases_stay_and_older_ones_go() -> None:
    """Whoever asks what changed a week ago wants to run both."""
    history = [
        ReleaseDocument(alias=ALIAS, epoch=seq, stable=a_release(DIGESTS[seq], seq))
        for seq in range(1, 6)
    ][::-1]

    gone = going([a_run(digest, RunState.PROMOTED) for digest in DIGESTS[1:6]], history)

    assert gone == DIGESTS[1:4]


@given(
    st.lists(st.tuples(st.sampled_from(DIGESTS), st.sampled_from(RunState), st.integers(0, 7200))),
    st.lists(st.lists(st.sampled_from(DIGESTS), min_size=3, max_size=3), max_size=6),
    st.lists(st.sampled_from(DIGESTS), max_size=2),
)
def test_nothing_that_anybody_needs_ever_goes(
    made: list[tuple[str, RunState, int]], documents: list[list[str]], served: list[str]
) -> None:
    """A folder that is gone cannot be loaded again, and a rollback needs it at once."""
    runs = [
        a_run(digest, state, changed_at=LATER - timedelta(seconds=ago))
        for digest, state, ago in made
    ]
    history = [
        ReleaseDocument(
            alias=ALIAS,
            epoch=epoch,
            stable=a_release(stable, 3 * epoch),
            canary=a_release(canary, 3 * epoch + 1),
            previous=a_release(previous, 3 * epoch + 2),
        )
        for epoch, (stable, canary, previous) in enumerate(documents, start=1)
    ][::-1]

    gone = set(going(runs, history, served=[a_release(one, 1).name for one in served]))

    in_force = set(documents[-1]) if documents else set()
    unfinished = {digest for digest, state, _ in made if state not in FINAL}
    young = {digest for digest, _, ago in made if ago < 3600}
    assert not gone & (in_force | unfinished | young | set(served))
    assert gone <= {digest for digest, _, _ in made}
