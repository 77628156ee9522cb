"""Who is held out."""

from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.dataset.split import fingerprint, is_held_out, unit
from tests.builders import a_completion

SECRET = b"0123456789abcdef"


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_growing_holdout_never_lets_a_person_back_in(who: str, one: float, other: float) -> None:
    """What the gate judged by once must not be trained on later."""
    smaller, larger = sorted((one, other))

    assert is_held_out(who, secret=SECRET, share=larger) or not is_held_out(
        who, secret=SECRET, share=smaller
    )


def test_about_the_share_asked_for_is_held_out() -> None:
    """Of 5,000 people at 10 %, three standard errors are 64 people."""
    held_out = sum(is_held_out(f"user-{n}", secret=SECRET, share=0.1) for n in range(5_000))

    assert abs(held_out - 500) < 64


def test_another_secret_holds_other_people_out() -> None:
    """Nobody who knows only their pseudonym can tell on which side they are."""
    sides = [
        (
            is_held_out(f"u{n}", secret=SECRET, share=0.5),
            is_held_out(f"u{n}", secret=b"x", share=0.5),
        )
        for n in range(100)
    ]

    assert {one == other for one, other in sides} == {True, False}


def test_the_manifest_names_the_secret_without_telling_it() -> None:
    """Two manifests with one fingerprint have one holdout; the secret stays a secret."""
    assert SECRET.hex() not in fingerprint(SECRET)
    assert fingerprint(SECRET) != fingerprint(b"x")


def test_without_a_user_the_conversation_is_the_unit() -> None:
    """Anonymous traffic is capped and held out by conversation."""
    assert unit(a_completion(user=None, conversation="beef")) == "beef"
