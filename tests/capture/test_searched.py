"""What makes the search cheaper leaves what it finds as it is."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedbackloop.capture import credentials
from feedbackloop.capture.credentials import SecretRecogniser
from feedbackloop.capture.placeholders import Numbers
from feedbackloop.capture.planting import HALVES, planted
from feedbackloop.capture.recognisers import AtDigits, Found, first_digits, merged, plain
from feedbackloop.capture.redactor import Redactor, built_in
from feedbackloop.capture.screening import Screen
from feedbackloop.capture.searched import Searched

TRAPS = (
    " ann@example.org ",
    " ann [AT] example [dot] org ",
    " https://ann:Secret1@host/ ",
    " Passwort: Geheim123! ",
    " \u043f\u0430\u0440\u043e\u043b\u044c: Geheim123! ",
    " Bearer abcdefghij0123456789 ",
    " AA:BB:CC:DD:EE:FF ",
    " 4111 1111 1111 1111 ",
)
LONG = "a text that is long enough to be remembered by whoever has searched it once already, "


class Counting:
    """Finds the first letter, and counts how often it is asked."""

    kinds = frozenset({"LETTER"})

    def __init__(self) -> None:
        self.asked = 0

    def find(self, _text: str) -> Iterator[Found]:
        self.asked += 1
        yield Found(0, 1, "LETTER")


@given(st.text(alphabet="019 .-+(x\u0663\uff15\u00b2\u4e2d"))
def test_digits_of_every_script_begin_where_they_do(text: str) -> None:
    """A telephone number in Arabic digits is one, too."""
    assert first_digits(plain(text)) == [one.start() for one in re.finditer(r"\d+", text)]


def test_digits_of_every_script_are_written_as_ascii_has_them() -> None:
    """Recognisers read ASCII alone; what is not translated is not found."""
    digits = [one for one in map(chr, range(0x20000)) if one.isdecimal()]
    assert len(digits) > 500
    assert [one for one in digits if plain(f"é{one}") != f"é{unicodedata.decimal(one)}"] == []
    assert plain("é\u2011\u00a0\uff0b") == "é- +"


@pytest.mark.parametrize("half", HALVES)
def test_whoever_looks_at_digits_alone_finds_the_same_by_itself(half: str) -> None:
    """What the redactor hands over is what ``find`` would have looked for."""
    for one in built_in():
        redactor = Redactor([one])
        for text in planted(half, seed=1, each=2):
            assert redactor.finds(text.text) == list(merged(one.find(text.text)))


def test_a_name_of_a_secret_holds_one_of_the_stems() -> None:
    """A name without a stem would never be looked for."""
    names = [one for one in (*credentials.PASSWORDS, *credentials.KEYS) if one.isascii()]
    assert [one for one in names if not any(stem in one for stem in credentials.STEMS)] == []


def test_every_prefix_of_a_secret_is_a_sign() -> None:
    """A prefix that is none would let that key through, and no text would show it."""
    assert {prefix.lower() for prefix in credentials.PREFIXED} <= SecretRecogniser.signs


@pytest.mark.parametrize("half", HALVES)
def test_a_first_look_misses_no_recogniser(half: str) -> None:
    """What has no sign is never searched, and what it holds would leave the pod."""
    recognisers = built_in()
    screen = Screen(recognisers)
    for text in planted(half, seed=2, each=2):
        said = plain(text.text)
        worth = screen.look(said).worth
        assert [number for number, one in enumerate(recognisers) if [*one.find(said)]] == [
            number for number in worth if [*recognisers[number].find(said)]
        ]


@given(st.text(alphabet="aZ 09\u0663\uff15\u0130\u4e2d@[(KSkp-_:\ud800"), st.sampled_from(TRAPS))
def test_a_first_look_sees_signs_in_any_text(text: str, trap: str) -> None:
    """Also where small letters are two, and where half a character stands."""
    said = plain(f"{text}{trap}{text}")
    look = Screen(built_in()).look(said)
    found = [number for number, one in enumerate(built_in()) if [*one.find(said)]]
    assert set(found) <= set(look.worth)


TEXTS = [text.text for half in HALVES for text in planted(half, seed=3, each=1)]


@settings(max_examples=400)
@given(
    st.lists(
        st.sampled_from(TEXTS) | st.text("0179 .-/+():aXK\u017f\u212a\u4e2d", max_size=4),
        max_size=3,
    ),
    st.integers(0, 60),
    st.integers(0, 2),
    st.text("019 .-/+():aXZ\u017f", max_size=2),
)
def test_digits_that_are_passed_over_begin_nothing(
    parts: list[str], place: int, gone: int, new: str
) -> None:
    """Most numbers in a text stand alone, and are not looked at by those that want more beside."""
    said = "".join(parts)
    said = plain(said[:place] + new + said[place + gone :])
    look = Screen(built_in()).look(said)
    for number, one in enumerate(built_in()):
        if isinstance(one, AtDigits):
            found = one.at(said, look.places) if number in look.worth else ()
            assert [*found] == [*one.at(said, first_digits(said))]


def test_a_text_that_comes_again_is_not_searched_again() -> None:
    """Else a long conversation costs the square of its turns."""
    one = Counting()
    redactor = Redactor([one])
    first, second = (redactor.finds(LONG) for _ in range(2))
    assert first == second == [Found(0, 1, "LETTER")]
    assert one.asked == 1


def test_the_same_text_has_the_number_that_its_event_gives_it() -> None:
    """What is remembered is where values stand, never what replaces them."""
    redactor = Redactor(built_in())
    alone = redactor.text(f"{LONG} ann@example.org", Numbers())
    numbers = Numbers()
    redactor.text("bob@example.org", numbers)
    assert alone.endswith("[EMAIL_1]")
    assert redactor.text(f"{LONG} ann@example.org", numbers).endswith("[EMAIL_2]")


def test_a_failure_is_not_remembered() -> None:
    """A recogniser that failed once may be mended by a restart of what it asks."""
    answers: list[Sequence[Found] | None] = [None, []]
    searched = Searched()
    assert searched.search(LONG, lambda *_: answers.pop(0), Numbers()) is None
    assert searched.search(LONG, lambda *_: answers.pop(0), Numbers()) == []
    assert answers == []


def test_what_was_searched_longest_ago_is_forgotten() -> None:
    """Memory is bounded whatever people write."""
    asked: list[str] = []

    def find(text: str, _numbers: Numbers) -> list[Found]:
        asked.append(text[:1])
        return []

    searched = Searched(capacity=4)
    for letter in "abacab":
        searched.search(letter + LONG, find, Numbers())
    assert asked == ["a", "b", "c", "b"]
