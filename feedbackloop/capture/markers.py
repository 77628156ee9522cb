"""Words at the head of a turn that say what the person thinks of the answer before it.

By language, as data: a team extends the table with its own words. Matching is on the first
clause, case folded; a marker must end at a word's end (languages without spaces excepted).
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from re import IGNORECASE, Pattern, escape, split
from re import compile as regex

_CLAUSE = r"[.!?;:\n。!?;:]"


class Marker(StrEnum):
    """What the head of a turn says."""

    CORRECTION = "correction"
    """The answer was wrong, or not what was asked."""

    VARIETY = "variety"
    """The person wants one more: the main false friend of a retry."""

    THANKS = "thanks"
    """The answer was good."""


Markers = Mapping[Marker, Mapping[str, Sequence[str]]]

MARKERS: Markers = {
    Marker.CORRECTION: {
        "en": (
            "no",
            "nope",
            "wrong",
            "incorrect",
            "that's wrong",
            "that is wrong",
            "this is wrong",
            "that's not right",
            "that is not right",
            "that's not",
            "that is not what",
            "not what i",
            "i meant",
            "i mean",
            "i asked",
            "i said",
            "you misunderstood",
            "you got it wrong",
            "you didn't",
            "you did not",
            "try again",
            "again",
            "still wrong",
            "still not",
        ),
        "de": (
            "nein",
            "falsch",
            "das ist falsch",
            "das stimmt nicht",
            "stimmt nicht",
            "nicht richtig",
            "das ist nicht",
            "ich meinte",
            "ich meine",
            "ich wollte",
            "ich habe gefragt",
            "noch mal",
            "nochmal",
            "versuch es noch",
            "du hast",
        ),
        "fr": (
            "non",
            "faux",
            "c'est faux",
            "ce n'est pas",
            "c'est pas",
            "pas ce que",
            "je voulais",
            "je parlais",
            "j'ai demandé",
            "réessaie",
            "recommence",
            "encore faux",
            "incorrect",
        ),
        "es": (
            "no",
            "incorrecto",
            "está mal",
            "eso no",
            "no es lo que",
            "me refería",
            "quise decir",
            "quería decir",
            "pregunté",
            "inténtalo de nuevo",
            "otra vez mal",
            "sigue mal",
        ),
        "it": ("no", "sbagliato", "non è", "intendevo", "volevo dire", "riprova"),
        "pt": ("não", "errado", "está errado", "não é isso", "eu quis dizer", "tente de novo"),
        "zh": ("不对", "不是", "错了", "你错了", "我的意思是", "我是说", "重新"),
        "ja": ("違う", "違います", "ちがう", "間違", "そうではなく", "そうじゃなく", "もう一度"),
    },
    Marker.VARIETY: {
        "en": (
            "another",
            "another one",
            "one more",
            "give me another",
            "more",
            "more like",
            "a different",
            "give me a different",
            "something else",
            "other options",
            "next",
            "more options",
            "more examples",
            "any other",
            "what else",
        ),
        "de": (
            "noch ein",
            "noch eine",
            "noch einen",
            "mehr",
            "weitere",
            "ein anderes",
            "etwas anderes",
            "weiter",
        ),
        "fr": (
            "un autre",
            "une autre",
            "encore un",
            "encore une",
            "d'autres",
            "plus",
            "autre chose",
        ),
        "es": (
            "otro",
            "otra",
            "uno más",
            "una más",
            "más",
            "dame otro",
            "dame otra",
            "algo diferente",
        ),
        "it": ("un altro", "un'altra", "ancora uno", "ancora una", "altri", "altre"),
        "pt": ("outro", "outra", "mais um", "mais uma"),
        "zh": ("再来", "再给", "换一个", "另一个", "还有"),
        "ja": ("別の", "他の", "もう一つ", "もうひとつ", "もっと"),
    },
    Marker.THANKS: {
        "en": (
            "thanks",
            "thank you",
            "thx",
            "perfect",
            "great",
            "awesome",
            "excellent",
            "that works",
            "works",
            "exactly",
            "got it",
            "nice",
        ),
        "de": ("danke", "vielen dank", "perfekt", "super", "prima", "genau", "klappt", "toll"),
        "fr": ("merci", "parfait", "super", "génial", "exactement", "ça marche"),
        "es": ("gracias", "muchas gracias", "perfecto", "genial", "excelente", "exacto"),
        "it": ("grazie", "perfetto", "ottimo", "esatto"),
        "pt": ("obrigado", "obrigada", "perfeito", "ótimo"),
        "zh": ("谢谢", "感谢", "太好了", "完美", "很好"),
        "ja": ("ありがとう", "完璧", "助かり", "いいね"),
    },
}

_UNSPACED = frozenset({"zh", "ja"})


def compiled(markers: Markers = MARKERS) -> Mapping[Marker, Pattern[str]]:
    """Make one pattern for each marker, over all languages."""
    return {marker: _pattern(by_language) for marker, by_language in markers.items()}


def heads(turn: str, pattern: Pattern[str]) -> bool:
    """Say whether a turn begins with a marker."""
    clause = split(
        _CLAUSE, turn.strip().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"), maxsplit=1
    )[0]
    return pattern.match(clause.strip()) is not None


def _pattern(by_language: Mapping[str, Sequence[str]]) -> Pattern[str]:
    spaced = [escape(w) for lang, ws in by_language.items() if lang not in _UNSPACED for w in ws]
    joined = [escape(w) for lang, ws in by_language.items() if lang in _UNSPACED for w in ws]
    longest_first = sorted(spaced, key=len, reverse=True)
    words = rf"(?:{'|'.join(longest_first)})(?!\w)"
    return regex("|".join([words, *joined]), IGNORECASE)
