"""What makes the search cheaper leaves what it finds as it is."""

from collections.abc import Iterator, Sequence
from importlib import import_module

import pytest

from feedbackloop.capture import credentials
from feedbackloop.capture.placeholders import Numbers
from feedbackloop.capture.planting import planted
from feedbackloop.capture.recognisers import Found
from feedbackloop.capture.redactor import Redactor, built_in
from feedbackloop.capture.searched import Searched

NO_DIGITS = {ord(digit): "x" for digit in "0123456789"}
LONG = "a text that is long enough to be remembered by whoever has searched it once already, "


class Counting:
    """Finds the first letter, and counts how often it is asked."""

    kinds = frozenset({"LETTER"})

    def __init__(self) -> None:
        self.asked = 0

    def find(self, _text: str) -> Iterator[Found]:
        self.asked += 1
        yield Found(0, 1, "LETTER")


def test_recognisers_that_need_a_digit_find_nothing_without_one() -> None:
    needing = [one for one in built_in() if getattr(one, "needs_digit", False)]
    assert len(needing) == 5
    for text in planted("tuned", seed=1, each=3):
        for one in needing:
            assert list(one.find(text.text.translate(NO_DIGITS))) == []


def test_a_name_of_a_secret_holds_one_of_the_stems() -> None:
    names = [one for one in (*credentials.PASSWORDS, *credentials.KEYS) if one.isascii()]
    assert [one for one in names if not any(stem in one for stem in credentials.STEMS)] == []


@pytest.mark.parametrize("form", credentials.PREFIXED.values())
def test_no_secret_with_a_prefix_is_shorter_than_what_is_looked_at(form: str) -> None:
    parsed = import_module("re._parser").parse(form)
    assert parsed.getwidth()[0] >= credentials.SHORTEST_PREFIXED


def test_a_text_that_comes_again_is_not_searched_again() -> None:
    one = Counting()
    redactor = Redactor([one])
    first, second = (redactor.finds(LONG) for _ in range(2))
    assert first == second == [Found(0, 1, "LETTER")]
    assert one.asked == 1


def test_the_same_text_has_the_number_that_its_event_gives_it() -> None:
    redactor = Redactor(built_in())
    alone = redactor.text(f"{LONG} ann@example.org", Numbers())
    numbers = Numbers()
    redactor.text("bob@example.org", numbers)
    assert alone.endswith("[EMAIL_1]")
    assert redactor.text(f"{LONG} ann@example.org", numbers).endswith("[EMAIL_2]")


def test_a_failure_is_not_remembered() -> None:
    answers: list[Sequence[Found] | None] = [None, []]
    searched = Searched()
    assert searched.search(LONG, lambda _: answers.pop(0)) is None
    assert searched.search(LONG, lambda _: answers.pop(0)) == []
    assert answers == []


def test_what_was_searched_longest_ago_is_forgotten() -> None:
    asked: list[str] = []

    def find(text: str) -> list[Found]:
        asked.append(text[:1])
        return []

    searched = Searched(capacity=2)
    for letter in "abacab":
        searched.search(letter + LONG, find)
    assert asked == ["a", "b", "c", "b"]
