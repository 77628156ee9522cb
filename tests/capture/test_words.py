import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture import markers, words
from feedbackloop.capture.folding import folded
from feedbackloop.capture.lists import JUDGING, Marker
from feedbackloop.capture.phrases import pattern
from feedbackloop.capture.retries import Rules, vocabulary
from feedbackloop.capture.tongues import tongues
from feedbackloop.capture.words import MalformedWords, Vocabulary

DANISH = """
[da]
function = "og det er ikke en et som jeg du vi"
denial = ["nej"]
correction = ["det er [helt|] forkert"]
thanks = ["tak", "mange tak"]
"""


def objects(said: str, known: Vocabulary) -> bool:
    """Whether a turn objects, as far as these words tell."""
    return markers.objects(markers.turn(said, tongues(said, "", known)))


def test_our_own_table_keeps_the_rules() -> None:
    """A team reads it to learn the form of its own."""
    assert list(words.lint(words.built_in())) == []


def test_every_language_has_what_detection_needs() -> None:
    """A language that knows thanks and no objections would only ever praise."""
    needed = {"function", "asks", "negation", "denial", "correction", "thanks", "more", "talks"}

    lacking = {
        code: needed - lists.keys()
        for code, lists in words.built_in().items()
        if needed - lists.keys()
    }

    assert lacking == {}


@given(
    st.sampled_from(sorted(words.known_words().languages)),
    st.sampled_from([Marker.OBJECTION, Marker.BUT, Marker.CONSTRAINT, Marker.PRAISE]),
    st.lists(
        st.sampled_from(
            ["but", "you missed it", "-", "in german", "thanks", "aber", "mais", "不对"]
        ),
        max_size=5,
    ).map(" ".join),
)
def test_a_search_finds_the_first_place_where_a_phrase_fits(
    code: str, marker: Marker, clause: str
) -> None:
    """It passes over most of a clause, and must not pass over a phrase."""
    language = words.known_words().languages[code]
    found = language.patterns[marker].search(clause)

    assert language.found(clause, marker) == (found.span() if found is not None else None)


@pytest.mark.parametrize("code", words.built_in())
def test_no_clause_that_judges_is_passed_over(code: str) -> None:
    """Most clauses are read no further than to where they do not."""
    language = words.known_words().languages[code]
    plain = [
        phrase
        for marker in JUDGING
        for phrase in words.built_in()[code].get(marker.value, ())
        if not set(phrase) & set("[]*#$")
    ]

    assert [phrase for phrase in plain if not language.judges(folded(phrase))] == []
    assert not language.judges("qqq")


@pytest.mark.parametrize("code", words.built_in())
def test_every_phrase_without_signs_is_found(code: str) -> None:
    """A phrase that nothing can match would be dead weight in the table."""
    language = words.known_words().languages[code]
    plain = [
        (marker, phrase)
        for marker in Marker
        for phrase in words.built_in()[code].get(marker.value, ())
        if not set(phrase) & set("[]*#$")
    ]

    missed = [
        (marker.value, phrase)
        for marker, phrase in plain
        if not language.heads(folded(phrase), marker)
    ]

    assert plain
    assert missed == []


def test_a_team_can_add_a_language() -> None:
    """Most languages are missing, and each is one section of a file."""
    ours, theirs = (
        words.known_words(),
        vocabulary(Rules(words=dict(words.parsed(DANISH, name="f")))),
    )

    assert objects("Det er forkert.", theirs)
    assert not objects("Det er forkert.", ours)
    assert set(ours.languages) < set(theirs.languages)


def test_a_team_can_add_to_a_language_that_we_know() -> None:
    """Every trade has its own way to say no."""
    table = words.parsed('[en]\ncorrection = ["dud$"]', name="f")
    theirs = vocabulary(Rules(words=dict(table)))

    assert objects("Dud.", theirs)
    assert objects("That's wrong.", theirs)
    assert not objects("Dud.", words.known_words())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[en", "Expected ']'"),
        ('[english]\ndenial = ["no"]', "[english]: expected a language's code"),
        ('denial = ["no"]', "denial: expected a section"),
        ('[en]\ndenials = ["no"]', "[en] denials: no such list; expected one of"),
        ('[en]\ndenial = "no"', "[en] denial: expected a list of phrases"),
        ("[en]\ndenial = [1]", "[en] denial: expected a list of phrases"),
        ('[en]\nfunction = ["the"]', "[en] function: expected words in one string"),
        ('[en]\nspaced = "no"', "[en] spaced: expected true or false"),
        ('[en]\ndenial = [""]', "'': it holds no words"),
        ('[en]\ndenial = ["no  way"]', "words are divided by one space"),
        ('[en]\ndenial = ["no (way)"]', "'(' is not allowed"),
        ('[en]\ndenial = ["[no"]', "brackets are not closed"),
        ('[en]\ndenial = ["no|nay"]', "'|' is only allowed in brackets"),
        ('[en]\ntitles = ["a [b|c]"]', "expected plain words"),
        ('[en]\nthanks = ["ok"]\ndenial = ["ok"]', "in a list of thanks and in one of corrections"),
        (f'[en]\ndenial = ["{"x" * 2000}"]', "longer than"),
    ],
)
def test_a_malformed_table_is_refused_with_what_was_expected(text: str, says: str) -> None:
    """Words are read once, at the start; a slip must not cost a language for weeks."""
    with pytest.raises(MalformedWords) as refused:
        words.parsed(text, name="ours.toml")

    assert str(refused.value).startswith("ours.toml: ")
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("phrase", "clause", "fits"),
    [
        ("no way", "no way at all", True),
        ("no way", "no wayward son", False),
        ("no$", "no", True),
        ("no$", "no way", False),
        ("[no|not] way", "not way", True),
        ("no [big|] way", "no way", True),
        ("no [big|] way", "no big way", True),
        ("no [way|$]", "no", True),
        ("no * way", "no such very long way", True),
        ("no * way", "no such very very long way", False),
        ("trunk*", "trunks", True),
        ("trunk", "trunks", False),
        ("*way", "that is the subway", True),
        ("in # words", "in 50 words", True),
        ("in # words", "in few words", False),
        ("caf\u00e9", "cafe", True),
    ],
)
def test_the_signs_of_a_phrase_mean_what_they_say(
    phrase: str,
    clause: str,
    fits: bool,  # noqa: FBT001  # pytest names it
) -> None:
    """The page says so, and people write their own."""
    found = pattern([phrase], spaced=True).match(clause)

    assert (found is not None) is fits


@given(
    st.lists(st.sampled_from(["a", "a b", "[a|b c]", "a *", "a $"]), max_size=4), st.text("ab c")
)
def test_patterns_find_only_whole_words(phrases: list[str], clause: str) -> None:
    """ "No" is in "nothing", and "nothing" is no denial."""
    found = pattern([one.replace(" $", "$") for one in phrases], spaced=True).match(clause)

    if found is not None:
        assert not clause[found.end() : found.end() + 1].isalnum()
