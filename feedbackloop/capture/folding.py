"""Letters as retry detection compares them: case, accents and widths do not count."""

import unicodedata

_APOSTROPHES = frozenset("\u2018\u2019\u02bc\u00b4`")
_MARKED = ("LATIN", "CYRILLIC", "GREEK", "ARABIC")
"""Scripts whose marks people leave out; in others they make another letter."""
_ALIKE = {
    "\u3001": ",",
    "\u3002": ".",
    "\u060c": ",",
    "\u061b": ";",
    "\u061f": "?",
    "\u0964": ".",
    "\u2026": "...",
    "\u2013": "-",
    "\u2014": "-",
    "\u30fb": " ",
    "\u300c": '"',
    "\u300d": '"',
    "\u201c": '"',
    "\u201d": '"',
    "\u201e": '"',
    "\u00ab": '"',
    "\u00bb": '"',
    "\u00bf": " ",
    "\u00a1": " ",
    "\u0131": "i",
    "\u00df": "ss",
    "\u0142": "l",
    "\u00f8": "o",
    "\u0111": "d",
    "\u0649": "\u064a",
    "\u0629": "\u0647",
}


class _Table(dict[int, str]):
    """What each character becomes, looked up once."""

    def __missing__(self, code: int) -> str:
        made = _fold(chr(code))
        if len(self) < _REMEMBERED:
            self[code] = made
        return made


_REMEMBERED = 20_000


def folded(text: str, *, trim: bool = True) -> str:
    """Reduce a text to what is compared: case, accents and widths folded, white space joined.

    Args:
        text: As written.
        trim: Whether white space is joined; without it each space stays one.
    """
    if text.isascii():
        made = text.lower().replace("`", "'")
    else:
        made = unicodedata.normalize("NFC", text).translate(_TABLE)
    return " ".join(made.split()) if trim else made


def _fold(character: str) -> str:
    if character in _ALIKE:
        return _ALIKE[character]
    if character in _APOSTROPHES:
        return "'"
    name = unicodedata.name(character, "")
    if unicodedata.category(character) == "Mn":
        return "" if name.startswith(("COMBINING", "ARABIC")) else character
    if not name.startswith(_MARKED):
        wide = unicodedata.normalize("NFKC", character).casefold()
        return wide if wide == character else "".join(_fold(one) for one in wide)
    decomposed = unicodedata.normalize("NFKD", character).casefold()
    return "".join(_ALIKE.get(one, one) for one in decomposed if unicodedata.category(one) != "Mn")


_TABLE = _Table()
