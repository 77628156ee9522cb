"""What is wrong with a body, in words that begin with the field's name."""

from collections.abc import Mapping, Sequence

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises over bytes that are no JSON, or are nested too deeply for it."""

_NO_WORDS: Mapping[str, Sequence[str]] = {}


def explain(problem: str, words: Mapping[str, Sequence[str]] = _NO_WORDS) -> tuple[str, str | None]:
    """Turn msgspec's message into one that begins with the field's name; return both.

    The name is None where no field is to blame.

    Args:
        problem: What msgspec says.
        words: For each field that takes one of a few words, those words: msgspec names only what
            was wrong.
    """
    said, _, path = problem.partition(" - at `$.")
    if path:
        field = path.rstrip("`").split("[")[0].split(".")[0]
        if said.startswith("Invalid enum value") and field in words:
            said = f"expected {' or '.join(words[field])}, not {said.rsplit(' ', 1)[-1]}"
        return f"{field}: {said}", field
    if "field `" in said:
        # "Object missing required field `x`", "Object contains unknown field `x`"
        field = said.rsplit("`", 2)[-2]
        return said, field
    return said, None
