"""Payment cards, bank accounts and addresses of coins."""

from collections.abc import Sequence
from re import IGNORECASE, Match
from re import compile as regex

from feedbackloop.capture.checksums import base58, bech32, luhn, mod_97
from feedbackloop.capture.digits import Number
from feedbackloop.capture.recognisers import ALONE_AFTER, ALONE_BEFORE, AtDigits, Found, joins

_COUNTRIES = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22"
    " DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28"
    " HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21"
    " LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29"
    " PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23"
    " TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
_LENGTHS = {one[:2]: int(one[2:]) for one in _COUNTRIES.split()}
"""Of each country's IBAN, in characters (SWIFT's registry)."""

_IBAN_DIGITS = regex(r"[0-9]{2}(?=[ A-Za-z0-9-]{11})")
_IBAN_BODY = regex(r"[A-Z0-9]+(?:[ -][A-Z0-9]+)*", IGNORECASE)
_IBAN_LONGEST = 34 + 16  # with separators
_HEX_COIN = regex(ALONE_BEFORE + r"0x[0-9a-fA-F]{40}" + ALONE_AFTER)
_BECH32_COIN = regex(ALONE_BEFORE + r"bc1[02-9ac-hj-np-z]{11,71}" + ALONE_AFTER, IGNORECASE)
_COIN_SHORTEST = 14
_BASE58_COIN = regex(r"[13][1-9A-HJ-NP-Za-km-z]{25,33}" + ALONE_AFTER)

_ISSUERS = {
    14: ("36", "38", "39", *(f"30{n}" for n in range(6))),
    15: ("34", "37"),
    16: (
        *("4", "36", "38", "50", "60", "62", "63", "64", "65", "67", "81", "82", "9792"),
        *(str(n) for n in range(51, 60)),
        *(str(n) for n in range(2200, 2205)),
        *(str(n) for n in range(222, 273)),
        *(f"35{n}" for n in range(28, 90)),
    ),
    18: ("62", "67"),
    19: ("4", "62", "67"),
}
"""How a card's number begins, by its length: the networks' own ranges."""


def is_card(digits: str) -> bool:
    """Check issuer and sum."""
    return digits.startswith(_ISSUERS[len(digits)]) and luhn(digits) and len(set(digits)) > 1


def _spaced(*shapes: str) -> tuple[str, ...]:
    return tuple(shape.replace(" ", sign) for shape in shapes for sign in " -.")


CARD = Number(
    "CARD",
    is_card,
    shapes=(
        *("9" * length for length in _ISSUERS),
        *_spaced(
            "9999 9999 9999 9999",
            "9999 999999 99999",
            "9999 999999 9999",
            "9999 9999 9999 9999 999",
            "9999 9999 9999 9999 99",
            "99999999 99999999",
            "999999 9999999999999",
        ),
    ),
)


class IbanRecogniser(AtDigits):
    """Finds bank accounts: the country's length, and the remainder by 97 (ISO 13616)."""

    kinds = frozenset({"IBAN"})

    def at(self, text: str, places: Sequence[int]) -> list[Found]:
        found = []
        for place in places:
            start = place - 2
            if start < 0 or text[start : start + 2].upper() not in _LENGTHS:
                continue
            if joins(text, start - 1) or not _IBAN_DIGITS.match(text, place):
                continue
            end = _iban_end(text, start)
            if end is not None:
                found.append(Found(start, end, "IBAN"))
        return found


class CoinRecogniser(AtDigits):
    """Finds addresses of Bitcoin by their check sums, and of Ethereum by their form."""

    kinds = frozenset({"COIN_ADDRESS"})

    def at(self, text: str, places: Sequence[int]) -> list[Found]:
        if len(text) < _COIN_SHORTEST:
            return []
        matched = [_coin(text, place) for place in places if text[place] in "013"]
        return [Found(*match.span(), "COIN_ADDRESS") for match in matched if match is not None]


def _coin(text: str, place: int) -> Match[str] | None:
    """Match an address at its first digit."""
    if text[place] == "0":
        return _HEX_COIN.match(text, place)
    if text[place] == "1" and text[place - 2 : place] in ("bc", "BC", "Bc", "bC"):
        match = _BECH32_COIN.match(text, place - 2)
        if match is not None and bech32(match.group()):
            return match
    if text[place] not in "13" or joins(text, place - 1):
        return None
    match = _BASE58_COIN.match(text, place)
    return match if match is not None and base58(match.group()) else None


def _iban_end(text: str, start: int) -> int | None:
    length = _LENGTHS.get(text[start : start + 2].upper())
    body = _IBAN_BODY.match(text, start, start + _IBAN_LONGEST)
    if length is None or body is None:
        return None
    code = ""
    for place, one in enumerate(body.group(), start):
        if one.isalnum():
            code += one
        if len(code) == length:
            is_whole = not joins(text, place + 1)
            return place + 1 if is_whole and mod_97(code.upper()) else None
    return None
