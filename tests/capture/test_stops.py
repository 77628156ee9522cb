"""A stop before anything could be read, and what the person wrote after it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.retries import Implication, Implied, Rules, judge
from feedbackloop.events import Outcome, RetryKind
from tests.capture.talks import sketched, talk

ASKED = "Name three rivers in France for a crossword"
ANSWER = "France is a country in western Europe with a long history of navigation "
STOPPED: dict[str, Any] = {"outcome": Outcome.CLIENT_GONE, "finish_reason": None}

OBJECTIONS = [
    "That's not what I asked",
    "No, I meant rivers",
    "stop. only the names of the rivers",
    "just the names please",
    "way too long",
    "nur die Namen bitte",
    "seulement les noms",
    "solo los nombres",
]
"""What nobody says who has read nothing."""

ANEW = ["three rivers of France, for a crossword", "Which three French rivers fit a crossword?"]
EDITED = ["Name three long rivers in France for a crossword", f"{ASKED}, names only"]
SILENT = [
    "Explain the tides to me",
    "How old do elephants get?",
    "Thanks!",
    "continue",
    "I hit stop by accident, please go on",
    "another one",
    "Wie alt werden Elefanten?",
]
"""What says nothing of an answer, whoever stopped it."""

SHOWN = st.integers(1, 29)


def stopped(turns: list[str], shown: int, rules: Rules | None = None) -> Implication:
    """What a prompt half a minute later says of an answer that was stopped."""
    text = " ".join((ANSWER * 3).split()[:shown])
    later = [turn or text for turn in turns]
    found = judge(
        sketched("c1", talk(ASKED), text, **STOPPED),
        sketched("c2", talk(*later), at=30),
        rules=rules or Rules(),
    )
    assert found is not None
    return found


@given(st.sampled_from(OBJECTIONS), SHOWN)
def test_who_objects_had_read_enough(turn: str, shown: int) -> None:
    """A stop says nothing before something was shown, but words about it say that it was read."""
    found = stopped([ASKED, "", turn], shown)

    assert (found.implied, found.kind) == (Implied.REJECTED, RetryKind.STOPPED)


@given(st.sampled_from(SILENT), SHOWN)
def test_a_new_subject_and_thanks_say_nothing_of_what_was_not_read(turn: str, shown: int) -> None:
    """People stop answers for reasons of their own, and go on to the next thing."""
    found = stopped([ASKED, "", turn], shown)

    assert (found.implied, found.reason) == (Implied.NONE, "not_read")


@given(SHOWN)
def test_a_bare_stop_says_nothing(shown: int) -> None:
    """Whoever stops and sends the same again may have a bad connection, or a client that tries."""
    found = stopped([ASKED], shown)

    assert (found.implied, found.reason) == (Implied.NONE, "not_read")


@given(st.sampled_from([*[[ASKED, "", one] for one in ANEW], *[[one] for one in EDITED]]), SHOWN)
def test_a_wish_said_anew_counts_once_the_answers_way_could_be_seen(
    turns: list[str], shown: int
) -> None:
    """Who mends a wish after three words shown has seen a slip of their own, not the answer."""
    found = stopped(turns, shown)

    expected = RetryKind.STOPPED if shown >= 10 else None
    assert found.kind is expected
    assert expected is not None or found.reason == "not_read"


TURNS = st.sampled_from(
    [
        [ASKED],
        *[[ASKED, "", one] for one in [*OBJECTIONS, *SILENT, *ANEW]],
        *[[one] for one in [*EDITED, *SILENT]],
    ]
)


@given(TURNS, st.integers(1, 60), st.integers(1, 60), st.integers(1, 100))
def test_the_more_was_shown_the_more_a_turn_says(
    turns: list[str], one: int, other: int, least: int
) -> None:
    """What counts after a glance counts after a longer look; a higher limit never finds more."""
    few, many = sorted((one, other))
    rules = Rules(min_shown_tokens=least)

    if stopped(turns, few, rules).kind is not None:
        assert stopped(turns, many, rules).kind is not None
        assert stopped(turns, few, Rules(min_shown_tokens=min(few, least))).kind is not None


@pytest.mark.parametrize(
    ("asked", "shown", "turn"),
    [
        (
            "Explique la photosynthèse",
            "La photosynthèse est un processus biochimique par lequel les",
            "beaucoup trop compliqué",
        ),
        ("Напиши функцию на Python", "public class Main {", "на питоне же"),
        ("富士山の高さを教えて", "富士山は日本の象徴であり、古くから", "高さだけください"),
    ],
)
def test_a_few_words_say_that_less_or_other_was_wanted(asked: str, shown: str, turn: str) -> None:
    """Each language has its own way to say "only"."""
    found = judge(
        sketched("c1", talk(asked), shown, **STOPPED),
        sketched("c2", talk(asked, shown, turn), at=20),
    )

    assert found is not None
    assert found.kind is RetryKind.STOPPED
