import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.pair import Pair
from feedbackloop.capture.retries import Implied, judge
from feedbackloop.capture.rewording import BIAS, WEIGHTS, is_second_try, signs, weight
from feedbackloop.capture.similarity import is_similar
from feedbackloop.capture.words import known_words
from feedbackloop.events import RetryKind
from tests.capture.talks import sketched, talk


def kind(first: str, answer: str, second: str) -> RetryKind | None:
    """What the next turn, half a minute after the answer, says of it."""
    found = judge(
        sketched("c1", talk(first), answer), sketched("c2", talk(first, answer, second), at=30)
    )
    assert found is not None
    return found.kind


def pair(first: str, answer: str, second: str) -> Pair:
    """The two turns, the second half a minute after the answer."""
    before = sketched("c1", talk(first), answer)
    after = sketched("c2", talk(first, answer, second), at=30)
    return Pair(before, after, known_words(), idf={})


ANEW = [
    (
        "how old do you have to be to rent a car in spain",
        "To rent a car in Spain you need a valid driving licence.",
        "minimum age for car rental in spain?",
    ),
    (
        "cuanto gana un enfermero",
        "Un enfermero cuida a los pacientes y administra medicamentos.",
        "cuánto es el sueldo mensual de un enfermero en españa más o menos",
    ),
    (
        "warum startet mein raspberry nicht",
        "Der Raspberry Pi ist ein Einplatinencomputer.",
        "raspi bootet nicht, nur rote led an, woran kann das liegen",
    ),
    (
        "wanneer gaat de klok terug",
        "De klok wordt twee keer per jaar verzet.",
        "op welke datum gaat de klok dit jaar terug naar wintertijd?",
    ),
    (
        "怎么把pdf转成word",
        "PDF是一种由Adobe公司开发的文件格式。",
        "用什么方法可以把pdf文件转换成可以编辑的word",
    ),
    (
        "how do i descale a kettle",
        "Kettles come in steel and in glass.",
        "what gets the chalk off the bottom of a kettle",
    ),
    (
        "can my landlord raise the rent twice in one year",
        "That depends on many things.",
        "law on rent increases by a landlord within the same year",
    ),
    (
        "how do i descale a kettle",
        "Boil vinegar in it.",
        "i mean, how do i get the chalk off without vinegar, say in a tea kettle",
    ),
    (
        "turn these notes into a packing checklist: boots, rain coat, two maps, my old tent",
        "Packing well is half of the trip.",
        "a packing checklist from my notes please, for a bag of ten kilos",
    ),
    (
        "suggest a cheese for onion soup",
        "Cheese is made of milk.",
        "so which cheese for the onion soup",
    ),
]

SAID = [
    (
        "is there a student discount",
        "We offer a wide range of plans for the whole family.",
        "i'm a student, what does the yearly plan cost me with the discount",
    ),
    (
        "what's a good gift for a retired teacher",
        "A gift should come from the heart.",
        "concrete ideas for a retirement gift, about $60",
    ),
    (
        "comment résilier mon abonnement mobile",
        "Nous proposons de nombreux forfaits mobiles.",
        "je veux arrêter mon forfait mobile, quelles étapes concrètement",
    ),
    (
        "パスポートの更新に必要なもの",
        "パスポートは海外旅行に大切な書類です。",
        "パスポートを更新したいのですが、具体的に何を持っていけばいいですか",
    ),
]
"""After an answer that spoke of the subject in general."""

ASKED_POLITELY = (
    "my order 88213 from tuesday",
    "Our shop offers fast delivery to many countries.",
    "can you tell me the current status of order 88213",
)

LIKELY_ANEW = (
    "how do i remove rust from an iron pan",
    "Iron pans last for years.",
    "rust on the pan, what takes it off",
)

NEW = {
    "something of the answer": (
        "how do i clean a cast iron pan",
        "Scrub the iron pan with salt.",
        "which salt removes burnt rice from an iron pan",
    ),
    "a pronoun": (
        "how do i remove rust from a cast iron pan",
        "Scrub.",
        "does soap hurt the iron pan when they are rusty",
    ),
    "yes or no": (
        "how do i apply for parental leave",
        "Tell your employer.",
        "parental leave for twins: is that longer",
    ),
    "a number": (
        "formula for the area of a round table",
        "Pi times the radius squared.",
        "area of a table with radius 40",
    ),
    "another fact": (
        "how do i plant a lemon tree outside",
        "Dig a hole.",
        "when do lemon trees bear fruit",
    ),
    "a name of two words": (
        "hiking trails near lake como",
        "The Greenway.",
        "which hotels by lake como allow dogs",
    ),
    "one word only": ("best beer in munich", "Augustiner.", "hotels near munich airport"),
    "the same frame": (
        "how many calories are in a small banana",
        "About 90.",
        "how many calories are in a large apple",
    ),
    "a form": (
        "write a short poem about autumn leaves",
        "Leaves fall.",
        "write a long letter to my aunt about the autumn leaves here",
    ),
    "a text": (
        "is this a good opening for my story: 'It was late and dark.'",
        "It's short. Say what the hero wants.",
        "new opening for the story: 'Anna wanted to be home by noon, and never was.'",
    ),
    "a follow-up after a nod": (
        "what's the sea like near split in june",
        "Warm: 22 to 24 degrees, and calm.",
        "ok and what's the sea like in october",
    ),
    "a number that was spelled out": (
        "how long do i boil an egg for a soft yolk",
        "Six minutes.",
        "how long do i boil an egg for a firm yolk",
    ),
    "the thing, of which the answer had told how it works": (
        "how does a mortgage work",
        "A mortgage is a loan secured on a house; you pay it back monthly with interest.",
        "what deposit do i need for a mortgage",
    ),
    "the one thing that was asked for": (
        "how do i get a passport",
        "Passports are issued by your town hall. Bring an ID card, a photo and the fee.",
        "what size must the passport photo be",
    ),
    "a fact, after an answer that began with the thing": (
        "why is my basil wilting",
        "Basil wilts when it gets too much water or too little light. Let the soil dry.",
        "how much light does basil need per day",
    ),
    "a place, after an answer that began with the thing": (
        "why does my car pull to the left",
        "Cars pull to one side when the tyres are unevenly inflated.",
        "where can i get my car wheels aligned cheaply",
    ),
    "what the answer depends on": (
        "best time to visit japan",
        "It depends on what you like: late March for blossoms, November for leaves.",
        "is japan expensive in november",
    ),
    "an answer to a question": (
        "i want to plan a trip to japan",
        "Wonderful! When would you like to go, and for how long?",
        "a trip to japan in october for two weeks",
    ),
    "what was defined": (
        "what is a mortgage",
        "A loan for a house, secured on it.",
        "what is the usual deposit on a mortgage for a first house",
    ),
    "another number than was told": (
        "how long does the train from bonn to prague take",
        "About nine hours, with a change in Frankfurt.",
        "what does the train from bonn to prague cost",
    ),
    "a step of the answer": (
        "how do i set up port forwarding",
        "Log in, open Advanced, choose Port forwarding, and add a rule.",
        "which rule do i add for a game server",
    ),
    "a quote": (
        "what does 'cold turkey' mean in english",
        "To stop at once.",
        "origin of cold turkey as an english idiom",
    ),
}


@pytest.mark.parametrize(("first", "answer", "second"), ANEW)
def test_the_question_in_other_words_throughout_is_a_rephrasing(
    first: str, answer: str, second: str
) -> None:
    """Whoever was not understood tries other words, and keeps what it is about."""
    assert kind(first, answer, second) is RetryKind.REPHRASE


@pytest.mark.parametrize("what", NEW)
def test_a_question_that_brings_something_of_its_own_is_new(what: str) -> None:
    """Most follow-up questions name the subject again; what they add tells them apart."""
    assert kind(*NEW[what]) is None


@pytest.mark.parametrize(("first", "answer", "second"), SAID)
def test_who_was_told_generalities_and_asks_for_the_thing_asks_again(
    first: str, answer: str, second: str
) -> None:
    """Such an answer is no answer, and the turn after it names what was missed."""
    assert kind(first, answer, second) is RetryKind.REPHRASE


def test_a_polite_request_is_no_question_for_yes_or_no() -> None:
    """ "Can you tell me the status?" asks for the status; "Can you return it?" for a yes."""
    first, answer, polite = ASKED_POLITELY

    assert signs(pair(first, answer, polite), similarity=0.6)["closed"] == 0
    assert signs(pair(first, answer, "can you return order 88213"), similarity=0.6)["closed"] == 1


@pytest.mark.parametrize("after", [301, 3600, 21_000])
def test_a_wish_said_anew_after_a_while_must_be_plain(after: float) -> None:
    """A conversation that goes on is the same one after lunch; its subject may be another."""
    plain, likely = (
        judge(
            sketched("c1", talk(first), answer),
            sketched("c2", talk(first, answer, second), at=after + 1.5),
        )
        for first, answer, second in (SAID[1], LIKELY_ANEW)
    )

    assert kind(*LIKELY_ANEW) is RetryKind.REPHRASE
    assert plain is not None
    assert plain.kind is RetryKind.REPHRASE
    assert likely is not None
    assert likely.kind is None


@given(st.sampled_from([*ANEW, *NEW.values()]), st.floats(-9, 9), st.floats(-9, 9))
def test_a_higher_limit_never_finds_more(
    turns: tuple[str, str, str], one: float, other: float
) -> None:
    """Where nothing shows that two turns belong together the limit is higher, to be surer."""
    loose, strict = sorted((one, other))
    two = pair(*turns)

    if is_second_try(two, similarity=0.6, least=strict):
        assert is_second_try(two, similarity=0.6, least=loose)


@pytest.mark.parametrize("turns", [*ANEW, *NEW.values()])
def test_every_sign_has_a_weight(turns: tuple[str, str, str]) -> None:
    """What is looked for and not weighed costs time and says nothing; the sum can be read off."""
    found = signs(pair(*turns), similarity=0.6)

    assert found.keys() in (WEIGHTS.keys(), set())
    assert weight(found) == pytest.approx(
        BIAS + sum(WEIGHTS[name] * value for name, value in found.items())
    )


def test_two_long_turns_are_not_alike_for_being_in_one_language() -> None:
    """The letters of any two long texts are alike; at that, briefs of a day were retries."""
    words = [f"{one}{other}ing" for one in "bcdfghlmnprst" for other in "aeiou"]
    first, second = " ".join(words[:40]), " ".join([*words[30:], *words[30:35]])

    assert is_similar(first, second, least=0.6)
    assert kind(first, "Yes.", second) is None
    assert kind(first, "Yes.", " ".join([*words[:38], "please"])) is RetryKind.REPHRASE


@given(
    st.lists(st.sampled_from(["tovaku", "limeso", "rabuni", "gopeka"]), min_size=1, max_size=6),
    st.lists(st.sampled_from(["zyrrit", "quendl", "haxxof", "jestum"]), min_size=1, max_size=6),
)
def test_turns_that_share_no_word_are_no_rephrasing(one: list[str], other: list[str]) -> None:
    """Without a model nothing shows that two words mean the same."""
    first, second = " ".join(one), " ".join(other)
    found = judge(
        sketched("c1", talk(first), "Yes."), sketched("c2", talk(first, "Yes.", second), at=30)
    )

    assert found is None or found.implied is Implied.NONE
