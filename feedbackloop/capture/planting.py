"""A synthetic set of texts with planted values: the same seed gives the same set.

Every value is made up, and valid: a number is drawn in a form that its state or network uses until
its check digits are right. Beside them stand numbers that name nobody.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from re import compile as regex
from uuid import UUID

import msgspec

from feedbackloop.capture import checksums, codes, national, payments
from feedbackloop.capture.fields import UNREADABLE

HALVES = ("tuned", "held-out")
"""What the recognisers were tuned on, and what is reported."""

_MARK = regex(r"\{([A-Z][A-Z_]+|[a-z]+)\}")
_SIGNS = {"9": "0123456789", "A": "ABCDEFGHJKLMNPRSTUVWXYZ", "x": "0123456789abcdef"}
_NAMES = [
    "mara",
    "levin",
    "otto",
    "sanna",
    "kim",
    "priya",
    "luca",
    "jonas",
    "ines",
    "tomek",
    "aiko",
    "bruno",
    "freya",
    "noor",
]
_HOSTS = (
    "example.com", "example.org", "mail.example.co.uk", "example.de", "uni.example.edu",
    "bücher.example", "sub.dept.example.fr", "example.io",
)  # fmt: skip


class Span(msgspec.Struct, frozen=True):
    """Where a value was planted, and of which kind it is."""

    start: int
    end: int
    kind: str


class Text(msgspec.Struct, frozen=True):
    """A text, and all that has to be found in it."""

    text: str
    spans: tuple[Span, ...] = ()
    id: str = ""


def planted(half: str, *, seed: int, each: int) -> Iterator[Text]:
    """Make texts of a half: each of its templates, filled that many times.

    Args:
        half: One of ``HALVES``.
        seed: Of all chance.
        each: Texts of one template.
    """
    with (Path(__file__).parent / "planted.toml").open("rb") as file:
        templates: list[str] = tomllib.load(file)[half]
    random = Random(f"{half} {seed}")  # noqa: S311  # it makes up values, and guards none
    for number, template in enumerate(templates):
        for turn in range(each):
            yield _filled(template, random, id=f"{half}-{number}-{turn}")


def _filled(template: str, random: Random, *, id: str) -> Text:  # noqa: A002  # the field's name
    parts: list[str] = []
    spans: list[Span] = []
    at = length = 0
    for mark in _MARK.finditer(template):
        name = mark.group(1)
        parts.append(template[at : mark.start()])
        length += len(parts[-1])
        value = _MADE[name](random)
        if name.isupper():
            spans.append(Span(length, length + len(value), name))
        parts.append(value)
        length += len(value)
        at = mark.end()
    return Text("".join((*parts, template[at:])), tuple(spans), id)


def _drawn(random: Random, form: str) -> str:
    return "".join(random.choice(_SIGNS[one]) if one in _SIGNS else one for one in form)


def _some(*forms: str) -> Callable[[Random], str]:
    return lambda random: _drawn(random, random.choice(forms))


def _day(random: Random, form: str) -> str:
    """Put a day into a form: yy, mm and dd, and the year's first digits as cc."""
    year, month, day = random.randrange(30, 100), random.randrange(1, 13), random.randrange(1, 29)
    values = {"yy": f"{year:02d}", "mm": f"{month:02d}", "dd": f"{day:02d}", "cc": "19"}
    for name, value in values.items():
        form = form.replace(name, value)
    return form


def _valid(is_valid: Callable[[str], bool], *forms: str, keep: str = "") -> Callable[[Random], str]:
    """Draw until the check digits are right; signs in ``keep`` belong to the number."""

    def make(random: Random) -> str:
        form = random.choice(forms)
        while True:
            value = _drawn(random, _day(random, form))
            if is_valid("".join(one for one in value if one.isalnum() or one in keep)):
                return value

    return make


def _email(random: Random) -> str:
    name, other = random.choice(_NAMES), random.choice(_NAMES)
    sign = random.choice((".", "_", "-", "+", ""))
    local = f"{name}{sign}{other}{random.choice(('', str(random.randrange(100))))}"
    return f"{random.choice((local, local.title()))}@{random.choice(_HOSTS)}"


_ACCOUNTS = (
    ("DE", "9" * 18), ("FR", "9" * 23), ("GB", "AAAA" + "9" * 14), ("NL", "AAAA" + "9" * 10),
    ("ES", "9" * 20), ("PL", "9" * 24), ("NO", "9" * 11), ("CH", "9" * 17),
)  # fmt: skip


def _iban(random: Random) -> str:
    country, body = random.choice(_ACCOUNTS)
    rest = _drawn(random, body)
    turned = "".join(str(int(one, 36)) for one in f"{rest}{country}00")
    code = f"{country}{98 - int(turned) % 97:02d}{rest}"
    blocks = " ".join(code[at : at + 4] for at in range(0, len(code), 4))
    return random.choice((code, blocks))


def _coin(random: Random) -> str:
    if random.choice((True, False)):
        return "0x" + _drawn(random, "x" * 40)
    return _base58(bytes([0]) + random.randbytes(20))


def _base58(payload: bytes) -> str:
    signs = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    whole = payload + checksums.twice_hashed(payload)[:4]
    number, code = int.from_bytes(whole, "big"), ""
    while number:
        number, rest = divmod(number, 58)
        code = signs[rest] + code
    return "1" + code


def _secret(random: Random) -> str:
    lettered = "".join(random.choices("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQ23456789", k=44))
    jwt = f"eyJhbGciOiJIUzI1NiJ9.eyJ{lettered[:30]}.{lettered[4:43]}"
    return random.choice(
        (
            f"sk-proj-{lettered}",
            f"ghp_{lettered[:36]}",
            "AKIA" + _drawn(random, "A" * 16),
            jwt,
            f"xoxb-{_drawn(random, '9' * 11)}-{lettered[:24]}",
            f"hf_{lettered[:34]}",
            f"glpat-{lettered[:20]}",
            f"AIza{lettered[:35]}",
            f"SG.{lettered[:22]}.{lettered[:43]}",
            f"{random.choice(_NAMES).title()}-{_drawn(random, '99')}{lettered[:6]}!x",
        )
    )


def _credentials(random: Random) -> str:
    password = f"{_drawn(random, 'AA99')}{random.choice(_NAMES)}{_drawn(random, '9')}"
    return f"{random.choice(_NAMES)}:{password}"


def _ip(random: Random) -> str:
    if random.randrange(3) == 0:
        return _drawn(random, "2a01:4f8:xxx:9xx::x")
    first = random.choice((23, 34, 52, 81, 91, 104, 151, 185, 199, 212))
    return ".".join(map(str, (first, *(random.randrange(1, 255) for _ in range(3)))))


def _date(random: Random) -> str:
    return _day(random, random.choice(("ccyy-mm-dd", "dd.mm.ccyy", "mm/dd/ccyy", "ccyymmdd")))


def _bad_card(random: Random) -> str:
    while True:
        digits = _drawn(random, "4" + "9" * 15)
        if not checksums.luhn(digits):
            return digits


_MADE: Mapping[str, Callable[[Random], str]] = {
    "EMAIL": _email,
    "PHONE": _some(
        "+49 30 9999999", "+44 7999 999999", "+1 (415) 555-9999", "(212) 555-9999", "415-555-9999",
        "0171 9999999", "+33 6 99 99 99 99", "06 99 99 99 99", "+86 139 9999 9999", "020 7999 9999",
    ),
    "CARD": _valid(
        payments.is_card, "4999 9999 9999 9999", "5299999999999999", "3799 999999 99999",
        "4999-9999-9999-9999", "2300999999999999",
    ),
    "IBAN": _iban,
    "COIN_ADDRESS": _coin,
    "SECRET": _secret,
    "URL_CREDENTIALS": _credentials,
    "IP": _ip,
    "MAC": _some("0x:1B:44:xx:xx:xx", "a4-5E-xx-xx-xx-xx"),
    "US_SSN": _valid(national.is_us_ssn, "399-99-9999", "299-99-9999"),
    "DE_TAX_ID": _valid(national.is_de_tax_id, "99 999 999 999", "99999999999"),
    "FR_NIR": _valid(national.is_fr_nir, "1 yy mm 75 999 999 99", "2yymm6999999999"),
    "NL_BSN": _valid(national.is_nl_bsn, "199999999", "1999.99.999"),
    "PL_PESEL": _valid(national.is_pl_pesel, "yymmdd99999"),
    "GB_NHS": _valid(national.is_gb_nhs, "499 999 9999", "4999999999"),
    "BR_CPF": _valid(national.is_br_cpf, "999.999.999-99", "99999999999"),
    "IN_AADHAAR": _valid(national.is_in_aadhaar, "2999 9999 9999", "8999-9999-9999"),
    "SE_PERSONNUMMER": _valid(national.is_se_personnummer, "yymmdd-9999", "ccyymmdd9999"),
    "DK_CPR": _valid(national.is_dk_cpr, "ddmmyy-9999"),
    "NO_FODSELSNUMMER": _valid(national.is_no_fodselsnummer, "ddmmyy99999", "ddmmyy 99999"),
    "BE_NATIONAL": _valid(national.is_be_national, "yy.mm.dd-999.99", "yymmdd99999"),
    "CH_AHV": _valid(national.is_ch_ahv, "756.9999.9999.99", "7569999999999"),
    "AT_SVNR": _valid(national.is_at_svnr, "1999 ddmmyy"),
    "CZ_RC": _valid(national.is_cz_rc, "yymmdd/9999"),
    "RO_CNP": _valid(national.is_ro_cnp, "1yymmdd999999"),
    "PT_NIF": _valid(national.is_pt_nif, "299999999", "199999999"),
    "TR_KIMLIK": _valid(national.is_tr_kimlik, "19999999999"),
    "ZA_ID": _valid(national.is_za_id, "yymmdd9999089"),
    "CN_ID": _valid(national.is_cn_id, "110105ccyymmdd9999"),
    "KR_RRN": _valid(national.is_kr_rrn, "yymmdd-1999999"),
    "JP_MY_NUMBER": _valid(national.is_jp_my_number, "999999999999"),
    "AU_TFN": _valid(national.is_au_tfn, "199 999 999"),
    "CA_SIN": _valid(checksums.luhn, "199 999 999", "199-999-999"),
    "RU_SNILS": _valid(national.is_ru_snils, "199-999-999 99"),
    "ES_DNI": _valid(codes.is_es_dni, "99999999A", "99999999-A"),
    "ES_NIE": _valid(codes.is_es_dni, "X9999999A", "Y-9999999-A"),
    "IT_CODICE_FISCALE": _valid(codes.is_it_codice_fiscale, "RSSMRAyyCddF999A", "BNCLCUyyHddH999A"),
    "FI_HETU": _valid(codes.is_fi_hetu, "ddmmyy-999A", keep="-"),
    "GB_NINO": _valid(codes.is_gb_nino, "CB 99 99 99 C", "JG999999D"),
    "IN_PAN": _some("AAAPA9999A"),
    "MX_CURP": _valid(codes.is_mx_curp, "BOXWyymmddMNERXN09"),
    "CL_RUT": _valid(codes.is_cl_rut, "19.999.999-9"),
    "SG_NRIC": _valid(codes.is_sg_nric, "S9999999A"),
    "IE_PPS": _valid(codes.is_ie_pps, "9999999A"),
    "TW_ID": _valid(codes.is_tw_id, "A199999999"),
    "order": _some("2026-9999-9999", "ORD-99999999", "#9999999", "9999999999", "A-99999/26"),
    "date": _date,
    "time": _some("12:39:19", "09:49", "23:59:09.999"),
    "version": _some("9.9.9", "1.9.9.9", "2026.9.1", "10.99.9-rc9"),
    "uuid": lambda random: str(UUID(int=random.getrandbits(128), version=4)),
    "hash": _some("x" * 40, "x" * 64, "x" * 7),
    "price": _some("$9,999.99", "9.999,99 €", "£99", "€ 99.99", "199999 ¥"),
    "number": _some("9999", "99999", "999999", "1999999"),
    "float": _some("9.999", "0.99999999999", "99.9"),
    "port": _some("8999", "59999"),
    "small": _some("9", "19"),
    "ratio": _some("19:9", "1/29", "99-99", "12/29"),
    "isbn": _some("978-3-16-999999-9", "9783169999999"),
    "badcard": _bad_card,
    "epoch": _some("1772699999", "1772699999999"),
}  # fmt: skip


def parsed(line: bytes) -> Text:
    """Read a line of somebody's own set.

    Raises:
        ValueError: If it is none, or a span is not inside of its text.
    """
    try:
        text = msgspec.json.decode(line, type=Text)
    except UNREADABLE as error:
        raise ValueError(str(error)) from error
    for span in text.spans:
        if not 0 <= span.start < span.end <= len(text.text):
            raise ValueError(f"spans: {span.start} to {span.end} is not inside of the text")
    return text
