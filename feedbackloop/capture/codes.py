"""Numbers by which states know people, with letters in them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from re import IGNORECASE
from re import compile as regex
from typing import NamedTuple

from feedbackloop.capture.checksums import is_date
from feedbackloop.capture.national import is_cn_id
from feedbackloop.capture.recognisers import ALONE_AFTER, AtDigits, Context, Found, joins

_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU_SIGNS = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_ODD = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3,
         6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)  # fmt: skip
_MONTHS = "ABCDEHLMPRST"
_DIGIT_LETTERS = str.maketrans("LMNPQRSTUV", "0123456789")
_NINO_NEVER = ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")
_CURP_SIGNS = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
_NRIC = {"S": (0, "JZIHGFEDCBA"), "T": (4, "JZIHGFEDCBA"), "F": (0, "XWUTRQPNMLK"),
         "G": (4, "XWUTRQPNMLK"), "M": (3, "XWUTRQPNJLK")}  # fmt: skip
_PPS_LETTERS = "WABCDEFGHIJKLMNOPQRSTUV"
_TAIWAN = "ABCDEFGHJKLMNPQRSTUVXYWZIO"
_OMITTED = 40  # days that are added for women in Italy


def is_es_dni(code: str) -> bool:
    """Check the letter, which is the remainder by 23; X, Y, Z stand for 0, 1, 2 before a NIE."""
    digits = {"X": "0", "Y": "1", "Z": "2"}.get(code[0], code[0]) + code[1:-1]
    return code[-1] == _DNI_LETTERS[int(digits) % 23]


def is_it_codice_fiscale(code: str) -> bool:
    """Check month, day and the last letter; letters stand for digits where two codes collide."""
    day = int(code[9:11].translate(_DIGIT_LETTERS)) % _OMITTED
    total = sum(_ODD[one] for one in code[0:15:2])
    total += sum(int(one) if one.isdigit() else ord(one) - 65 for one in code[1:15:2])
    return code[8] in _MONTHS and 1 <= day <= 31 and code[15] == chr(65 + total % 26)  # noqa: PLR2004


def is_fr_nir_of_corsica(code: str) -> bool:
    """Check the sum with 19 for 2A and 18 for 2B."""
    digits = code.replace("2A", "19").replace("2B", "18")
    return 97 - int(digits[:13]) % 97 == int(digits[13:])


def is_fi_hetu(code: str) -> bool:
    """Check the date and the sign, which is the remainder by 31."""
    number = int(code[:6] + code[-4:-1])
    date = is_date(int(code[4:6]), int(code[2:4]), int(code[:2]))
    return date and code[-1] == _HETU_SIGNS[number % 31]


def is_gb_nino(code: str) -> bool:
    """Check the prefixes that are never used."""
    return code[:2] not in _NINO_NEVER


def is_mx_curp(code: str) -> bool:
    """Check the date and the last digit."""
    total = sum(_CURP_SIGNS.index(one) * (18 - place) for place, one in enumerate(code[:17]))
    date = is_date(int(code[4:6]), int(code[6:8]), int(code[8:10]))
    return date and int(code[17]) == -total % 10


def is_cl_rut(code: str) -> bool:
    """Check the sum modulo 11; K stands for ten."""
    total = sum(int(one) * (place % 6 + 2) for place, one in enumerate(reversed(code[:-1])))
    return code[-1] == "0123456789K"[-total % 11]


def is_sg_nric(code: str) -> bool:
    """Check the last letter."""
    start, letters = _NRIC[code[0]]
    weights = (2, 7, 6, 5, 4, 3, 2)
    total = start + sum(int(one) * by for one, by in zip(code[1:8], weights, strict=True))
    return code[8] == letters[total % 11]


def is_ie_pps(code: str) -> bool:
    """Check the letter after the digits; a second one counts too."""
    second = _PPS_LETTERS.find(code[8]) * 9 if len(code) == 9 else 0  # noqa: PLR2004  # with two
    total = second + sum(int(one) * (8 - place) for place, one in enumerate(code[:7]))
    return code[7] == _PPS_LETTERS[total % 23]


def is_tw_id(code: str) -> bool:
    """Check the sum, the letter being a number from 10 on."""
    tens, units = divmod(_TAIWAN.index(code[0]) + 10, 10)
    total = tens + units * 9 + sum(int(one) * (8 - place) for place, one in enumerate(code[1:9]))
    return (total + int(code[9])) % 10 == 0


def _always(_code: str) -> bool:
    return True


class _Code(NamedTuple):
    kind: str
    pattern: str
    is_valid: Callable[[str], bool]
    context: Context | None = None


_CODES = (
    _Code(
        "IT_CODICE_FISCALE",
        r"[A-Z]{6}[0-9L-NP-V]{2}[A-EHLMPR-T][0-9L-NP-V]{2}[A-Z][0-9L-NP-V]{3}[A-Z]",
        is_it_codice_fiscale,
    ),
    _Code("MX_CURP", r"[A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[A-Z0-9][0-9]", is_mx_curp),
    _Code("IN_PAN", r"[A-Z]{3}P[A-Z][0-9]{4}[A-Z]", _always),
    _Code(
        "GB_NINO",
        r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]",
        is_gb_nino,
    ),
    _Code("ES_NIE", r"[XYZ][ -]?[0-9]{7}[ -]?[A-Z]", is_es_dni),
    _Code("SG_NRIC", r"[STFGM][0-9]{7}[A-Z]", is_sg_nric),
    _Code("TW_ID", r"[A-Z][1289][0-9]{8}", is_tw_id),
    _Code("FI_HETU", r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Y]", is_fi_hetu),
    _Code("CN_ID", r"[0-9]{17}[X]", is_cn_id),
    _Code("ES_DNI", r"[0-9]{8}[ -]?[A-Z]", is_es_dni),
    _Code("ES_DNI", r"[0-9]{2}\.[0-9]{3}\.[0-9]{3}[ -]?[A-Z]", is_es_dni),
    _Code("CL_RUT", r"[0-9]{1,2}\.[0-9]{3}\.[0-9]{3}-[0-9K]", is_cl_rut),
    _Code("CL_RUT", r"[0-9]{7,8}-[0-9K]", is_cl_rut, Context("rut|run")),
    _Code(
        "IE_PPS",
        r"[0-9]{7}[A-W][A-IW]?",
        is_ie_pps,
        Context("ppsn?|pps[ -]no|personal public service"),
    ),
    _Code(
        "FR_NIR",
        r"[1-478] ?[0-9]{2} ?(?:0[1-9]|1[0-2]|[2-9][0-9]) ?2[AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",
        is_fr_nir_of_corsica,
    ),
)
_LETTERED = [one for one in _CODES if one.pattern[1].isalpha()]
_NUMBERED = [one for one in _CODES if not one.pattern[1].isalpha()]
# What comes after tells most numbers from the digits of any code before each code is tried.
_FIRST_DIGIT = regex(
    r"[0-9](?=[0-9]{5}|[0-9]?\.[0-9]{3}\.|[0-9][A-Za-z][0-9]{2}[A-Za-z]|[0-9]{3}[A-Za-z]"
    r"|[0-9] ?[0-9]{2} ?[0-9]{2} ?[A-Da-d]| ?[0-9]{2} ?[0-9]{2} ?2[ABab])"
)
_SEPARATORS = str.maketrans("", "", " .-+")
_LONGEST_PREFIX = 6  # letters before the first digit


class _Together:
    """Several codes, tried at one place."""

    def __init__(self, codes: list[_Code]) -> None:
        self._patterns = [(one, regex(one.pattern + ALONE_AFTER, IGNORECASE)) for one in codes]
        some = "|".join(one.pattern + ALONE_AFTER for one in codes)
        self._some = regex(some, IGNORECASE).match

    def at(self, text: str, start: int) -> Iterable[Found]:
        """Say which of them stand there."""
        return self._each(text, start) if self._some(text, start) else ()

    def _each(self, text: str, start: int) -> Iterator[Found]:
        for one, pattern in self._patterns:
            match = pattern.match(text, start)
            if match is not None and _is_valid(one, text, start, match.end()):
                yield Found(start, match.end(), one.kind)


def _is_valid(one: _Code, text: str, start: int, end: int) -> bool:
    code = text[start:end].upper()
    bare = code.translate(_SEPARATORS) if one.kind != "FI_HETU" else code
    if not one.is_valid(bare):
        return False
    return one.context is None or one.context.near(text, start, end)


class CodeRecogniser(AtDigits):
    """Finds national numbers that have letters."""

    kinds = frozenset(one.kind for one in _CODES)

    def __init__(self) -> None:
        self._lettered = _Together(_LETTERED)
        self._numbered = _Together(_NUMBERED)

    def at(self, text: str, places: Sequence[int]) -> Iterator[Found]:
        for place in places:
            if _FIRST_DIGIT.match(text, place) is None:
                continue
            if not joins(text, place - 1):
                yield from self._numbered.at(text, place)
            start = _start(text, place)
            if start is not None:
                yield from self._lettered.at(text, start)


def _start(text: str, place: int) -> int | None:
    """Return where the letters before a digit begin, if there are neither none nor too many."""
    start = place - 1 if text[place - 1 : place] in ("-", " ") else place
    first = start
    while joins(text, first - 1) and text[first - 1].isalpha():
        first -= 1
        if start - first > _LONGEST_PREFIX:
            return None
    return first if first < start and not text[first - 1 : first].isdigit() else None
