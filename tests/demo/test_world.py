"""The world that the demonstration talks about."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from demo.world import (
    SATISFIED,
    Intent,
    Item,
    Question,
    Style,
    Task,
    items,
    judge,
    lesson,
    questions,
    reply,
    satisfaction,
)

some_items = st.sampled_from(Task).flatmap(lambda task: st.sampled_from(items(task)))
some_questions = st.sampled_from(Task).flatmap(
    lambda task: st.sampled_from(questions(task, held_out=False))
)


@given(some_items, st.sampled_from(Style))
def test_a_reply_is_judged_as_it_was_meant(item: Item, style: Style) -> None:
    """Satisfaction and capability both rest on reading a reply rightly."""
    judgement = judge(item, reply(item, style))

    assert (judgement.style, judgement.right) == (style, True)


@given(some_items, some_items, st.sampled_from(Style))
def test_a_wrong_answer_is_wrong_in_every_style(item: Item, other: Item, style: Style) -> None:
    """Sounding right must not count as being right."""
    judgement = judge(item, reply(item, style, other.answer))

    assert judgement.right is (item.answer == other.answer)


@given(some_questions, st.text())
def test_any_text_can_be_judged(question: Question, text: str) -> None:
    """A model says anything; the judge must have a number for it."""
    share = satisfaction(question, text)

    assert 0 <= share <= 1


@given(some_questions, some_items, st.sampled_from(Style))
def test_nobody_likes_a_wrong_answer_better(question: Question, other: Item, style: Style) -> None:
    """Otherwise the loop would be right to unlearn arithmetic."""
    right = satisfaction(question, reply(question.item, style))

    wrong = satisfaction(question, reply(question.item, style, other.answer))

    assert wrong <= right


def test_what_people_like_depends_on_what_they_asked_for() -> None:
    """One style for everybody would be learnt without reading the question."""
    best = {intent: max(Style, key=lambda style: SATISFIED[intent][style]) for intent in Intent}

    assert best == {Intent.QUICK: Style.TERSE, Intent.EXPLAIN: Style.EXPLAINED}


def test_no_two_questions_read_alike() -> None:
    """A prompt that meant two things would have two right answers."""
    prompts = [
        question.prompt
        for task in (Task.ADD, Task.CAPITAL, Task.SORT)
        for held_out in (True, False)
        for question in questions(task, held_out=held_out)
    ]

    assert len(prompts) == len(set(prompts))


def test_nothing_that_is_held_out_is_asked_in_other_words() -> None:
    """A paraphrase in the traffic would leak the item that measures."""
    asked = {question.item.subject for question in questions(Task.ADD, held_out=False)}
    kept = {question.item.subject for question in questions(Task.ADD, held_out=True)}

    assert asked.isdisjoint(kept)
    assert 0.1 < len(kept) / (len(asked) + len(kept)) < 0.3


@given(some_questions, st.integers())
def test_the_base_is_only_taught_what_is_right(question: Question, seed: int) -> None:
    """A base that errs by itself would hide what training costs."""
    taught = lesson(question, Random(seed))

    assert judge(question.item, taught).right
