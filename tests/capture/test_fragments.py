from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.fragments import Report, Scored, half, score_fragments
from feedbackloop.capture.retries import Implied
from feedbackloop.events import JsonObject

FOLDER = Path(__file__).parent
KINDS = ("regenerate", "edit", "rephrase", "correction", "stopped", "thanks")
OURS = ("dialogues", "fragments", "blind", "tries")
AIM = (0.9, 0.7)  # precision and recall


def lines(name: str) -> list[str]:
    """The fragments of one of our files."""
    return (FOLDER / name).read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def report() -> Report:
    """The detector on the half of our dialogues that nothing was tuned to."""
    return score_fragments(lines("dialogues.jsonl"), only="held-out")


@pytest.mark.parametrize(
    "name", ["dialogues.jsonl", "fragments.jsonl", "blind.jsonl", "tries.jsonl"]
)
def test_our_dialogues_can_be_read_and_name_their_truth(name: str) -> None:
    """A figure over lines that were skipped is no figure."""
    found = score_fragments(lines(name))

    ids = [line.id for line in found.lines]
    assert found.unreadable == 0
    assert len(set(ids)) == len(ids)
    assert all(line.truth and line.truth_kind for line in found.lines)


@pytest.mark.parametrize(
    "name",
    [f"blind-{author}.jsonl" for author in "abcdef"],
)
def test_a_strangers_dialogues_name_a_kind_exactly_where_there_is_one(name: str) -> None:
    """Whoever has never seen the detector does not know its reasons, only whether it is right."""
    found = score_fragments(lines(name))

    assert found.unreadable == 0
    assert all(
        (line.truth_kind in KINDS) == (line.truth is not Implied.NONE) for line in found.lines
    )


def test_the_labelled_set_is_as_large_and_as_mixed_as_the_page_says() -> None:
    """One kind or one language could carry the mean."""
    found = score_fragments(lines("dialogues.jsonl"))
    languages = Counter(line.id.split("-")[1] for line in found.lines)
    kinds = Counter(line.truth_kind for line in found.lines)

    assert len(found.lines) >= 300
    assert sum(count >= 10 for count in languages.values()) >= 13
    assert all(kinds[kind] >= 25 for kind in KINDS)
    assert kinds.total() - sum(kinds[kind] for kind in KINDS) >= 200


def test_the_halves_are_told_by_the_id_alone_and_are_alike() -> None:
    """Whoever adds a line must not choose its half."""
    halves = [half(line.id) for line in score_fragments(lines("dialogues.jsonl")).lines]

    assert 0.4 <= halves.count("tuned") / len(halves) <= 0.6
    assert half("correction-de-07") == half("correction-de-07")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_found_where_nothing_was_tuned(report: Report, kind: str) -> None:
    """A mean hides a kind that is never recognised; a wrong rejection poisons a label."""
    rate = report.kinds[kind]

    assert (rate.precision or 0) >= AIM[0]
    assert (rate.recall or 0) >= AIM[1]


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("blind-a.jsonl", {"rephrase": (0.9, 0.6)}),
        ("blind-b.jsonl", {"correction": (0.9, 0.85)}),
        ("blind-c.jsonl", {"rephrase": (0.95, 0.85)}),
        ("blind-d.jsonl", {"correction": (0.95, 0.9), "stopped": (0.95, 0.8)}),
        (
            "blind-e.jsonl",
            {"edit": (0.95, 0.9), "rephrase": (0.9, 0.6), "thanks": (0.85, 0.95)},
        ),
        ("blind-f.jsonl", {"edit": (0.95, 0.95), "rephrase": (0.95, 0.6)}),
    ],
)
def test_a_strangers_dialogues_are_read_as_the_page_says(
    name: str, least: dict[str, tuple[float, float]]
) -> None:
    """Nearly all that a stranger says is understood; what is said anew throughout is often not."""
    kinds = score_fragments(lines(name)).kinds

    there = {kind for kind in KINDS if kind in kinds and kinds[kind].true}
    # Some wrote of no answer that was stopped, and the last one of rejections of three kinds alone.
    assert {*KINDS} - there <= {"stopped", "regenerate", "thanks"}
    for kind in there:
        precision, recall = least.get(kind, AIM)
        assert (kinds[kind].precision or 0) >= precision, kind
        assert (kinds[kind].recall or 0) >= recall, kind


def test_few_follow_ups_of_the_hardest_kinds_are_taken_for_second_tries() -> None:
    """They name the subject again after a good answer; what they ask is theirs."""
    found = score_fragments(lines("tries.jsonl")).lines
    others = [line for line in found if line.truth is Implied.NONE]

    assert sum(line.implied is Implied.REJECTED for line in others) <= 0.1 * len(others)


def test_a_line_that_cannot_be_read_is_named() -> None:
    """Teams write these files by hand."""
    found = score_fragments(["", "{", '{"first": {}}', b"\xff", "[" * 100_000])

    assert found.unreadable == 4
    assert [line.line for line in found.lines] == [2, 3, 4, 5]
    assert all(line.error for line in found.lines)


def test_truth_is_optional() -> None:
    """A team first looks at what the detector says, and labels later."""
    line = (
        '{"id": 7, "first": {"messages": [{"role": "user", "content": "Hi"}], "response": "Ho",'
        ' "at": 0}, "second": {"messages": [{"role": "user", "content": "Hi"}], "at": 9}}'
    )

    found = score_fragments([line])

    assert (found.lines[0].id, found.lines[0].implied) == ("7", Implied.REJECTED)
    assert (found.implied, found.kinds) == ({}, {})


def scored(first: JsonObject, second: JsonObject, **named: Any) -> Scored:
    """One fragment's result; its halves hold what is given, and times."""
    line = {"first": {"at": 0} | first, "second": {"at": 30} | second} | named
    (found,) = score_fragments([msgspec.json.encode(line)]).lines
    return found


PIZZA: JsonObject = {"role": "user", "content": "How do I make a pizza at home?"}
ANSWER = "You buy one at the shop."


@pytest.mark.parametrize(
    ("turn", "implied", "kind"),
    [
        ("That's wrong.", Implied.REJECTED, "correction"),
        ("Thanks!", Implied.ACCEPTED, "thanks"),
        ("How do I make a pizza at home without an oven?", Implied.REJECTED, "edit"),
        ("What should I do to make pizza at home?", Implied.REJECTED, "edit"),
        ("How do I make a pizza at home?", Implied.REJECTED, "regenerate"),
        ("Another one", Implied.NONE, "variety"),
        ("Explain the tides", Implied.NONE, "new_request"),
    ],
)
def test_a_new_turn_alone_is_read_as_going_on_or_as_replacing(
    turn: str, implied: Implied, kind: str
) -> None:
    """People leave out the talk that both halves share."""
    said = {"role": "user", "content": turn}

    found = scored({"messages": [PIZZA], "response": ANSWER}, {"messages": [said]})

    assert (found.implied, found.kind) == (implied, kind)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "That's wrong."}],
        [{"role": "assistant", "content": "..."}, {"role": "user", "content": "That's wrong."}],
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            PIZZA,
            {"role": "assistant", "content": ANSWER[:8]},
            {"role": "user", "content": [{"type": "text", "text": "That's wrong."}]},
        ],
    ],
)
def test_a_talk_may_be_given_in_part(messages: list[JsonObject]) -> None:
    """The new turn, the turn and the answer before it, or all with the answer shortened."""
    before = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        PIZZA,
    ]

    found = scored({"messages": before, "response": ANSWER}, {"messages": messages})

    assert (found.implied, found.kind) == (Implied.REJECTED, "correction")


@pytest.mark.parametrize(
    "response",
    [
        ANSWER,
        [ANSWER],
        [{"type": "text", "text": ANSWER}],
        {"role": "assistant", "content": ANSWER},
    ],
)
def test_an_answer_may_have_any_of_its_forms(response: Any) -> None:
    """A text, a list of choices, parts, or the message itself."""
    found = scored({"messages": [PIZZA], "response": response}, {"messages": [PIZZA]})

    assert found.kind == "regenerate"


def test_what_one_half_leaves_out_the_other_has() -> None:
    """A user that is named once is the same user."""
    first = {"messages": [PIZZA], "response": ANSWER, "params": {"model": "a"}, "headers": None}
    second = {"messages": [PIZZA], "params": None, "headers": {"X-Feedbackloop-User": "ann"}}

    assert scored(first, second).kind == "regenerate"
    assert scored(first, second | {"params": {"model": "b"}}).kind == "other_model"


@pytest.mark.parametrize(
    ("response", "kind"),
    [("Buy one.", "regenerate"), ("Buy", "not_read"), ("Knead the dough well. " * 12, "stopped")],
)
def test_an_answer_without_a_reason_was_stopped_unless_it_is_short_and_whole(
    response: str, kind: str
) -> None:
    """Null says both "stopped" and "not known"."""
    first = {"messages": [PIZZA], "response": response, "finish_reason": None}

    assert scored(first, {"messages": [PIZZA]}).kind == kind


def test_kinds_go_by_other_names() -> None:
    """Teams label before they read our page."""
    found = scored(
        {"messages": [PIZZA], "response": ANSWER}, {"messages": [PIZZA]}, kind="Regeneration"
    )

    assert found.truth_kind == "regenerate"


def test_a_kind_of_another_name_is_counted_by_what_it_implies() -> None:
    """ "Follow-up" is none of our words, and is understood or not."""
    line = {
        "kind": "follow_up",
        "implied": "none",
        "first": {"messages": [PIZZA], "response": ANSWER, "at": 0},
        "second": {"messages": [{"role": "user", "content": "Explain the tides"}], "at": 9},
    }

    rate = score_fragments([msgspec.json.encode(line)]).kinds["follow_up"]

    assert (rate.recall, rate.understood) == (0.0, 1.0)


FINDS: dict[str, tuple[str, Implied]] = {
    "correction": ("That's wrong.", Implied.REJECTED),
    "thanks": ("Thanks!", Implied.ACCEPTED),
}


@pytest.mark.parametrize("kind", FINDS)
@pytest.mark.parametrize("truth", [None, *Implied])
def test_a_find_where_nothing_of_the_kind_is_true_is_a_false_one(
    kind: str, truth: Implied | None
) -> None:
    """Most of a team's lines are none of our kinds, and it leaves their kind out."""
    turn, implied = FINDS[kind]
    line = {
        "implied": truth,
        "first": {"messages": [PIZZA], "response": ANSWER, "at": 0},
        "second": {"messages": [{"role": "user", "content": turn}], "at": 9},
    }

    kinds = score_fragments([msgspec.json.encode(line)]).kinds

    if truth in (None, implied):
        assert kinds == {}
    else:
        assert (kinds[kind].precision, kinds[kind].found, kinds[kind].true) == (0.0, 1, 0)


@given(st.text() | st.binary())
def test_no_line_breaks_the_command(line: str | bytes) -> None:
    """One bad line in ten thousand is a number in the report."""
    found = score_fragments([line])

    assert len(found.lines) == bool(line.strip())
