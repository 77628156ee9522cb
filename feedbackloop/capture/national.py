"""Numbers by which states know people: how they are written, and what their digits must add up to.

A number with a strong sum or a form of its own is found wherever it stands; one that any number of
its length could be counts only near a word that announces it.
"""

from feedbackloop.capture.checksums import ean, is_date, luhn, mod_11_10, verhoeff, weighted
from feedbackloop.capture.digits import Number
from feedbackloop.capture.recognisers import Context

_NEVER_ISSUED = ("000", "666")
_ITIN_GROUPS = frozenset({*range(50, 66), *range(70, 89), *range(90, 93), *range(94, 100)})
_SEX_DIGITS = {"1": 1900, "2": 1900, "3": 1800, "4": 1800, "5": 2000, "6": 2000, "7": 0, "8": 0}


def is_us_ssn(d: str) -> bool:
    """Check what the Social Security Administration never issues; ITINs begin with a 9."""
    area, group, serial = d[:3], d[3:5], d[5:]
    if area[0] == "9":
        return int(group) in _ITIN_GROUPS
    return area not in _NEVER_ISSUED and group != "00" and serial != "0000"


def is_de_tax_id(d: str) -> bool:
    """Check the Steuer-IdNr: among ten digits one comes twice or three times; ISO 7064."""
    counts = sorted(d[:10].count(one) for one in set(d[:10]))
    return d[0] != "0" and counts[-1] in (2, 3) and counts[-2] == 1 and mod_11_10(d)


def is_fr_nir(d: str) -> bool:
    """Check the numéro de sécurité sociale: sex, month, and 97 less the remainder by 97."""
    month = int(d[3:5])
    known = 1 <= month <= 12 or 20 <= month <= 42 or month >= 50  # noqa: PLR2004  # INSEE's
    return d[0] in "1234678" and known and 97 - int(d[:13]) % 97 == int(d[13:])


def is_nl_bsn(d: str) -> bool:
    """Check the elfproef."""
    return int(d) > 0 and weighted(d, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def is_pl_pesel(d: str) -> bool:
    """Check the date, whose month tells the century, and the sum."""
    century, month = divmod(int(d[2:4]), 20)
    year = (1900, 2000, 2100, 2200, 1800)[century] + int(d[:2])
    total = weighted(d, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1))
    return is_date(year, month, int(d[4:6])) and total % 10 == 0


def is_gb_nhs(d: str) -> bool:
    """Check the sum modulo 11."""
    return len(set(d)) > 1 and weighted(d, (10, 9, 8, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def is_br_cpf(d: str) -> bool:
    """Check both digits modulo 11."""
    first = weighted(d[:9], range(10, 1, -1)) * 10 % 11 % 10
    second = weighted(d[:10], range(11, 1, -1)) * 10 % 11 % 10
    return len(set(d)) > 1 and d[9:] == f"{first}{second}"


def is_in_aadhaar(d: str) -> bool:
    """Check Verhoeff's sum; no number begins with 0 or 1."""
    return d[0] > "1" and d != d[::-1] and verhoeff(d)


def is_se_personnummer(d: str) -> bool:
    """Check the date, 60 days added for coordination numbers, and Luhn's sum."""
    d = d[-10:]
    day = int(d[4:6])
    return is_date(int(d[:2]), int(d[2:4]), day - 60 if day > 60 else day) and luhn(d)  # noqa: PLR2004


def is_dk_cpr(d: str) -> bool:
    """Check the date; the sum is not used since 2007."""
    return is_date(int(d[4:6]), int(d[2:4]), int(d[:2]))


def is_no_fodselsnummer(d: str) -> bool:
    """Check the date, 40 added to days or months of some, and both sums modulo 11."""
    day, month = int(d[:2]) % 40, int(d[2:4]) % 40
    sums = (
        weighted(d, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)),
        weighted(d, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)),
    )
    return is_date(int(d[4:6]), month, day) and all(one % 11 == 0 for one in sums)


def is_be_national(d: str) -> bool:
    """Check the date and 97 less the remainder by 97, with a 2 before it from 2000 on."""
    old, new = (97 - int(century + d[:9]) % 97 for century in ("", "2"))
    month = int(d[2:4]) % 20
    return is_date(int(d[:2]), month, int(d[4:6])) and int(d[9:]) in (old, new)


def is_ch_ahv(d: str) -> bool:
    """Check the country, 756, and the sum of an EAN."""
    return d.startswith("756") and ean(d)


def is_at_svnr(d: str) -> bool:
    """Check the sum modulo 11 and the date."""
    total = weighted(d, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11
    return d[0] != "0" and total == int(d[3]) and is_date(int(d[8:]), int(d[6:8]), int(d[4:6]))


def is_cz_rc(d: str) -> bool:
    """Check the rodné číslo: the sum modulo 11; 50, 20 or 70 are added to some months."""
    month = int(d[2:4]) % 50
    month -= 20 if month > 20 else 0  # noqa: PLR2004  # when a day's numbers ran out
    return is_date(int(d[:2]), month, int(d[4:6])) and int(d[:9]) % 11 % 10 == int(d[9])


def is_ro_cnp(d: str) -> bool:
    """Check sex and century, date and sum."""
    century = _SEX_DIGITS.get(d[0])
    control = weighted(d, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    if century is None or d[12] != ("1" if control == 10 else str(control)):  # noqa: PLR2004  # ten
        return False
    return is_date(century + int(d[1:3]), int(d[3:5]), int(d[5:7]))


def is_pt_nif(d: str) -> bool:
    """Check the sum modulo 11; people's begin with 1, 2, 3 or 45."""
    control = weighted(d, range(9, 1, -1)) % 11
    return d.startswith(("1", "2", "3", "45")) and int(d[8]) == (0 if control < 2 else 11 - control)  # noqa: PLR2004


def is_tr_kimlik(d: str) -> bool:
    """Check both last digits."""
    odd, even = sum(map(int, d[0:9:2])), sum(map(int, d[1:8:2]))
    tenth = (odd * 7 - even) % 10
    return d[0] != "0" and d[9:] == f"{tenth}{(odd + even + tenth) % 10}"


def is_za_id(d: str) -> bool:
    """Check the date, the citizen's digit and Luhn's sum."""
    return is_date(int(d[:2]), int(d[2:4]), int(d[4:6])) and d[10] in "012" and luhn(d)


def is_cn_id(d: str) -> bool:
    """Check the date and ISO 7064 modulo 11 and 2; an X for ten may come last."""
    total = sum(int(one) * pow(2, 17 - place, 11) for place, one in enumerate(d[:17]))
    last = 10 if d[17] in "xX" else int(d[17])
    return is_date(int(d[6:10]), int(d[10:12]), int(d[12:14])) and (total + last) % 11 == 1


def is_kr_rrn(d: str) -> bool:
    """Check date and sex; there is no sum since 2020."""
    return is_date(int(d[:2]), int(d[2:4]), int(d[4:6])) and d[6] in "12345678"


def is_jp_my_number(d: str) -> bool:
    """Check the sum modulo 11."""
    rest = weighted(d, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return int(d[11]) == (0 if rest <= 1 else 11 - rest)


def is_au_tfn(d: str) -> bool:
    """Check the sum modulo 11."""
    return weighted(d, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def is_ru_snils(d: str) -> bool:
    """Check the sum modulo 101."""
    return weighted(d, range(9, 0, -1)) % 101 % 100 == int(d[9:])


NATIONAL = (
    Number("US_SSN", is_us_ssn, ("999-99-9999",), ("999 99 9999", "999999999"),
           Context("ssn|ssns|itin|social[ -]?security")),
    Number("DE_TAX_ID", is_de_tax_id, ("99 999 999 999",), ("99999999999",),
           Context(r"steuer[ -]?id\w*|idnr|tin|tax[ -]?id")),
    Number("FR_NIR", is_fr_nir, ("9 99 99 99 999 999 99", "999999999999999", "9999999999999 99")),
    Number("NL_BSN", is_nl_bsn, ("9999.99.999",), ("999999999", "999 999 999"),
           Context("bsn|burgerservicenummer|sofinummer")),
    Number("PL_PESEL", is_pl_pesel, ("99999999999",)),
    Number("GB_NHS", is_gb_nhs, (), ("999 999 9999", "999-999-9999", "9999999999"),
           Context("nhs")),
    Number("BR_CPF", is_br_cpf, ("999.999.999-99",), ("99999999999", "999 999 999 99"),
           Context("cpf")),
    Number("IN_AADHAAR", is_in_aadhaar, ("9999 9999 9999", "9999-9999-9999"), ("999999999999",),
           Context("aadhaar|aadhar|uidai|uid", glued="आधार")),
    Number("SE_PERSONNUMMER", is_se_personnummer, ("999999-9999", "99999999-9999", "999999999999"),
           ("9999999999",), Context("personnummer|personnr|samordningsnummer")),
    Number("DK_CPR", is_dk_cpr, (), ("999999-9999", "9999999999", "999999 9999"),
           Context("cpr|cpr[ -]?nummer|cpr[ -]?nr|personnummer")),
    Number("NO_FODSELSNUMMER", is_no_fodselsnummer, ("99999999999", "999999 99999")),
    Number("BE_NATIONAL", is_be_national, ("99.99.99-999.99", "99999999999")),
    Number("CH_AHV", is_ch_ahv, ("999.9999.9999.99", "9999999999999", "999 9999 9999 99")),
    Number("AT_SVNR", is_at_svnr, (), ("9999 999999", "9999999999"),
           Context("svnr|sv[ -]?nummer|sozialversicherungsnummer|versicherungsnummer")),
    Number("CZ_RC", is_cz_rc, ("999999/9999",), ("9999999999",),
           Context("rodné[ -]?číslo|rodne[ -]?cislo|rč")),
    Number("RO_CNP", is_ro_cnp, ("9999999999999",)),
    Number("PT_NIF", is_pt_nif, (), ("999999999", "999 999 999"), Context("nif|contribuinte")),
    Number("TR_KIMLIK", is_tr_kimlik, (), ("99999999999", "999 999 999 99"),
           Context("kimlik|tc[ -]?no|tckn|t[.]c[.]")),
    Number("ZA_ID", is_za_id, ("9999999999999", "999999 9999 999")),
    Number("CN_ID", is_cn_id, ("999999999999999999",)),
    Number("KR_RRN", is_kr_rrn, ("999999-9999999",), ("9999999999999",),
           Context("rrn", glued="주민등록번호|주민번호")),
    Number("JP_MY_NUMBER", is_jp_my_number, (),
           ("999999999999", "9999 9999 9999", "9999-9999-9999"),
           Context("my[ -]?number", glued="マイナンバー|個人番号")),
    Number("AU_TFN", is_au_tfn, (), ("999 999 999", "999999999"),
           Context("tfn|tax[ -]?file")),
    Number("CA_SIN", luhn, (), ("999 999 999", "999-999-999", "999999999"),
           Context("sin|nas|social[ -]?insurance|assurance[ -]?sociale")),
    Number("RU_SNILS", is_ru_snils, ("999-999-999 99",), ("99999999999",),
           Context("снилс|snils")),
)  # fmt: skip
"""Every national number that is digits alone."""
