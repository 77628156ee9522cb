import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.answering import (
    is_concrete,
    is_defined,
    is_evasive,
    is_general,
    is_not_told,
    is_restated,
    listed,
)
from feedbackloop.capture.folding import folded
from feedbackloop.capture.lists import Marker
from feedbackloop.capture.pair import Pair
from feedbackloop.capture.words import built_in, known_words
from tests.capture.talks import sketched, talk

PLAIN = {
    name: [
        (code, phrase)
        for code, lists in built_in().items()
        for phrase in lists[name]
        if not set(phrase) & set("[]*#$|")
    ]
    for name in ("evasive", "telling", "general")
}
"""The phrases of three lists that need no reading."""


def pair(first: str, answer: str, second: str = "") -> Pair:
    """A turn, its answer, and the next turn half a minute later."""
    before = sketched("c1", talk(first), answer)
    after = sketched("c2", talk(first, answer, second or first), at=30)
    return Pair(before, after, known_words(), idf={})


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        ("How do I descale a kettle?", "Kettles come in steel and in glass."),
        ("why does my basil wilt", "Basil is loved all over Italy."),
        ("Wie entkalke ich die Kaffeemaschine?", "Eine Kaffeemaschine brüht Kaffee."),
        ("Почему вянет базилик?", "Базилик — однолетнее растение."),
        ("怎么给水壶除垢", "水壶有不锈钢的,也有玻璃的。"),
    ],
)
def test_an_answer_that_begins_with_the_thing_itself_is_no_way(first: str, answer: str) -> None:
    """Whoever asks how knows the thing, and wants a verb."""
    assert is_restated(pair(first, answer))


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        ("How do I descale a kettle?", "Boil vinegar in it."),
        ("How do I descale a kettle?", "To descale a kettle, boil vinegar in it."),
        ("How do I descale a kettle?", "You can descale it with vinegar."),
        ("Comment détartrer une bouilloire ?", "Pour détartrer la bouilloire, du vinaigre."),
        ("What is a kettle?", "A kettle is a vessel in which water is boiled."),
        ("how does an electric kettle work", "An electric kettle heats water with a coil."),
        ("how do i get a kettle", "Kettles are sold at any hardware shop."),
        ("Name three kettles", "Kettles: Fino, Dualit, Smeg."),
    ],
)
def test_an_answer_that_tells_how_or_was_asked_for_no_way_is_none(first: str, answer: str) -> None:
    """Good answers name the thing too."""
    assert not is_restated(pair(first, answer))


@given(st.sampled_from(PLAIN["telling"]))
def test_whatever_tells_how_is_no_restatement(known: tuple[str, str]) -> None:
    """In every language an answer may begin with the way."""
    code, phrase = known
    language = known_words().languages[code]
    gap = " " if language.spaced else ""

    found = []
    for answer in (f"{phrase}{gap}zyrrit", "zyrrit"):
        two = pair("zyrrit quendl haxxof jestum", answer)
        two.tongues, two.facts = (language,), frozenset({Marker.HOW})
        found.append(is_restated(two))

    assert found == [False, True]


@pytest.mark.parametrize(
    "answer",
    [
        "It depends on many things.",
        "Laws on this vary from state to state.",
        "I'm sorry, but I can't help with that.",
        "As an AI, I have no opinion.",
        "There are several ways to do this.",
        "Good question! Many people wonder about that.",
    ],
)
def test_an_answer_that_puts_off_is_evasive(answer: str) -> None:
    """A refusal and a "that depends" are answers that did not come."""
    assert is_evasive(pair("can my landlord raise the rent twice", answer))


@pytest.mark.parametrize(
    "answer",
    [
        "It depends. " + "Under a fixed contract he cannot; else once in a year. " * 3,
        "There are several ways: by contract, by index, by the local rent table.",
    ],
)
def test_an_answer_that_says_that_it_depends_may_go_on_to_tell(answer: str) -> None:
    """Most good answers begin with what they depend on."""
    assert not is_evasive(pair("can my landlord raise the rent twice", answer))


@given(known=st.sampled_from(PLAIN["evasive"]), late=st.booleans())
def test_an_evasion_is_found_wherever_it_stands(known: tuple[str, str], *, late: bool) -> None:
    """The words stand at an answer's beginning in one language and at its end in another."""
    code, phrase = known
    language = known_words().languages[code]
    gap = " " if language.spaced else ""

    two = pair("rent?", f"x{gap}{phrase}" if late else phrase)
    two.tongues = (language,)

    assert is_evasive(two)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("Gently.", False),
        ("7 minutes.", True),
        ("Seven minutes.", True),
        ("Half an hour.", True),
    ],
)
def test_a_number_may_be_spelled_out(answer: str, *, told: bool) -> None:
    """ "Seven minutes" says how long."""
    two = pair("how long do I boil an egg", answer, "how many minutes does an egg take")

    assert is_not_told(two) is not told


def test_a_number_that_nobody_asks_for_again_was_not_missed() -> None:
    """Only what is still asked for was not told."""
    two = pair("how long do I boil an egg", "Gently.", "which pot is best for eggs")

    assert not is_not_told(two)


@pytest.mark.parametrize(
    ("first", "answer", "defined"),
    [
        ("fastest way to chop an onion", "An onion is a bulb.", True),
        ("почему лук горький", "Лук — луковичное растение.", True),
        ("エアコンを安く使う方法は?", "エアコンは家電です。", True),
        ("onion", "An onion is a bulb.", False),
        ("capital of the old kingdom", "The capital of the kingdom is old.", True),
        ("capital of norway", "The capital of Norway is Oslo.", False),
        ("fastest way to chop an onion", "Halve it - then slice.", False),
    ],
)
def test_a_definition_answers_nothing_but_the_question_for_it(
    first: str, answer: str, *, defined: bool
) -> None:
    """Whoever says no more than the thing may want to know what it is."""
    assert is_defined(pair(first, answer)) is defined


@pytest.mark.parametrize(
    ("answer", "concrete"),
    [
        ("chmod -x run.sh", True),
        ("File > Open", True),
        ("After 20 minutes.", True),
        ("Look into /etc/hosts", True),
        ("Well-known and widely used - in general.", False),
    ],
)
def test_numbers_paths_and_code_can_be_used_as_they_stand(answer: str, *, concrete: bool) -> None:
    """Who got those and asks on mostly asks for more."""
    assert is_concrete(pair("how do i do that", answer)) is concrete


@pytest.mark.parametrize(
    ("first", "answer", "general"),
    [
        ("how do i learn names", "Remembering names is a valuable social skill.", True),
        ("how do i cancel", "We offer a wide range of plans. Please read the terms.", True),
        ("Was hilft gegen Läuse?", "Läuse sind weit verbreitet und unterschiedlich.", True),
        ("Comment résilier ?", "Nous proposons de nombreux forfaits.", True),
        ("登録はどうやるの", "登録は大切な手続きです。", True),
        ("how do i wash wool", "Dab cold water on it and rinse.", False),
        ("capitale du Népal ?", "Katmandou.", False),
        ("Wie kündige ich?", "Schriftlich an den Verlag, mit Kundennummer.", False),
    ],
)
def test_an_answer_may_speak_of_its_subject_and_say_nothing(
    first: str, answer: str, *, general: bool
) -> None:
    """Who asked for a way and was told that it is important mostly asks again."""
    assert is_general(pair(first, answer)) is general


@given(st.sampled_from(PLAIN["general"]))
def test_what_is_general_is_known_in_each_language(known: tuple[str, str]) -> None:
    """A phrase that is never found is a slip in the table."""
    code, phrase = known
    text = phrase.replace("#", "5")
    tongue = known_words().languages[code]

    assert tongue.holds(folded(f"x {text}" if tongue.spaced else text), Marker.GENERAL)


@given(st.lists(st.sampled_from(["boots", "rain coat", "two maps"]), max_size=6))
def test_the_more_an_answer_lists_the_more_it_tells(items: list[str]) -> None:
    """Names, steps and conditions stand in rows; three of them are many."""
    fewer, more = (listed(pair("what to pack", ", ".join(some))) for some in (items[:-1], items))

    assert 0 <= fewer <= more <= 1
    assert (more == 1) == (len(items) > 3)
