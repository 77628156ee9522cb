"""How satisfaction and capability are measured."""

import pytest

from demo.measure import exam_questions, mean_of, traffic_questions
from demo.world import TRAFFIC_TASKS, Task


def test_a_mean_comes_with_its_normal_interval() -> None:
    """Of 0, 0, 1, 1: variance 1/3, so the error of the mean is sqrt(1/12) = 0.2887."""
    measured = mean_of([0, 0, 1, 1])

    assert measured.mean == 0.5
    assert measured.interval == pytest.approx(
        (0.5 - 1.96 * 0.28868, 0.5 + 1.96 * 0.28868), abs=1e-4
    )


def test_satisfaction_is_measured_on_what_people_ask_and_never_asked() -> None:
    """Held-out questions of the tasks in the traffic, each wording once."""
    drawn = traffic_questions(800, seed=1)

    assert len({question.prompt for question in drawn}) == 800
    assert all(question.item.held_out for question in drawn)
    assert {question.item.task for question in drawn} == set(TRAFFIC_TASKS)


def test_the_exam_asks_about_every_task() -> None:
    """What training must not cost is mostly what nobody asks about."""
    drawn = exam_questions(50, seed=1)

    assert {question.item.task for question in drawn} == set(Task)
    assert all(question.item.held_out for question in drawn)


def test_the_examiners_ask_nothing_that_the_gate_asks() -> None:
    """What a candidate was chosen by cannot measure it."""
    exam = {question.item for question in exam_questions(10_000, seed=1)}
    gate = {question.item for question in exam_questions(10_000, seed=2, gates=True)}

    assert exam
    assert gate
    assert not exam & gate
