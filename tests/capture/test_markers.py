import pytest

from feedbackloop.capture.markers import asks_for_more, compiled, heads, objects
from feedbackloop.capture.words import MARKERS, Marker, Markers

KNOWN = compiled()
UNSPACED = ("zh", "ja")


@pytest.mark.parametrize(
    "turn",
    [
        "That's wrong.",
        "that\N{RIGHT SINGLE QUOTATION MARK}s not what I asked",
        "No. I meant the island",
        "No, I meant the island",
        "No that's not it",
        "Hmm, well, that's incorrect",
        "Sorry, I meant Friday",
        "**Wrong**",
        "Thanks, but that's not right",
        "Great! However, you forgot the tests",
        "Nein, das stimmt nicht",
        "Leider falsch",
        "Non, c'est faux",
        "¡Incorrecto!",
        "No, sbagliato",
        "Não, está errado",
        "不对\N{FULLWIDTH COMMA}是巴黎",
        "すみません、違います",
        "谢谢\N{FULLWIDTH COMMA}但是不对",
    ],
)
def test_an_objection_is_heard(turn: str) -> None:
    """People say it first, after "well", after "no", or after "thanks, but"."""
    assert objects(turn, KNOWN)


@pytest.mark.parametrize(
    "turn",
    [
        "",
        "...",
        "No problem, thanks!",
        "No, thanks",
        "No more questions",
        "No Country for Old Men: is that noir?",
        "Non-fiction books about trains?",
        "Wrongful termination: explain",
        "Thanks! Now do it in Rust",
        "Great, that's it",
        "Nein danke",
        "Notiere das",
        "不用\N{FULLWIDTH COMMA}谢谢",
        "Is it true that that's wrong?",
    ],
)
def test_what_only_begins_like_an_objection_is_none(turn: str) -> None:
    """Each of these would train the model away from an answer that was fine."""
    assert not objects(turn, KNOWN)


@pytest.mark.parametrize(
    "turn",
    [
        "another",
        "Tell me another joke",
        "Give me a different one",
        "More please",
        "Can you suggest something else?",
        "Noch ein Vorschlag",
        "Un autre",
        "Cuéntame otro chiste",
        "再来一个",
        "別の例をください",
    ],
)
def test_a_wish_for_one_more_is_heard(turn: str) -> None:
    """Variety seeking is the main false friend of a retry."""
    assert asks_for_more(turn, KNOWN)


def test_a_long_turn_that_mentions_another_is_no_wish_for_one() -> None:
    """In a brief of forty words "another" means anything."""
    turn = "Draft a letter to the landlord that explains why we need another week before moving out"

    assert not asks_for_more(turn, KNOWN)


@pytest.mark.parametrize(
    ("marker", "language", "phrase"),
    [
        (marker, language, phrase)
        for marker in (Marker.CORRECTION, Marker.VARIETY, Marker.THANKS, Marker.POLITE)
        for language, phrases in MARKERS[marker].items()
        for phrase in phrases
    ],
)
def test_every_phrase_of_the_table_is_found(marker: Marker, language: str, phrase: str) -> None:
    """A phrase that an earlier rule swallows would be dead weight in the table."""
    tail = "" if language in UNSPACED else ", "

    assert heads(f"{phrase.capitalize()}{tail}x", KNOWN[marker])


def test_a_team_can_add_a_language() -> None:
    """Most languages are missing, and each is one entry."""
    dutch: Markers = {
        **MARKERS,
        Marker.CORRECTION: {**MARKERS[Marker.CORRECTION], "nl": ["dat klopt niet"]},
    }

    assert objects("Dat klopt niet.", compiled(dutch))
    assert not objects("Dat klopt niet.", KNOWN)
