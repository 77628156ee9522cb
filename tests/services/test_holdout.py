"""Who is held out is one question with one answer, whichever process asks."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.identity import TenantKeys
from feedbackloop.dataset.snapshot import Options, Snapshot, build
from feedbackloop.events import AnyEvent, TenantId, Thumb, UserId
from feedbackloop.labels.gather import Gathering
from feedbackloop.labels.tally import Counts
from services import keyring
from services.scheduler.__main__ import make_tally
from services.sections.learning import Dataset
from services.settings import Settings
from tests.builders import ALIAS, NOON, TENANT, a_completion, a_thumb

LATER = NOON + timedelta(hours=1)
SETTINGS = Settings(dataset=Dataset(holdout_share=0.5))
ACME, BETA, GONE = TenantId("acme"), TenantId("beta"), TenantId("gone")

people = st.lists(
    st.tuples(st.sampled_from([ACME, BETA, GONE]), st.sampled_from("abcdefgh"), st.booleans()),
    max_size=24,
)
secrets = st.binary(min_size=32, max_size=32)


def keys(holdout: bytes) -> TenantKeys:
    return TenantKeys(current="k", receipts={}, pseudonym=b"p", chain=b"c", holdout=holdout)


def votes(people: list[tuple[TenantId, str, bool]]) -> list[AnyEvent]:
    """One completion and one vote each; the tenants' people have the same names."""
    events: list[AnyEvent] = []
    for number, (tenant, name, content) in enumerate(people):
        who = {"tenant": tenant, "user": UserId(name)}
        events.append(a_completion(f"c{number}", prompt=f"{number}?", **who))
        events.append(a_thumb(f"c{number}", Thumb.UP if content else Thumb.DOWN, **who))
    return events


def counted(events: list[AnyEvent], tenants: dict[TenantId, TenantKeys]) -> Counts:
    """Count as the scheduler does."""
    tally = make_tally(SETTINGS, tenants)
    for event in events:
        tally.add(event)
    return tally.counts(ALIAS, now=LATER)


def taken(events: list[AnyEvent], tenants: dict[TenantId, TenantKeys]) -> Snapshot:
    """Make the snapshot as the trainer does, and let nothing but the holdout leave rows out."""
    gathering = Gathering()
    for event in events:
        gathering.add(event)
    options = Options(
        alias=ALIAS,
        until=LATER,
        window_seconds=86_400,
        watermark_seconds=600,
        min_confidence=0.0,
        max_rows_per_user=100,
        max_ratio=100.0,
        holdout_share=SETTINGS.dataset.holdout_share,
    )
    return build(gathering, options, holdouts=keyring.holdouts(tenants))


def test_what_no_snapshot_takes_makes_no_run_due() -> None:
    """A run for the sake of replies that were withheld would have nothing to train on."""
    everybody = Settings(dataset=Dataset(holdout_share=0))
    tally = make_tally(everybody, {TENANT: keys(b"h" * 32)})
    for name, text in {"c1": "[WITHHELD_1]", "c2": "Write to [EMAIL_1]."}.items():
        tally.add(a_completion(name, text=text))
        tally.add(a_thumb(name))

    assert tally.counts(ALIAS, now=LATER) == Counts(desirable=1)


@given(people, secrets, secrets)
def test_what_is_counted_towards_a_run_is_what_the_run_trains_on(
    people: list[tuple[TenantId, str, bool]], one: bytes, other: bytes
) -> None:
    """Or a run starts without its labels, or the gate judges by people who were counted on."""
    tenants = {ACME: keys(one), BETA: keys(other)}

    counts = counted(votes(people), tenants)
    rows = taken(votes(people), tenants).manifest.rows

    assert (rows["desirable"], rows["undesirable"]) == (counts.desirable, counts.undesirable)
    assert rows["desirable"] + rows["undesirable"] <= sum(who != GONE for who, _, _ in people)


@given(people, secrets, secrets, secrets)
def test_one_tenants_secret_moves_nobody_of_another_tenant(
    people: list[tuple[TenantId, str, bool]], one: bytes, other: bytes, another: bytes
) -> None:
    """Each tenant has a holdout of its own, and nobody else's key decides who is in it."""
    events = votes(people)

    before = taken(events, {ACME: keys(one), BETA: keys(other)})
    after = taken(events, {ACME: keys(one), BETA: keys(another)})

    of_acme = {f"c{number}" for number, (tenant, _, _) in enumerate(people) if tenant == ACME}
    assert {row.completion_id for row in before.kto} & of_acme == {
        row.completion_id for row in after.kto
    } & of_acme
