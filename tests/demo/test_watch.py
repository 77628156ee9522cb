"""Whose words a reply during a swap has."""

from collections.abc import Mapping

import pytest

from demo.watch import Attribution, Seen, attribute

_KNOWN: Mapping[str, Mapping[str, str]] = {
    "tells": {"base": "it may be 4.", "assistant.00001.abc": "4."},
    "hides": {"base": "5.", "assistant.00001.abc": "5."},
}


@pytest.mark.parametrize(
    ("probe", "release", "text", "found"),
    [
        ("tells", "base", "it may be 4.", (1, 0, 0)),
        ("tells", "assistant.00001.abc", "it may be 4.", (1, 1, 0)),
        ("tells", "base", "4.", (1, 1, 0)),
        ("tells", "base", "what?", (1, 0, 1)),
        ("hides", "base", "5.", (0, 0, 0)),
        ("tells", "assistant.00002.def", "4.", (0, 0, 0)),
        ("other", "base", "4.", (0, 0, 0)),
    ],
)
def test_a_reply_is_held_against_what_its_release_is_known_to_say(
    probe: str, release: str, text: str, found: tuple[int, int, int]
) -> None:
    """A header that names the wrong weights would poison every label that follows."""
    seen = [Seen(probe=probe, release=release, text=text)]

    judged, misattributed, unexplained = found
    assert attribute(seen, _KNOWN) == Attribution(
        judged=judged, misattributed=misattributed, unexplained=unexplained
    )
