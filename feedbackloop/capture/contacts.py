"""Where people and their machines are reached: e-mail, telephone, IP and MAC addresses."""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from re import IGNORECASE
from re import compile as regex

from feedbackloop.capture.digits import Number
from feedbackloop.capture.recognisers import (
    ALONE_AFTER,
    ALONE_BEFORE,
    AtDigits,
    Context,
    Found,
    joins,
    plain,
)

_LOCAL_SIGNS = frozenset(".!#$%&'*+/=?^_{|}~-")
_LOCAL_LONGEST = 64
_UNSPACED = "\u2e80"  # from here on, scripts stand beside an address without a space
# Bounded, so that a long word without an end is read once.
_DOMAIN = regex(
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}"
    r"(?:xn--[a-z0-9-]{2,59}|[A-Za-z\u00c0-\u06ff\u0900-\u0e7f]{2,24})(?![A-Za-z0-9_])"
)
_SIGNS = ("@", "%40")
_ATS = ("at", "ät", "arroba", "chez")
_BRACKETS = "[({<"
_HIDDEN_AT = regex(rf"(?: ?[\[({{<] ?(?:{'|'.join(_ATS)}) ?[\])}}>] ?)", IGNORECASE)
_HIDDEN_DOMAIN = regex(
    r"[^\W_][\w-]{0,61}"
    r"(?:(?: ?[\[({<] ?(?:dot|punkt|punto|point) ?[\])}>] ?|\.)[^\W_][\w-]{0,61}){1,4}",
    IGNORECASE,
)
_FILES = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "html", "json"})
_ROLES = frozenset({"git@github.com", "git@gitlab.com", "git@bitbucket.org"})


class EmailRecogniser:
    """Finds e-mail addresses, those with international letters and half hidden ones included."""

    kinds = frozenset({"EMAIL"})
    signs = (
        *_SIGNS,
        *(f"{bracket}{space}{at}" for bracket in _BRACKETS for space in ("", " ") for at in _ATS),
    )

    def find(self, text: str) -> Iterator[Found]:
        """Say where addresses stand."""
        text = plain(text)
        for sign in _SIGNS:
            at = text.find(sign)
            while at >= 0:
                yield from self._around(text, at, at + len(sign))
                at = text.find(sign, at + 1)
        if any(bracket in text for bracket in _BRACKETS):
            for match in _HIDDEN_AT.finditer(text):
                yield from self._hidden(text, match.start(), match.end())

    def _around(self, text: str, at: int, after: int) -> Iterator[Found]:
        start = _local_start(text, at)
        domain = _DOMAIN.match(text, after)
        if start == at or domain is None:
            return
        top = domain.group().rpartition(".")[2].lower()
        if _is_in_url(text, start) or top in _FILES:
            return
        if text[start : domain.end()].lower() not in _ROLES:
            yield Found(start, domain.end(), "EMAIL")

    def _hidden(self, text: str, at: int, after: int) -> Iterator[Found]:
        start = _local_start(text, at)
        domain = _HIDDEN_DOMAIN.match(text, after)
        if start < at and domain is not None:
            yield Found(start, domain.end(), "EMAIL")


def _local_start(text: str, at: int) -> int:
    """Return where the part before the sign begins; there, if it is empty."""
    start = at
    while start > max(0, at - _LOCAL_LONGEST):
        sign = text[start - 1]
        if sign >= _UNSPACED or not (sign.isalnum() or sign in _LOCAL_SIGNS):
            break
        start -= 1
    while start < at and text[start] in ".'*_~/=|{&?!#^":
        # Marks around a word belong to the text: *ann@example.org*
        start += 1
    return start


def _is_in_url(text: str, start: int) -> bool:
    """Say whether what looks like an address is a URL's password and host."""
    before = text[max(0, start - _LOCAL_LONGEST) : start]
    return before.endswith(":") and "://" in before.rpartition(" ")[2]


_CALL = Context(
    r"tel|telefon\w*|telephone|phones?|fon|mobil\w*|handy\w*|cell|cellphone|fax|whatsapp|hotline"
    r"|call|calls|called|text|sms|dial|reach|ring|contact|numbers?|phone_number|nr"
    r"|ruf\w*|anruf\w*|nummer|appel\w*|portable|numéro|téléphone|joindre|telef\w*|teléfono|móvil"
    r"|movil|celular|llam\w*|llámame|cellulare|chiam\w*|numero|bel|bellen|ligue|ligar|telefone"
    r"|komórk\w*|zadzwo\w*|numer|ring|телефон\w*|звон\w*|позвон\w*|номер\w*|мобильн\w*",
    glued="电话|手机|電話|携帯|전화|फोन|هاتف|جوال",
)
_INTERNATIONAL = regex(r"(?:\+|\b00)[1-9][0-9]{0,3}(?:[ .\-/]{0,2}\(?[0-9]{1,6}\)?){1,8}")
_LAST_GROUP = regex(r"[ .\-/(]+[0-9]+\)?$")
_PARENTHESES = regex(
    r"\(0?[1-9][0-9]{1,4}\)[ \-]?[0-9]{2,5}(?:[ .\-/][0-9]{2,5}){0,3}" + ALONE_AFTER
)
# What comes after a 0 tells most numbers from those that people are called at.
_ZERO = regex(r"0(?:0[1-9]|[1-9][0-9]{0,4}[ .\-/])")
_TRUNK = regex(r"0[1-9][0-9]{0,4}(?:[ .\-/]{1,3}[0-9]{2,8}){1,5}" + ALONE_AFTER)
_DATE = regex(r"[0-9]{1,2}([./-])[0-9]{1,2}\1[0-9]{2,4}$")
_CODES_OF_COUNTRIES = (
    *("1", "7", "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41"),
    *("43", "44", "45", "46", "47", "48", "49", "51", "52", "53", "54", "55", "56", "57", "58"),
    *("60", "61", "62", "63", "64", "65", "66", "81", "82", "84", "86"),
    *("90", "91", "92", "93", "94", "95", "98"),
    *("21", "22", "23", "24", "25", "26", "29", "35", "37", "38", "42", "50", "59", "67", "68"),
    *("80", "85", "87", "88", "96", "97", "99"),
)
"""How a number goes on after its +: the codes of ITU-T E.164, those of three digits by two."""

_E164 = range(8, 16)  # digits, the country's code included
_NATIONAL = range(8, 12)  # digits with the trunk's 0


class PhoneRecogniser(AtDigits):
    """Finds telephone numbers: international ones, and national ones by form or context."""

    kinds = frozenset({"PHONE"})
    finds_alone = True

    def at(self, text: str, places: Sequence[int]) -> Iterable[Found]:
        zeros = [place for place in places if text[place] == "0" and _ZERO.match(text, place)]
        pluses = [p for p in places if text[p - 1 : p] == "+"] if "+" in text else []
        if not zeros and not pluses and "(" not in text:
            return ()
        return self._each(text, zeros, pluses)

    def _each(self, text: str, zeros: Sequence[int], pluses: Sequence[int]) -> Iterator[Found]:
        yield from self._international(text, sorted({*zeros, *pluses}))
        if "(" in text:
            for match in _PARENTHESES.finditer(text):
                if _digits(match.group()) in _NATIONAL:
                    yield Found(*match.span(), "PHONE")
        for place in zeros:
            trunk = _TRUNK.match(text, place)
            if trunk is not None and self._is_national(text, *trunk.span()):
                yield Found(*trunk.span(), "PHONE")

    def _international(self, text: str, places: Sequence[int]) -> Iterator[Found]:
        done = 0
        for place in places:
            match = None
            if text[place - 1 : place] == "+" and place > done:
                match = _INTERNATIONAL.match(text, place - 1)
            if match is None and text[place] == "0" and place >= done:
                match = _INTERNATIONAL.match(text, place)
            if match is None:
                continue
            done = match.end()
            end = _international_end(text, match.start(), done)
            if end is not None:
                yield Found(match.start(), end, "PHONE")

    def _is_national(self, text: str, start: int, end: int) -> bool:
        before = text[start - 1 : start]
        if joins(text, start - 1) or before in ("+", ".", "-", "/"):
            return False
        if _DATE.match(text, start, end):
            return False
        return _digits(text[start:end]) in _NATIONAL and _CALL.near(text, start, end)


def _digits(text: str) -> int:
    return sum(one.isdigit() for one in text)


def _international_end(text: str, start: int, end: int) -> int | None:
    """Return where a number ends whose digits E.164 allows."""
    if joins(text, start - 1):
        return None
    number = text[start:end].rstrip("( ")
    is_long = joins(text, end)
    while is_long or _digits(number) >= _E164.stop:
        # Another number, or a word, stands beside it.
        cut = _LAST_GROUP.search(number)
        if cut is None:
            return None
        number, is_long = number[: cut.start()], False
    bare = "".join(one for one in number if one.isdigit())
    bare = bare.removeprefix("00") if number[0] == "0" else bare
    if len(bare) not in _E164 or not bare.startswith(_CODES_OF_COUNTRIES):
        return None
    if number[0] == "0" and not _CALL.near(text, start, end) and not _is_grouped(number):
        return None
    return start + len(number)


def _is_grouped(number: str) -> bool:
    return any(sign in number for sign in " /-(")


def is_nanp(digits: str) -> bool:
    """Check the North American plan: neither area nor exchange begins with 0 or 1."""
    return digits[0] > "1" and digits[3] > "1" and digits[1:3] != "11" and digits[4:6] != "11"


def is_french(digits: str) -> bool:
    """Check the trunk's 0 and the zone."""
    return digits[0] == "0" and digits[1] != "0"


def is_mobile(digits: str) -> bool:
    """Check how nine digits begin that need no trunk's 0: Spain, Poland, Portugal, Sweden."""
    return digits[0] in "45679"


NATIONAL_PHONES = (
    Number("PHONE", is_nanp, ("999-999-9999", "999.999.9999"), ("999 999 9999", "9999999999"),
           context=_CALL),
    Number("PHONE", is_french, ("99 99 99 99 99", "99.99.99.99.99"),
           ("9999999999", "99-99-99-99-99", "99999999999"), context=_CALL),
    Number("PHONE", is_mobile, (),
           ("999 999 999", "999999999", "999-999-999", "999 99 99 99", "99 99 99 99", "99999999"),
           context=_CALL),
)  # fmt: skip
"""National numbers that have a form of digit groups."""

_IPV4 = regex(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\.[0-9])" + ALONE_AFTER)
# Each begins with a sign that is rare in prose, so that the search skips all else at once.
_TWO_COLONS = regex(r":[0-9A-Fa-f]{0,4}:")
_HEXTETS = regex(r"[0-9A-Fa-f:]{2,39}")
_MAC_TAIL = regex(r"([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}(?![:-])" + ALONE_AFTER)
_MAC_HEAD = regex(ALONE_BEFORE + r"(?<![:-])[0-9A-Fa-f]{2}$")
_VERSION = regex(
    r"(?:version|versión|release|ver\.?|v|build|rev\.?|section|firmware)[ :=]*$", IGNORECASE
)
_HEX = frozenset("0123456789abcdefABCDEF")
_SINGLE_DIGITS = len("1.2.3.4")
_DOTS, _COLONS, _DIVIDERS = 3, 2, 5  # of an IPv4, an IPv6 and a MAC address, at least
_ANYBODY = frozenset({"ffffffffffff", "000000000000"})


class IpRecogniser(AtDigits):
    """Finds addresses of machines in the public net: each of those begins with a digit.

    Addresses that a million homes have (``192.168.0.1``, ``::1``, masks) name nobody and stay.
    """

    kinds = frozenset({"IP"})

    def at(self, text: str, places: Sequence[int]) -> Iterable[Found]:
        if not places:
            return ()
        return (
            *(_ipv4(text) if text.count(".") >= _DOTS else ()),
            *(_ipv6(text) if text.count(":") >= _COLONS else ()),
        )


class MacRecogniser:
    """Finds addresses of network cards."""

    kinds = frozenset({"MAC"})
    signs = (":", "-")

    def find(self, text: str) -> Iterable[Found]:
        """Say where addresses stand."""
        text = plain(text)
        return _mac(text) if max(text.count(":"), text.count("-")) >= _DIVIDERS else ()


def _ipv4(text: str) -> Iterator[Found]:
    for match in _IPV4.finditer(text):
        start = match.start()
        before = text[max(0, start - 12) : start]
        if joins(text, start - 1) or before[-1:] == "." or _VERSION.search(before):
            continue
        if before[-1:] == "@" and match.end() - start == _SINGLE_DIGITS:
            continue  # a package's version
        if _is_public_v4(match.group()):
            yield Found(*match.span(), "IP")


def _mac(text: str) -> Iterator[Found]:
    for match in _MAC_TAIL.finditer(text):
        start = match.start() - 2
        head = _MAC_HEAD.search(text, max(0, start - 1), match.start())
        if head is not None and _bare(text[start : match.end()]) not in _ANYBODY:
            yield Found(start, match.end(), "MAC")


def _ipv6(text: str) -> Iterator[Found]:
    done = 0
    for match in _TWO_COLONS.finditer(text):
        start = match.start()
        while start > done and text[start - 1] in _HEX:
            start -= 1
        if start < done:
            continue
        run = _HEXTETS.match(text, start)
        done = start if run is None else run.end()
        is_joined = joins(text, start - 1) or joins(text, done)
        if run is not None and not is_joined and _is_public_v6(run.group().rstrip(":")):
            yield Found(start, start + len(run.group().rstrip(":")), "IP")


def _bare(text: str) -> str:
    return text.replace(":", "").replace("-", "").lower()


def _is_public_v4(text: str) -> bool:
    try:
        return IPv4Address(text).is_global
    except AddressValueError:
        return False


def _is_public_v6(text: str) -> bool:
    try:
        return IPv6Address(text).is_global and text[0] in "23"
    except AddressValueError:
        return False
