"""Check digits and dates inside numbers: what tells a number from a person's number.

Every function takes ASCII digits (some a last letter), without separators, of the length that its
number has.
"""

from collections.abc import Sequence
from datetime import date
from hashlib import sha256

_VERHOEFF_TIMES = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_TURN = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_STEPS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32_ENDS = (1, 0x2BC830A3)  # BIP 173; BIP 350
_DIGITS = "0123456789"


def luhn(digits: str) -> bool:
    """Check Luhn's sum: every second digit from the right doubled (ISO/IEC 7812-1, annex B)."""
    total = sum(map(int, digits[-1::-2]))
    return (total + sum(sum(divmod(2 * int(one), 10)) for one in digits[-2::-2])) % 10 == 0


def weighted(digits: str, weights: Sequence[int]) -> int:
    """Sum the digits, each times its weight; digits beyond the weights do not count."""
    return sum(int(one) * weight for one, weight in zip(digits, weights, strict=False))


def verhoeff(digits: str) -> bool:
    """Check Verhoeff's sum over the dihedral group of ten elements."""
    state = 0
    for place, digit in enumerate(reversed(digits)):
        state = int(_VERHOEFF_TIMES[state][int(_VERHOEFF_TURN[place % 8][int(digit)])])
    return state == 0


def mod_11_10(digits: str) -> bool:
    """Check the hybrid system of ISO/IEC 7064, modulo 11 and 10."""
    state = 10
    for digit in digits[:-1]:
        state = (state + int(digit)) % 10 or 10
        state = state * 2 % 11
    return (11 - state) % 10 == int(digits[-1])


def mod_97(code: str) -> bool:
    """Check an IBAN's remainder: the first four characters last, letters as numbers from 10."""
    turned = code[4:] + code[:4]
    return int("".join(str(int(one, 36)) for one in turned)) % 97 == 1


def ean(digits: str) -> bool:
    """Check a sum with weights 1 and 3 in turn (GS1)."""
    return weighted(digits, (1, 3) * len(digits)) % 10 == 0


def is_date(year: int, month: int, day: int) -> bool:
    """Say whether a day exists; a year of two digits counts if it does in either century."""
    if not (1 <= month <= 12 and 1 <= day <= 31):  # noqa: PLR2004  # a calendar
        return False
    years = (1900 + year, 2000 + year) if year < 100 else (year,)  # noqa: PLR2004  # a century
    return any(_exists(one, month, day) for one in years)


def base58(code: str) -> bool:
    """Check the four bytes at a Bitcoin address' end."""
    number = 0
    for one in code:
        place = _BASE58.find(one)
        if place < 0:
            return False
        number = number * 58 + place
    if number >= 1 << 200:
        return False
    whole = number.to_bytes(25, "big")
    return twice_hashed(whole[:-4])[:4] == whole[-4:]


def twice_hashed(payload: bytes) -> bytes:
    """Return what Bitcoin takes its check bytes from."""
    return sha256(sha256(payload).digest()).digest()


def bech32(code: str) -> bool:
    """Check a Bitcoin address that begins with ``bc1`` (BIP 173 and 350)."""
    if code not in (code.lower(), code.upper()):
        return False
    prefix, _, data = code.lower().rpartition("1")
    values = [_BECH32.find(one) for one in data]
    if -1 in values:
        return False
    state = 1
    high = [ord(one) >> 5 for one in prefix]
    low = [ord(one) & 31 for one in prefix]
    for value in (*high, 0, *low, *values):
        top = state >> 25
        state = (state & 0x1FFFFFF) << 5 ^ value
        for bit, step in enumerate(_BECH32_STEPS):
            state ^= step if top >> bit & 1 else 0
    return state in _BECH32_ENDS


def _exists(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
