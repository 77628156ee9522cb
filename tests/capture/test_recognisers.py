"""What is found, and above all what is left alone."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.placeholders import Numbers
from feedbackloop.capture.recognisers import Found, merged
from feedbackloop.capture.redactor import Redactor, built_in

REDACTOR = Redactor(built_in())
COIN = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIGt\n-----END EC PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"

# Specimens that states, networks and standards publish, or that are on anybody's test card.
SPECIMENS = [
    ("EMAIL", "jane.doe+x@mail.example.co.uk"),
    ("EMAIL", "jörg@müller.example"),
    ("EMAIL", "jane.doe [at] example [dot] org"),
    ("EMAIL", "jane%40example.org"),
    ("PHONE", "+49 30 901820"),
    ("PHONE", "+1 (415) 555-2671"),
    ("PHONE", "(415) 555-2671"),
    ("PHONE", "415-555-2671"),
    ("PHONE", "06 12 34 56 78"),
    ("CARD", "4111 1111 1111 1111"),
    ("CARD", "5555555555554444"),
    ("CARD", "3782-822463-10005"),
    ("IBAN", "DE89 3704 0044 0532 0130 00"),
    ("IBAN", "GB29NWBK60161331926819"),
    ("COIN_ADDRESS", COIN),
    ("COIN_ADDRESS", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"),
    ("COIN_ADDRESS", "0x52908400098527886E0F7030069857D2E4169EE7"),
    ("IP", "93.184.216.34"),
    ("IP", "2606:2800:220:1:248:1893:25c8:1946"),
    ("MAC", "00:1B:44:11:3A:B7"),
    ("SECRET", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
    ("SECRET", "AKIAIOSFODNN7EXAMPLE"),
    ("SECRET", JWT),
    ("SECRET", PEM),
    ("US_SSN", "219-09-9999"),
    ("DE_TAX_ID", "36 574 261 809"),
    ("FR_NIR", "2 95 10 99 126 111 93"),
    ("FR_NIR", "1 99 07 2A 228 108 69"),
    ("ES_DNI", "54362315K"),
    ("ES_NIE", "X-2482300-W"),
    ("IT_CODICE_FISCALE", "RCCMNL83S18D969H"),
    ("PL_PESEL", "44051401359"),
    ("BR_CPF", "390.533.447-05"),
    ("IN_AADHAAR", "2341 2341 2346"),
    ("IN_PAN", "ABCPE1234F"),
    ("SE_PERSONNUMMER", "811228-9874"),
    ("NO_FODSELSNUMMER", "15108695088"),
    ("FI_HETU", "131052-308T"),
    ("BE_NATIONAL", "85.07.30-033.28"),
    ("CH_AHV", "756.9217.0769.85"),
    ("CZ_RC", "710319/2745"),
    ("RO_CNP", "1630615123457"),
    ("ZA_ID", "7503305044089"),
    ("CN_ID", "11010519491231002X"),
    ("MX_CURP", "BOXW310820HNERXN09"),
    ("CL_RUT", "12.531.909-2"),
    ("SG_NRIC", "S1234567D"),
    ("TW_ID", "A123456789"),
    ("GB_NINO", "AB 12 34 56 C"),
    ("RU_SNILS", "112-233-445 95"),
    ("KR_RRN", "971013-1019902"),
]

# What any number of its length could be needs a word that announces it.
ANNOUNCED = [
    ("NL_BSN", "mijn BSN is ", "111222333"),
    ("GB_NHS", "NHS number: ", "943 476 5919"),
    ("DK_CPR", "CPR-nummer ", "211062-5629"),
    ("AT_SVNR", "SVNR ", "1237 010180"),
    ("PT_NIF", "o meu NIF: ", "287024008"),
    ("TR_KIMLIK", "TC Kimlik No: ", "17291716060"),
    ("JP_MY_NUMBER", "マイナンバーは", "123456789018"),
    ("AU_TFN", "TFN ", "123 456 782"),
    ("CA_SIN", "SIN: ", "123 456 782"),
    ("IE_PPS", "my PPS no is ", "6433435F"),
    ("US_SSN", "social security ", "219099999"),
    ("PHONE", "Ruf mich an: ", "0171 1234567"),
    ("PHONE", "llámame al ", "612 345 678"),
    ("SECRET", "Mon mot de passe : ", "Tr0ub4dor&3"),
    ("SECRET", "password: ", "hunter2"),
    ("SECRET", "api_key=", "abc123def456"),
    ("SECRET", "Authorization: Bearer ", "abcdefghijklmnop.qrstuv"),
    ("URL_CREDENTIALS", "see https://", "user:pa55"),
]

HARMLESS = [
    "order 2024-1187-3321, invoice 4111111111111112, ISBN 978-3-16-148410-0",
    "550e8400-e29b-41d4-a716-446655440000 and f47ac10b-58cc-4372-a567-0e02b2c3d479",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "pi is 3.14159265358979, and it cost $1,234,567.89 or 4111111111111112 dong",
    "2026-03-04T12:00:00.123456Z, epoch 1772625600 or 1772625600000, 12:34:56",
    "version 1.2.3.4 of firmware 10.15.7.2, on 192.168.0.1 behind 255.255.255.0 and ::1",
    "password = get_password(user); token: str = os.environ['TOKEN']; secret: Optional[str]",
    "the token is expired, the password is required, what is a secret?",
    "git clone git@github.com:org/repo.git; icon@2x.png; npm i left-pad@1.3.0; @mention",
    "std::vector<int>::iterator, a::b, x = [1, 22, 333, 4444, 55555, 666666, 7777777]",
    "flight LH1234 on 12/05/2026 at 14:30, seat 23A, gate B42, row 1 of 2 of 3 of 4 of 5",
    "ratio 1:2:3:4, score 21-15-10, page 112-115, 555-1234567890123 and 0.4111111111111111",
    "https://example.com/a/b?page=2&sort=asc#frag and mailto: or tel: alone",
    "In 1914-1918 and 1939-1945; chapters 10 11 12 13 14 15 16 17 18 19 20 21 22",
    "Zażółć gęślą jaźń, Ελληνικά, русский текст, 日本語のテキスト, العربية ١٢٣",
]


def redacted(text: str) -> str:
    return REDACTOR.text(text, Numbers())


@pytest.mark.parametrize(("kind", "value"), SPECIMENS)
def test_a_specimen_is_found_wherever_it_stands(kind: str, value: str) -> None:
    """Its form and its sum are enough: nobody announces everything."""
    assert redacted(f"well, {value}.") == f"well, [{kind}_1]."


@pytest.mark.parametrize(("kind", "before", "value"), ANNOUNCED)
def test_an_announced_value_is_found(kind: str, before: str, value: str) -> None:
    """One number in ten of its length would pass for it: the word before it decides."""
    after = "@db.example.com/x" if kind == "URL_CREDENTIALS" else " ok"

    assert redacted(f"{before}{value}{after}") == f"{before}[{kind}_1]{after}"


@pytest.mark.parametrize("text", HARMLESS)
def test_what_names_nobody_stays(text: str) -> None:
    """A model that is trained on placeholders where numbers were learns to write placeholders."""
    assert redacted(text) == text


@pytest.mark.parametrize("value", ["4111111111111112", "DE89370400440532013001", "54362315L"])
def test_a_wrong_sum_is_another_number(value: str) -> None:
    """Order numbers have the same length."""
    assert redacted(f"well, {value}.") == f"well, {value}."


def test_other_digits_and_dashes_do_not_hide_a_number() -> None:
    """Phones and word processors write them by themselves."""
    arabic = str.maketrans({str(n): chr(0x660 + n) for n in range(10)})
    wide = str.maketrans({str(n): chr(0xFF10 + n) for n in range(10)})
    card = "4111 1111 1111 1111"
    written = f"{card.translate(arabic)}, {card.translate(wide)}, 219\u201109\u20119999"

    assert redacted(written) == "[CARD_1], [CARD_2], [US_SSN_1]"


@pytest.mark.parametrize(
    "keys",
    [
        PEM.replace("MHcC", "MHcC\n" * 5_000),
        PEM.replace("END", "FIN") * 40,
        f"{PEM.partition('-----END')[0]}{PEM}",
    ],
)
def test_private_keys_go_however_long_or_cut(keys: str) -> None:
    """A terminal's history ends in the middle of one, and the next one follows."""
    text = REDACTOR.text(f"see: {keys} that's all", Numbers())

    assert "MHcC" not in text
    assert text.startswith("see: [SECRET_1]")


def test_a_host_stays_where_credentials_went() -> None:
    """What the question was about is still there."""
    asked = "psql postgres://app:s3cr3t@db.example.com:5432/shop fails"

    assert redacted(asked) == "psql postgres://[URL_CREDENTIALS_1]@db.example.com:5432/shop fails"


@given(
    st.lists(
        st.builds(
            lambda start, length, kind: Found(start, start + length, kind),
            st.integers(0, 60),
            st.integers(1, 20),
            st.sampled_from(["A", "B", "C"]),
        )
    )
)
def test_finds_that_overlap_become_one_and_cover_the_same(found: list[Found]) -> None:
    """Whatever anybody recognised is gone, and nothing else."""
    covered = {place for one in found for place in range(one.start, one.end)}

    whole = list(merged(found))

    assert {place for one in whole for place in range(one.start, one.end)} == covered
    assert all(one.end <= other.start for one, other in pairwise(whole))
