"""A team's own patterns find what they say, and always end."""

import pytest

from feedbackloop.capture.patterns import PatternRecogniser
from feedbackloop.capture.placeholders import Numbers
from feedbackloop.capture.redactor import Redactor


def redacted(text: str, *recognisers: PatternRecogniser) -> str:
    return Redactor(recognisers).text(text, Numbers())


def test_a_pattern_finds_what_it_matches() -> None:
    """Every house has numbers of its own."""
    customer = PatternRecogniser("CUSTOMER", r"\bCUST-[0-9]{4,10}\b")

    assert redacted("CUST-12345 and cust-12345", customer) == "[CUSTOMER_1] and cust-12345"


def test_of_a_pattern_with_a_group_the_group_is_removed() -> None:
    """What stands before a number often says what the text is about."""
    member = PatternRecogniser("MEMBER", r"member no\. ([0-9]{6})")

    assert redacted("my member no. 123456, thanks", member) == "my member no. [MEMBER_1], thanks"


def test_a_checksum_tells_numbers_apart() -> None:
    """A pattern of digits alone would take every order for a customer."""
    loyalty = PatternRecogniser("LOYALTY", r"[0-9]{4}-[0-9]{4}", checksum="luhn")

    assert redacted("1234-5674 is, 1234-5678 is not", loyalty) == "[LOYALTY_1] is, 1234-5678 is not"


def test_a_context_tells_numbers_apart() -> None:
    """Four digits are a PIN where somebody says so."""
    pin = PatternRecogniser("PIN", r"\b[0-9]{4}\b", context=("PIN", "geheimzahl"))

    assert redacted("My pin is 1234.", pin) == "My pin is [PIN_1]."
    assert redacted("It was in 1234.", pin) == "It was in 1234."


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(", "no pattern"),
        ("x*", "matches nothing at all"),
        ("(a+)+b", "without a limit"),
        (r"(a|aa){1,40}b", "ways at one place"),
        (r"a{1,64}b{1,64}c{1,64}", "ways at one place"),
        (r"(?:[ab]{1,30}){1,30}c", "ways at one place"),
        (r"(a)\1", "refers back"),
        (r"x(?=(a|b|ab){1,30}c)", "ways at one place"),
    ],
)
def test_a_pattern_that_might_never_end_is_refused(pattern: str, says: str) -> None:
    """At the start, by its form: a text that shows it would come at three in the morning."""
    with pytest.raises(ValueError, match=says):
        PatternRecogniser("X", pattern)
