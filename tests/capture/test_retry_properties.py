"""What holds for every two prompts, whatever they are."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.retries import PRIORS, Crowd, Implied, Rules, event, judge
from feedbackloop.capture.sketch import Sketch
from feedbackloop.events import Outcome, RetryKind
from tests.capture.asking_again import EXCLUDED, PIZZA
from tests.capture.talks import sketched, talk

TURNS = st.sampled_from(
    [PIZZA, "That's wrong", "Thanks", "another", "How can I make pizza at home", "Why?", ""]
)


SKETCHES = st.builds(
    lambda name, turns, at, took, outcome: sketched(
        name, talk(*turns), at=at, took=took, outcome=outcome
    ),
    name=st.sampled_from(["c1", "c2", "c3"]),
    turns=st.lists(TURNS, min_size=1, max_size=3),
    at=st.floats(0, 1000),
    took=st.floats(0, 30),
    outcome=st.sampled_from(Outcome),
)


@given(SKETCHES, SKETCHES)
def test_a_judgement_is_always_one_that_labels_understand(first: Sketch, second: Sketch) -> None:
    """Whatever two prompts hold, kinds have priors, and nothing implied is nothing made."""
    found = judge(first, second)

    if found is None:
        return
    assert (found.kind is not None) == (found.implied is Implied.REJECTED)
    assert found.confidence == (
        PRIORS[found.kind] if found.kind else (0.75 if found.implied is Implied.ACCEPTED else 0.5)
    )
    assert (event(first, second, found) is None) == (found.implied is Implied.NONE)
    assert 0 <= found.similarity <= 1


REACTIONS = st.builds(
    lambda turns, after, changed: (turns, after, changed),
    turns=st.sampled_from(
        [
            (PIZZA,),
            (PIZZA + " Without an oven.",),
            ("How can I make pizza at home?",),
            (PIZZA, "Buy one.", "How can I make pizza at home?"),
            (PIZZA, "Buy one.", "That's wrong."),
            (PIZZA, "Buy one.", "Thanks!"),
            (PIZZA, "Buy one.", "Explain the tides"),
        ]
    ),
    after=st.floats(0, 1000),
    changed=st.sampled_from([{}, *(EXCLUDED[name] for name in sorted(EXCLUDED))]),
)


@given(REACTIONS, st.floats(0, 1), st.floats(0, 1))
def test_a_stricter_threshold_never_finds_more(
    reaction: tuple[tuple[str, ...], float, dict[str, Any]], one: float, other: float
) -> None:
    """Operators turn thresholds up to get fewer rejections, and must get fewer."""
    turns, after, changed = reaction
    loose, strict = sorted((one, other))
    first, second = asked(turns, after, changed)

    lax, firm = (
        judge(first, second, rules=Rules(rephrase_similarity=limit, edit_similarity=limit))
        for limit in (loose, strict)
    )

    assert (lax is None) == (firm is None)
    if firm is not None and firm.kind in (RetryKind.EDIT, RetryKind.REPHRASE):
        assert lax is not None
        assert lax.implied is Implied.REJECTED


@given(REACTIONS, st.floats(0, 500), st.floats(0, 500))
def test_a_shorter_wait_never_finds_more(
    reaction: tuple[tuple[str, ...], float, dict[str, Any]], one: float, other: float
) -> None:
    """The two limits on time close from both sides."""
    turns, after, changed = reaction
    short, long = sorted((one, other))
    first, second = asked(turns, after, changed)

    narrow = judge(first, second, rules=Rules(max_gap_seconds=short, min_gap_seconds=1))
    wide = judge(first, second, rules=Rules(max_gap_seconds=long, min_gap_seconds=0))

    if narrow is not None and narrow.implied is not Implied.NONE:
        assert wide is not None
        assert wide.implied is narrow.implied


@given(REACTIONS)
def test_judging_is_a_function_of_the_two_completions(
    reaction: tuple[tuple[str, ...], float, dict[str, Any]],
) -> None:
    """A replica, a replay and next month's labelling must say the same."""
    turns, after, changed = reaction
    first, second = asked(turns, after, changed)

    found, again = judge(first, second), judge(first, second)

    assert found == again
    assert judge(first, second, crowd=Crowd(askers=1, times=1, pace=1)) == found


@given(REACTIONS, st.sampled_from(sorted(EXCLUDED.keys() - {"same_answer", "not_read"})))
def test_no_words_and_no_likeness_outrank_an_exclusion(
    reaction: tuple[tuple[str, ...], float, dict[str, Any]], reason: str
) -> None:
    """An exclusion is a fact about the requests; what the words say is our guess."""
    turns, after, _ = reaction
    first, second = asked(turns, after, EXCLUDED[reason])

    found = judge(first, second)

    assert found is None or found.implied is Implied.NONE


def asked(turns: tuple[str, ...], after: float, changed: dict[str, Any]) -> tuple[Sketch, Sketch]:
    """A question, and so many seconds later a talk that may react to its answer."""
    changed = dict(changed)
    earlier, answer = changed.pop("earlier", {}), changed.pop("answer", "Buy one.")
    after = min(after, changed.pop("after", after))
    return (
        sketched("c1", talk(PIZZA), answer, **earlier),
        sketched("c2", talk(*turns), at=1.0 + after, **changed),
    )
