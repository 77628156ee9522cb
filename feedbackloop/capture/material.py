"""Is it the same instruction over other material? "Translate to Italian: ..." says so all day.

Apps send one instruction with ever new tickets, reviews and sentences, and people paste like
that. The turns are then as alike as a turn and its second try, and differ where the material is.
"""

from difflib import SequenceMatcher
from re import compile as regex

from feedbackloop.capture.folding import folded
from feedbackloop.capture.forms import Forms
from feedbackloop.capture.similarity import similarity
from feedbackloop.capture.subject import kept, words

_BEFORE = regex(r"[:\n\"]|(?<!\w)'|[.!?]\s")
"""What ends an instruction that stands before its material."""

_AFTER = regex(r"[\n\"]|'(?!\w)|[.!?:]\s|,\s")
"""What an instruction begins with that stands after its material."""

_QUOTED = regex(r"\"([^\"\n]+)\"|(?<!\w)'([^'\n]+)'(?!\w)")
_MARKS = regex('["\u2018-\u201e\u00ab\u300c`]')
_ANY_QUOTED = regex(
    '["\u201c\u201e\u00ab\u300c][^"\u201c\u201d\u00bb\u300d\n]+["\u201c\u201d\u00bb\u300d]'
    r"|(?<!\w)['\u2018][^'\u2019\n]+['\u2019](?!\w)"
)
_SIGNS = "\"'\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u300c\u300d"
_COLON = regex(r":\s+|\n\s*")
_TEXT_WORDS = 4  # of a quote that is a text, and no name or term
_PASTED_WORDS = 6  # of a text that follows a colon
_INSTRUCTION_WORDS = 2
_KNOWN = 40  # characters of a text by which it is known again

_SAME = 0.5  # likeness, or share of words in the same order, at which it is the same, mended


def is_other_material(one: str, other: str) -> bool:
    """Say whether two turns share an instruction, and no more.

    The instruction is what both begin with, up to a colon, a quote, a line's or a sentence's end,
    or what both end with, from there on. The rest is the material; a mended one is not another.

    Args:
        one: A user turn.
        other: Another; the order does not matter.
    """
    one, other = folded(one, trim=False).strip(), folded(other, trim=False).strip()
    start, end = _shared(one, other)
    begins = max((found.end() for found in _BEFORE.finditer(one, 0, start)), default=0)
    found = _AFTER.search(one, len(one) - end)
    ends = len(one) - found.start() if found is not None else 0
    # A shared sign alone, such as the last full stop, is no instruction.
    if not words(one[:begins]) and not words(one[len(one) - ends :]):
        return False
    before, after = one[begins : len(one) - ends].strip(), other[begins : len(other) - ends].strip()
    return bool(before) and bool(after) and not _is_mended(before, after)


def brings_text(one: str, other: str) -> bool:
    """Say whether a turn quotes a text that the one before did not hold: something to work on."""
    if "'" not in other and not _MARKS.search(other):
        return False
    before = folded(one)
    return any(
        len(text.split()) >= _TEXT_WORDS and text not in before
        for pair in _QUOTED.findall(folded(other))
        for text in pair
    )


def instruction(one: str, other: str) -> str:
    """Return what a turn wants done, without the text that it wants it done with.

    That is what follows its first colon or line, or what it quotes, if it is a text. A turn keeps
    it if the next one holds it too, or brings a text of its own, or if little else is left.

    Args:
        one: A user turn.
        other: The next one.
    """
    if _text_after_colon(other) or brings_text(one, other):
        return one
    again, said = folded(other), one
    text = _text_after_colon(one)
    if text and folded(text)[:_KNOWN] not in again:
        said = one[: -len(text)]
    elif "'" in one or _MARKS.search(one):
        said = _ANY_QUOTED.sub(
            lambda found: " " if _is_text(found.group(), again) else found.group(), one
        )
    return said if len(said.split()) >= _INSTRUCTION_WORDS else one


def _text_after_colon(one: str) -> str:
    """Return what follows the first colon or line, if that is long enough to be a text."""
    found = _COLON.search(one)
    text = one[found.end() :] if found is not None else ""
    return text if len(text.split()) >= _PASTED_WORDS else ""


def _is_text(quote: str, again: str) -> bool:
    return len(quote.split()) >= _TEXT_WORDS and folded(quote.strip(_SIGNS)) not in again


def aligned(one: str, other: str) -> tuple[str, str]:
    """Cut the ends of two long turns so that both begin with what they share.

    They were cut at a distance from the end, which another material shifts.
    """
    block = SequenceMatcher(None, one, other, autojunk=False).find_longest_match()
    return one[block.a :], other[block.b :]


def _shared(one: str, other: str) -> tuple[int, int]:
    """Return how many characters both begin with, and how many both end with thereafter."""
    shorter = min(len(one), len(other))
    start = next((n for n in range(shorter) if one[n] != other[n]), shorter)
    end = next((n for n in range(shorter - start) if one[-1 - n] != other[-1 - n]), shorter - start)
    return start, end


def _is_mended(before: str, after: str) -> bool:
    if similarity(before, after) >= _SAME:
        return True
    old, new = words(before), words(after)
    return max(kept(old, Forms(old).named(new)), kept(new, Forms(new).named(old))) >= _SAME
