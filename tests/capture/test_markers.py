import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture import markers
from feedbackloop.capture.markers import Turn
from feedbackloop.capture.tongues import tongues
from feedbackloop.capture.words import known_words

KNOWN = known_words()


def read(said: str, context: str = "") -> Turn:
    """Take a turn apart, as after a talk in ``context``'s language."""
    return markers.turn(said, tongues(said, context, KNOWN))


@pytest.mark.parametrize(
    "said",
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
        "thanks for nothing, it broke my build",
        "Are you sure? I count five",
        "TypeError: unsupported operand",
        "\N{THUMBS DOWN SIGN}",
        "Nein, das stimmt nicht",
        "Leider falsch",
        "Danke, aber das ist nicht der richtige Ort",
        "Non, c'est faux",
        "ca ne marche pas",
        "¡Incorrecto!",
        "No, sbagliato",
        "Não, está errado",
        "nao era isso",
        "Dat klopt niet",
        "To nie jest poprawne",
        "不对\N{FULLWIDTH COMMA}是巴黎",
        "すみません、違います",
        "谢谢\N{FULLWIDTH COMMA}但是不对",
        "틀렸어요",
        "هذا خطأ",
        "यह गलत है",
        "Bu yanl\N{LATIN SMALL LETTER DOTLESS I}ş",
        "Это неправильно",
        "Це неправильно",
        "Det stämmer inte",
        "Itu salah",
        "Sai rồi",
    ],
)
def test_an_objection_is_heard(said: str) -> None:
    """People say it first, after "well", after "no", or after "thanks, but"."""
    assert markers.objects(read(said))


@pytest.mark.parametrize(
    "said",
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
        'What if he says "that\'s wrong"?',
        "If it doesn't work, whom do I call?",
        "Why does it fail when I press F5?",
        "Not sure which one to take, can you compare them?",
        "I don't have eggs",
        "Da ist noch eine Frage",
        "Ich habe keine Eier",
        "Je voulais savoir autre chose",
        "Corrige ce texte: je suis aller",
        "Quería saber otra cosa",
        "Исправь предложение: он пошол",
        "これは何ですか",
        "왜 밤에는 안 돼?",
    ],
)
def test_what_only_looks_like_an_objection_is_none(said: str) -> None:
    """Each of these would train the model away from an answer that was fine."""
    assert not markers.objects(read(said))


@pytest.mark.parametrize(
    "said",
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
        "하나 더 알려줘",
        "Daj jeszcze jeden",
    ],
)
def test_a_wish_for_one_more_is_heard(said: str) -> None:
    """Variety seeking is the main false friend of a retry."""
    assert markers.asks_for_more(read(said))


def test_a_long_turn_that_mentions_another_is_no_wish_for_one() -> None:
    """In a brief of forty words "another" means anything."""
    said = "Draft a letter to the landlord that explains why we need another week before moving out"

    assert not markers.asks_for_more(read(said))


@pytest.mark.parametrize(
    "said",
    [
        "Thanks!",
        "ok cool ty",
        "That worked. And on Windows?",
        "\N{THUMBS UP SIGN}",
        "Danke, klappt",
        "Merci beaucoup !",
        "¡Perfecto, gracias!",
        "Grazie mille",
        "valeu, deu certo",
        "Bedankt!",
        "Dzięki, działa",
        "谢谢",
        "ありがとうございます",
        "감사합니다",
        "شكرا جزيلا",
        "धन्यवाद",
        "Teşekkürler",
        "Спасибо",
        "Tack så mycket",
        "Makasih",
        "Cảm ơn",
    ],
)
def test_thanks_are_heard(said: str) -> None:
    """Accepted answers are half of every pair."""
    assert markers.is_glad(read(said))


@pytest.mark.parametrize(
    "said",
    [
        "Thanks in advance! How do I bleed a radiator?",
        "Make it shorter, thanks",
        "Can you do it in German? Thanks!",
        "No, thank you",
        "Thanks for nothing",
        "Merci de le traduire",
        "Danke im Voraus",
        "What does 'gracias' mean?",
    ],
)
def test_what_only_sounds_like_thanks_is_none(said: str) -> None:
    """Politeness belongs to the request, not to the answer before."""
    assert not markers.is_glad(read(said))


def test_one_word_is_read_in_the_language_of_the_talk() -> None:
    """ "Fel" is Swedish for wrong, and nothing in English."""
    before = "Vad heter huvudstaden i Norge? Den heter Bergen."

    assert markers.objects(read("Fel", before))
    assert not markers.objects(read("Fel", "Where is the nearest station, and what is it called?"))


def test_a_turn_in_another_language_than_the_talk_is_read() -> None:
    """People switch in the middle, and thank in English everywhere."""
    before = "Wie heißt die Hauptstadt von Peru? Das ist die Stadt Lima."

    assert markers.is_glad(read("thanks a lot", before))
    assert markers.objects(read("that's not what I asked", before))


@given(st.text(max_size=500))
def test_any_turn_can_be_read(said: str) -> None:
    """People paste anything."""
    one = read(said)

    assert not (markers.is_polite(one) and markers.is_glad(one))
    assert len(one.clauses) <= 8


@pytest.mark.parametrize(
    ("said", "anew"),
    [
        ("I mean, how do I undo it on the server?", True),
        ("no i meant which files are ignored", True),
        ("My question was: who pays for it?", True),
        ("Ich meine, wie lange bleibt er frisch?", True),
        ("я имею в виду, сколько это стоит", True),
        ("我的意思是怎么备份", True),
        ("No, I meant the island", False),
        ("I meant Friday, you put Thursday", False),
        ("How do I undo it?", False),
    ],
)
def test_a_question_that_is_announced_in_other_words_is_asked_anew(
    said: str, *, anew: bool
) -> None:
    """Who meant a thing corrects; who meant a question asks it again."""
    assert markers.asks_anew(read(said)) is anew


@pytest.mark.parametrize(
    ("said", "follows"),
    [
        ("and how is it in winter", True),
        ("ok, and how is it in winter", True),
        ("Well, what about winter?", True),
        ("Und im Winter?", True),
        ("ok how is it in winter", False),
        ("well", False),
        ("", False),
    ],
)
def test_a_follow_up_may_begin_with_a_word_that_says_nothing(said: str, *, follows: bool) -> None:
    """People nod before they go on."""
    assert markers.follows(read(said)) is follows
