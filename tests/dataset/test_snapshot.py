"""A snapshot is a function of the log, and says what it left out."""

from collections.abc import Sequence
from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.dataset.snapshot import Options, Snapshot, build, decode, digest, encode
from feedbackloop.events import (
    AnyEvent,
    CaptureGap,
    EventId,
    Outcome,
    Reply,
    TenantId,
    Thumb,
    UserId,
)
from feedbackloop.labels.gather import Gathering
from feedbackloop.log.completeness import Completeness
from tests.builders import ALIAS, NOON, TENANT, a_completion, a_retry, a_thumb, an_outcome

HOLDOUTS = {TENANT: b"0123456789abcdef"}
LATER = NOON + timedelta(hours=1)


def traffic(people: int = 40) -> list[AnyEvent]:
    """Everybody asks, half like it, half ask again and take the second answer."""
    events: list[AnyEvent] = []
    for n in range(people):
        who = UserId(f"user-{n}")
        first, second = f"a{n}", f"b{n}"
        events.append(a_completion(first, text="short", user=who))
        if n % 2:
            events.append(a_thumb(first, user=who))
            continue
        events.append(a_retry(first, second, user=who))
        events.append(a_completion(second, text="explained", user=who))
        events.append(an_outcome(second, user=who))
    return events


def options(**changed: Any) -> Options:
    fields: dict[str, Any] = {
        "alias": ALIAS,
        "until": LATER,
        "window_seconds": 86_400,
        "watermark_seconds": 600,
        "min_confidence": 0.6,
        "max_rows_per_user": 20,
        "max_ratio": 2.0,
        "holdout_share": 0.25,
    }
    return Options(**(fields | changed))


def snapshot(events: Sequence[AnyEvent], **changed: Any) -> Snapshot:
    gathering = Gathering()
    for event in events:
        gathering.add(event)
    return build(gathering, options(**changed), holdouts=HOLDOUTS)


@given(st.randoms(use_true_random=False))
def test_the_same_log_makes_the_same_bytes(random: Random) -> None:
    """Whatever the order, however often delivered, and with whatever came later."""
    events = traffic(12)
    again = [*events, *events, a_thumb("a1", Thumb.DOWN, at=LATER + timedelta(seconds=1))]
    random.shuffle(again)

    assert digest(encode(snapshot(events))) == digest(encode(snapshot(again)))


def test_reading_a_snapshot_back_gives_the_snapshot() -> None:
    """The trainer is another process on another machine."""
    made = snapshot(traffic())

    assert decode(encode(made)) == made


def test_a_snapshot_from_when_there_was_one_secret_can_still_be_read() -> None:
    """A run that waits in the canary names a snapshot that an older version made."""
    files = encode(snapshot(traffic()))
    manifest = msgspec.json.decode(files["manifest.json"])
    manifest |= {"format": 2, "holdout": "0123456789abcdef"}

    old = decode(files | {"manifest.json": msgspec.json.encode(manifest)})

    assert old.manifest.holdout == "0123456789abcdef"


def test_a_snapshot_from_before_placeholders_were_looked_for_can_still_be_read() -> None:
    """And says that it looked for none."""
    files = encode(snapshot(traffic()))
    manifest = msgspec.json.decode(files["manifest.json"])
    del manifest["options"]["untrained"]

    old = decode(files | {"manifest.json": msgspec.json.encode(manifest)})

    assert old.manifest.options.untrained == ()


def test_what_nobody_can_hold_out_is_neither_trained_on_nor_judged_by() -> None:
    """A tenant whose secrets are lost has rows that the gate may have seen, or may yet see."""
    gone = TenantId("gone")

    made = snapshot([a_completion("c1", tenant=gone), a_thumb("c1", tenant=gone)])

    assert (made.kto, made.held_out_kto) == ((), ())
    assert made.manifest.left_out == {"no_secret": 1}
    assert made.manifest.holdout == {}


def test_a_tenant_who_comes_later_changes_no_snapshot() -> None:
    """Another attempt has to find the same rows under the same name."""
    gathering = Gathering()
    for event in traffic(12):
        gathering.add(event)

    with_another = build(gathering, options(), holdouts={**HOLDOUTS, TenantId("new"): b"x"})

    assert digest(encode(with_another)) == digest(encode(snapshot(traffic(12))))


def test_nobody_is_both_trained_on_and_judged_by() -> None:
    """A gate that has seen the exam is no gate."""
    made = snapshot(traffic())

    train = {row.unit for row in made.kto} | {row.unit for row in made.dpo}
    judge = {row.unit for row in made.held_out_kto} | {row.unit for row in made.held_out_dpo}
    assert train
    assert judge
    assert not train & judge


def test_another_seed_may_leave_out_other_rows_but_as_many() -> None:
    """Down-sampling is by chance, and chance is an argument."""
    one, other = snapshot(traffic(), seed=1), snapshot(traffic(), seed=2)

    assert one.manifest.rows == other.manifest.rows


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"outcome": Outcome.CLIENT_GONE}, "outcome_client_gone"),
        ({"replies": (Reply(text="4", finish_reason="length"),)}, "finish_reason"),
        ({"replies": (Reply(text="  ", finish_reason="stop"),)}, "empty"),
        ({"replies": (Reply(text="4", finish_reason="stop"),) * 2}, "several_choices"),
        ({"replies": ()}, "no_reply"),
    ],
)
def test_what_is_left_out_is_counted_by_its_reason(changed: dict[str, Any], reason: str) -> None:
    """A loss that nobody counts is a bug."""
    made = snapshot([a_completion("c1", **changed), a_thumb("c1")], holdout_share=0)

    assert (made.manifest.left_out, made.kto) == ({reason: 1}, ())


def test_one_person_cannot_fill_a_snapshot() -> None:
    """Nobody's votes dominate a dataset."""
    events: list[AnyEvent] = []
    for n in range(30):
        events += [a_completion(f"c{n}", prompt=f"{n}?"), a_thumb(f"c{n}")]

    made = snapshot(events, max_rows_per_user=5, holdout_share=0)

    assert len(made.kto) == 5
    assert made.manifest.left_out == {"user_cap": 25}
    assert made.manifest.influence["kto"].largest_share == 1.0


def test_declared_losses_and_orphans_are_in_the_manifest() -> None:
    """Every dataset states its completeness."""
    gap = CaptureGap(
        event_id=EventId("g"),
        tenant=TENANT,
        at=NOON,
        producer="p",
        first=3,
        last=7,
        count=5,
        reason="disk_full",
        until=NOON,
    )

    vote = a_thumb("unknown", producer="p", seqs=(8,))

    made = snapshot([a_completion("c1", producer="p", seqs=(0, 1)), vote, gap])

    found = made.manifest.completeness
    assert found.orphans == 1
    assert found.records == Completeness(
        producers=1,
        expected=8,
        seen=3,
        declared={"disk_full": 5},
        pending=1,
        ratio=3 / 8,
    )


def test_a_completion_that_is_not_ripe_waits_for_the_next_round() -> None:
    """A thumb may still come."""
    fresh = a_completion("c1", ended_at=LATER - timedelta(seconds=1))

    made = snapshot([fresh, a_thumb("c1", at=LATER)], holdout_share=0)

    assert made.kto == ()
