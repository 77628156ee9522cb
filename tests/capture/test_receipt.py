from datetime import UTC, datetime, timedelta
from string import printable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.capture.identity import TenantKeys, pseudonym
from feedbackloop.capture.receipt import PREFIXES, Receipt, alias_hash, check, issue
from feedbackloop.errors import RequestError
from feedbackloop.events import Alias, Arm, CompletionId, ConversationId, TenantId, UserId
from tests.capture.records import KEYS, TENANT

MINUTE = 29_543_760
NOW = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=MINUTE)
DAY = 86_400.0

RECEIPTS = st.builds(
    Receipt,
    nonce=st.binary(min_size=8, max_size=8),
    conversation=st.binary(min_size=8, max_size=8).map(lambda b: ConversationId(b.hex())),
    user=st.none() | st.binary(min_size=16, max_size=16).filter(any).map(lambda b: UserId(b.hex())),
    alias=st.text(max_size=40).map(lambda name: alias_hash(Alias(name))),
    release_seq=st.integers(0, 2**32 - 1),
    arm=st.sampled_from(Arm),
    propensity=st.integers(1, 65_535).map(lambda n: n / 65_535),
    minute=st.just(MINUTE),
    choices=st.integers(0, 127),
)
ONE = Receipt(
    nonce=b"12345678",
    conversation=ConversationId("0011223344556677"),
    user=pseudonym(KEYS, "ann"),
    alias=alias_hash(Alias("assistant")),
    release_seq=7,
    arm=Arm.CANARY,
    propensity=1.0,
    minute=MINUTE,
)


def issued(receipt: Receipt = ONE, keys: TenantKeys = KEYS) -> CompletionId:
    return CompletionId("chatcmpl-" + issue(receipt, keys, TENANT))


def refusal(
    text: str, *, tenant: TenantId = TENANT, keys: TenantKeys = KEYS, now: datetime = NOW
) -> RequestError:
    with pytest.raises(RequestError) as caught:
        check(CompletionId(text), keys, tenant, now=now, lifetime_seconds=DAY)
    return caught.value


@given(RECEIPTS, st.sampled_from(sorted(PREFIXES.values())))
def test_a_receipt_says_what_was_written_on_it(receipt: Receipt, prefix: str) -> None:
    """A vote is attributed from its id alone, even if the completion's record was lost."""
    text = CompletionId(prefix + issue(receipt, KEYS, TENANT))

    read = check(text, KEYS, TENANT, now=NOW, lifetime_seconds=DAY)

    assert read == receipt


@given(RECEIPTS)
def test_a_receipt_travels_in_urls_and_headers(receipt: Receipt) -> None:
    """It is a path segment of DELETE, a header to vLLM, and a JSON string everywhere else."""
    text = issue(receipt, KEYS, TENANT)

    assert set(text) <= set(printable[:62] + "-_")
    assert len(text) == 84


@given(st.integers(0, 83), st.sampled_from(printable[:62] + "-_"))
def test_a_receipt_with_one_character_changed_is_refused(place: int, character: str) -> None:
    """Whoever could change a release or a propensity could turn a canary's decision."""
    whole = issue(ONE, KEYS, TENANT)
    changed = whole[:place] + character + whole[place + 1 :]

    error = refusal("chatcmpl-" + changed) if changed != whole else None

    # The first characters hold the id of the key: another one is nobody's.
    assert error is None or (error.status, error.param) in {
        (403, "completion_id"),
        (404, "completion_id"),
    }


@given(st.text() | st.text().map(lambda text: "chatcmpl-" + text))
def test_what_is_no_receipt_is_not_found(text: str) -> None:
    """Ids of other servers, of tests and of attackers end as a plain 404, never as a 500."""
    error = refusal(text)

    assert (error.status, error.param) == (404, "completion_id")


@pytest.mark.parametrize("extra", ["=", "==", "A", "\n", " ", "é"])
def test_a_receipt_has_one_spelling(extra: str) -> None:
    """Two spellings of one id would be two completions to vote on."""
    error = refusal(issued() + extra)

    assert error.status == 404


def test_a_receipt_of_another_tenant_does_not_exist() -> None:
    """A leaked id is worth nothing to those who were not served, not even that it is one."""
    strangers = msgspec.structs.replace(KEYS, current="s001", receipts={"s001": b"s" * 32})
    nonsense = "chatcmpl-" + "A" * 84

    other = refusal(issued(), tenant=TenantId("other"), keys=strangers)
    nobodys = refusal(nonsense, tenant=TenantId("other"), keys=strangers)

    assert (other.status, other.message) == (404, nobodys.message)


def test_a_forged_receipt_is_refused() -> None:
    """The name of a key is no secret, and opens nothing; nor does another tenant's key."""
    forgers = msgspec.structs.replace(KEYS, receipts={"k001": b"s" * 32})

    assert refusal(issued(keys=forgers)).status == 403
    assert refusal(issued(), tenant=TenantId("other")).status == 403


def test_a_receipt_outlives_the_rotation_of_its_key() -> None:
    """Keys rotate while people still think about what they read."""
    before = msgspec.structs.replace(KEYS, current="k000")

    read = check(issued(keys=before), KEYS, TENANT, now=NOW, lifetime_seconds=DAY)

    assert read == ONE


def test_a_receipt_dies_with_its_key() -> None:
    """A key that leaked is removed, and every receipt that it could forge goes with it."""
    after = msgspec.structs.replace(KEYS, receipts={"k000": KEYS.receipts["k000"]}, current="k000")

    assert refusal(issued(), keys=after).status == 404


def test_a_receipt_of_a_retired_key_has_expired() -> None:
    """Its time was over before the key's was."""
    after = msgspec.structs.replace(
        KEYS, receipts={"k000": KEYS.receipts["k000"]}, current="k000", retired=("k001",)
    )

    assert refusal(issued(), keys=after).status == 410


def test_an_old_receipt_has_expired() -> None:
    """Feedback that late would be about a model that nobody remembers."""
    error = refusal(issued(), now=NOW + timedelta(days=1, seconds=1))

    assert (error.status, error.param) == (410, "completion_id")


def test_more_choices_than_fit_are_not_known() -> None:
    """What a receipt does not say is not checked."""
    receipt = msgspec.structs.replace(ONE, choices=128)

    read = check(issued(receipt), KEYS, TENANT, now=NOW, lifetime_seconds=DAY)

    assert (read.choices, read.arm) == (0, Arm.CANARY)


@pytest.mark.parametrize("propensity", [0.0, 1e-9, 0.05, 1.0])
def test_a_propensity_is_never_zero(propensity: float) -> None:
    """Analyses divide by it."""
    receipt = msgspec.structs.replace(ONE, propensity=propensity)

    read = check(issued(receipt), KEYS, TENANT, now=NOW, lifetime_seconds=DAY)

    assert 0 < read.propensity <= 1
    assert abs(read.propensity - propensity) < 1 / 65_000
