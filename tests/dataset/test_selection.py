"""What may be trained on: nothing that a model must not learn to say."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.placeholders import UNTRAINED, kinds
from feedbackloop.dataset.selection import unusable
from feedbackloop.dataset.snapshot import Options, Snapshot, build
from feedbackloop.events import AnyEvent, Reply, Unkept, UserId
from feedbackloop.labels.gather import Gathering
from tests.builders import (
    ALIAS,
    NOON,
    TENANT,
    a_choice,
    a_completion,
    a_correction,
    a_retry,
    a_thumb,
)

Signalled = Callable[[str], AnyEvent]
KINDS = ("SECRET", "WITHHELD", "URL_CREDENTIALS", "EMAIL", "PERSON")
TEXTS = st.lists(
    st.one_of(
        st.sampled_from(["write to", "[", "]", "[1]", "[SECRET]", "[SECRET_0]", "SECRET_1"]),
        st.builds("[{}_{}]".format, st.sampled_from(KINDS), st.integers(1, 99)),
    ),
    min_size=1,
).map(" ".join)


def snapshot(events: Sequence[AnyEvent], *, untrained: Sequence[str] = UNTRAINED) -> Snapshot:
    gathering = Gathering()
    for event in events:
        gathering.add(event)
    options = Options(
        alias=ALIAS,
        until=NOON + timedelta(hours=1),
        window_seconds=86_400,
        watermark_seconds=0,
        min_confidence=0.5,
        max_rows_per_user=20,
        max_ratio=100,
        holdout_share=0.3,
        untrained=tuple(untrained),
    )
    return build(gathering, options, holdouts={TENANT: b"0123456789abcdef"})


def asked_again(first: str, second: str, *, n: int = 0) -> list[AnyEvent]:
    """Somebody asks, asks again, and likes the second answer."""
    one, other, who = f"a{n}", f"b{n}", UserId(f"user-{n}")
    return [
        a_completion(one, text=first, user=who),
        a_retry(one, other, user=who),
        a_completion(other, text=second, user=who),
        a_thumb(other, user=who),
    ]


def learned(made: Snapshot) -> list[str]:
    """Every text that a model is trained to say or not to say, or judged by."""
    singles = [row.completion for row in (*made.kto, *made.held_out_kto)]
    pairs = [side for row in (*made.dpo, *made.held_out_dpo) for side in (row.chosen, row.rejected)]
    return [messages[0]["content"] for messages in (*singles, *pairs)]


def accounted(made: Snapshot) -> int:
    """Count the completions that became rows, or were left out for a reason."""
    return len(made.kto) + sum(made.manifest.left_out.values())


@pytest.mark.parametrize("kind", UNTRAINED)
def test_a_reply_with_what_was_withheld_is_left_out_and_counted(kind: str) -> None:
    """A model that learns from it says "[SECRET_1]" to people who asked for something else."""
    events = [e for n in range(9) for e in asked_again(f"It is [{kind}_1].", "Ask Jane.", n=n)]

    made = snapshot(events)

    assert set(learned(made)) == {"Ask Jane."}
    assert made.manifest.left_out == {"placeholder": made.manifest.rows["desirable"]}


@pytest.mark.parametrize(
    "signal", [a_thumb, lambda c: a_correction(c, "4"), lambda c: a_choice(c, 1)]
)
@pytest.mark.parametrize("choices", [1, 3])
def test_what_was_not_kept_is_never_trained_on(signal: Signalled, choices: int) -> None:
    """Not even by a team that trains on placeholders: this one stands for what nobody knows."""
    unkept = (Unkept(part="reply", size=9_000, digest="00" * 16),)
    replies = (Reply(text="[WITHHELD_1]"),) * choices
    events: list[AnyEvent] = [a_completion("c1", replies=replies, unkept=unkept), signal("c1")]
    events += [a_completion("c2", user=UserId("bob")), a_thumb("c2", user=UserId("bob"))]

    made = snapshot(events, untrained=())

    assert set(learned(made)) <= {"4"}
    assert not made.dpo
    assert unusable(a_completion("c1", unkept=unkept)) == "unkept"


def test_a_prompt_with_what_was_withheld_is_trained_on() -> None:
    """A model only learns to say what stands in a reply."""
    completion = a_completion("c1", prompt="Is [SECRET_1] a good password?", text="No.")

    assert unusable(completion, untrained=UNTRAINED) is None


@pytest.mark.parametrize(
    "events",
    [
        asked_again("4", "Use [SECRET_1]"),
        asked_again("Use [SECRET_1]", "4"),
        [a_completion("c1", text="4"), a_correction("c1", "Use [SECRET_1]")],
        [a_completion("c1", text="Use [SECRET_1]"), a_correction("c1", "4")],
        [
            a_completion(
                "c1",
                replies=tuple(Reply(text=t, finish_reason="stop") for t in ("4", "[SECRET_1]")),
            ),
            a_choice("c1", 1),
        ],
    ],
    ids=["accepted", "asked again", "correction", "corrected", "choice"],
)
def test_no_side_of_a_pair_holds_what_was_withheld(events: list[AnyEvent]) -> None:
    """What people wrote themselves was redacted as well."""
    made, lax = snapshot(events), snapshot(events, untrained=())

    assert not made.dpo + made.held_out_dpo
    assert lax.dpo + lax.held_out_dpo


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=8), st.lists(st.sampled_from(KINDS), unique=True))
def test_whatever_was_said_nothing_untrained_is_learned_and_nothing_else_is_lost(
    said: list[tuple[str, str]], untrained: list[str]
) -> None:
    """Each labelled completion is a row, held out or counted under the reason why not."""
    events = [e for n, texts in enumerate(said) for e in asked_again(*texts, n=n)]

    made, lax = snapshot(events, untrained=untrained), snapshot(events, untrained=())

    assert all(kinds(text).isdisjoint(untrained) for text in learned(made))
    assert accounted(made) == accounted(lax)


@given(TEXTS, st.sets(st.sampled_from(KINDS)), st.sets(st.sampled_from(KINDS)))
def test_more_kinds_never_let_more_in(text: str, some: set[str], more: set[str]) -> None:
    """Operators add a kind to be safer, and must be."""
    completion = a_completion("c1", text=text)

    if unusable(completion, untrained=some | more) is None:
        assert unusable(completion, untrained=some) is None
