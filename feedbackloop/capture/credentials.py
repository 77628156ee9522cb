"""What opens doors: keys by their makers' prefixes, tokens, passwords, and URLs that hold them."""

from collections.abc import Iterator
from re import IGNORECASE, Match, Pattern
from re import compile as regex

from feedbackloop.capture.recognisers import Found, matches

_END = r"(?![A-Za-z0-9_-])"
PREFIXED = {
    "sk-": r"sk-(?:[a-z]{2,12}-)*[A-Za-z0-9_-]{20,200}",
    "sk_": r"sk_(?:live|test)_[A-Za-z0-9]{16,120}",
    "rk_": r"rk_(?:live|test)_[A-Za-z0-9]{16,120}",
    "whsec_": r"whsec_[A-Za-z0-9+/=]{24,80}",
    "ghp_": r"ghp_[A-Za-z0-9]{36,80}",
    "gho_": r"gho_[A-Za-z0-9]{36,80}",
    "ghu_": r"ghu_[A-Za-z0-9]{36,80}",
    "ghs_": r"ghs_[A-Za-z0-9]{36,80}",
    "ghr_": r"ghr_[A-Za-z0-9]{36,80}",
    "github_pat_": r"github_pat_[A-Za-z0-9_]{22,120}",
    "glpat-": r"glpat-[A-Za-z0-9_-]{20,80}",
    "AKIA": r"AKIA[A-Z2-7]{16}",
    "ASIA": r"ASIA[A-Z2-7]{16}",
    "AIza": r"AIza[A-Za-z0-9_-]{35}",
    "ya29.": r"ya29\.[A-Za-z0-9_-]{20,300}",
    "GOCSPX-": r"GOCSPX-[A-Za-z0-9_-]{20,60}",
    "xox": r"xox[abeoprs]-[A-Za-z0-9-]{10,250}",
    "xapp-": r"xapp-[A-Za-z0-9-]{20,250}",
    "hooks.slack.com": r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,100}",
    "SG.": r"SG\.[A-Za-z0-9_-]{16,40}\.[A-Za-z0-9_-]{16,80}",
    "npm_": r"npm_[A-Za-z0-9]{36}",
    "pypi-": r"pypi-[A-Za-z0-9_-]{50,300}",
    "hf_": r"hf_[A-Za-z0-9]{30,60}",
    "dop_v1_": r"dop_v1_[a-f0-9]{64}",
    "shpat_": r"shpat_[a-fA-F0-9]{32}",
    "eyJ": r"eyJ[\w-]{8,2000}\.eyJ[\w-]{8,6000}\.[\w-]{8,2000}",
    "AGE-SECRET-KEY-": r"AGE-SECRET-KEY-1[A-Z0-9]{40,80}",
    "AccountKey=": r"AccountKey=[A-Za-z0-9+/]{40,100}={0,2}",
    "fl_": r"fl_[A-Za-z0-9_-]{32,80}",
}
"""A word that has to be in the text, and the form of the secret that begins with it."""

_PATTERNS = {sign: regex(rf"(?<![A-Za-z0-9]){form}{_END}") for sign, form in PREFIXED.items()}
_PEM_BEGIN = "-----BEGIN "
_PEM = regex(r"-----BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----")
_PEM_LONGEST = 2**16
_PEM_BODY = regex(r"[A-Za-z0-9+/=\s\\:,.-]{0,20000}")
PASSWORDS = (
    *("password", "passwd", "passphrase", "pwd", "passwort", "kennwort", "mot de passe", "senha"),
    *("contraseña", "wachtwoord", "hasło", "lösenord", "пароль", "密码", "パスワード"),
    *("비밀번호", "şifre"),
)
KEYS = (
    *("api key", "api-key", "api_key", "apikey", "secret", "access key", "access_key", "accesskey"),
    *("token", "private key", "private_key"),
)
"""What a value is called that must not be known, in small letters."""

STEMS = ("pass", "pwd", "key", "token", "secret", "kennwort", "senha", "wachtwoord")
"""One of them is in every name that is ASCII."""

_ASSIGNED = regex(
    r"(?:[ _-]?(?:access[ _-]?)?key)?[\"'`]?[ \t]{0,3}"
    r"(?:[:=\uff1a]|=>|is:?|ist:?|est ?:?|es:?|é:?|to:?|は|是)[ \t]{0,3}[\"'`]?"
    r"([^\s\"'`<>]{6,200})",
    IGNORECASE,
)
_SCHEMES = ("Bearer", "Basic", "Token")
_BEARER = regex(rf"(?:{'|'.join(_SCHEMES)}) +([A-Za-z0-9._~+/=-]{{16,4000}})")
_CODE = regex(r"\w[\w.]*[(\[{<]|[({$]|[A-Za-z_]+(?:\.[A-Za-z_]+)+$|[A-Z_]+$|\*+$|\[|<|%|/")
_WORD = regex(r"[a-z_-]+$", IGNORECASE)
_NUMBERED_WORD = regex(r"[a-z_-]+[0-9]{0,2}$", IGNORECASE)
_USERINFO = regex(r"([^\s/@:?#\[\]()<>\"']{0,100}:[^\s/@?#<>\"']{1,300})@[^\s/@]")
_SCHEME = regex(r"[A-Za-z][A-Za-z0-9+.-]{1,20}$")
_SHORTEST = 6  # characters of a password
_ENDS = ".,;:!?)]}"


class SecretRecogniser:
    """Finds keys, tokens and passwords."""

    kinds = frozenset({"SECRET"})
    signs = frozenset(
        {
            *map(str.lower, (*PREFIXED, _PEM_BEGIN, *_SCHEMES)),
            *STEMS,
            *(name for name in PASSWORDS if not name.isascii()),
        }
    )

    def find(self, text: str) -> Iterator[Found]:
        """Say where secrets stand."""
        for sign, pattern in _PATTERNS.items():
            if sign in text:
                yield from matches(pattern, text, "SECRET")
        if _PEM_BEGIN in text:
            for match in _PEM.finditer(text):
                yield Found(match.start(), _pem_end(text, match), "SECRET")
        yield from _assigned(text)
        if any(scheme in text for scheme in _SCHEMES):
            yield from matches(_BEARER, text, "SECRET")


class CredentialsRecogniser:
    """Finds names and passwords inside URLs; host and path stay."""

    kinds = frozenset({"URL_CREDENTIALS"})
    signs = ("://",)

    def find(self, text: str) -> Iterator[Found]:
        """Say where credentials stand."""
        at = text.find("://")
        while at >= 0:
            match = _USERINFO.match(text, at + 3)
            if match is not None and _SCHEME.search(text, max(0, at - 22), at):
                yield Found(match.start(1), match.end(1), "URL_CREDENTIALS")
            at = text.find("://", at + 3)


def _assigned(text: str) -> Iterator[Found]:
    small = text.lower()
    if len(small) != len(text):  # in few scripts a small letter is two
        small = text
    if small.isascii() and not any(map(small.__contains__, STEMS)):
        return
    for name in (*PASSWORDS, *KEYS):
        at = small.find(name)
        plain = _WORD if name in PASSWORDS else _NUMBERED_WORD
        while at >= 0:
            at += len(name)
            match = _ASSIGNED.match(text, at)
            value = "" if match is None else match.group(1).rstrip(_ENDS)
            if match is not None and _is_secret(value, plain=plain):
                yield Found(match.start(1), match.start(1) + len(value), "SECRET")
            at = small.find(name, at)


def _pem_end(text: str, begin: Match[str]) -> int:
    """Return where a private key ends; one that was cut ends where its letters do, or the next."""
    end = f"-----END {begin.group(1)}-----"
    start = begin.end()
    # No further than keys are long: else a text full of beginnings is read once for each.
    found = text.find(end, start, start + _PEM_LONGEST)
    if found >= 0:
        return found + len(end)
    following = text.find(_PEM_BEGIN, start, start + _PEM_LONGEST)
    body = _PEM_BODY.match(text, start, len(text) if following < 0 else following)
    return start if body is None else body.end()


def _is_secret(value: str, *, plain: Pattern[str]) -> bool:
    """Tell what is like a password from a word, and from a name or a call in a program."""
    if len(value) < _SHORTEST or _CODE.match(value) or plain.match(value):
        return False
    return any(one.isdigit() for one in value) or (
        value.lower() != value and any(not one.isalnum() for one in value)
    )
