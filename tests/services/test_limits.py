"""Buckets: nobody gets more than the limit, and nobody's memory is endless."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedbackloop.errors import RequestError
from services.limits import Buckets, Level, headers


def some(per_minute: int = 60, *, burst_minutes: float = 1.0, remembered: int = 1_000) -> Buckets:
    return Buckets(
        "key",
        "completions",
        per_minute=per_minute,
        burst_minutes=burst_minutes,
        remembered=remembered,
    )


def admitted(buckets: Buckets, name: str, now: float) -> bool:
    try:
        buckets.charge(name, now)
    except RequestError:
        return False
    return True


@given(
    st.integers(1, 600),
    st.sampled_from([0.01, 0.1, 1.0, 5.0]),
    st.lists(st.floats(0, 30), max_size=200),
)
def test_nobody_gets_more_than_the_burst_and_the_rate(
    per_minute: int, burst_minutes: float, gaps: list[float]
) -> None:
    """However the calls are spread."""
    buckets = some(per_minute, burst_minutes=burst_minutes)
    now, passed = 0.0, 0

    for gap in gaps:
        now += gap
        passed += admitted(buckets, "k", now)

    burst = max(1.0, per_minute * burst_minutes)
    assert passed <= burst + now * per_minute / 60 + 1e-6


@given(st.integers(1, 600), st.integers(1, 300))
def test_whoever_waits_as_told_is_admitted(per_minute: int, calls: int) -> None:
    """`Retry-After` is a promise."""
    buckets = some(per_minute)
    now = 0.0

    for _ in range(calls):
        try:
            buckets.charge("k", now)
        except RequestError as error:
            now += (error.retry_after_seconds or 0.0) + 1e-6
            buckets.charge("k", now)


def test_a_refusal_says_all_that_a_client_needs() -> None:
    """OpenAI's clients read these and come back by themselves."""
    buckets = some(2)
    levels = [buckets.charge("k", 0.0) for _ in range(2)]

    with pytest.raises(RequestError) as caught:
        buckets.charge("k", 0.0)

    assert [level.remaining for level in levels] == [1, 0]
    assert (caught.value.status, caught.value.code) == (429, "rate_limit_exceeded")
    assert caught.value.retry_after_seconds == pytest.approx(30)
    assert caught.value.headers == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
    }


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0ms"), (0.12, "120ms"), (1.0, "1s"), (59.2, "1m0s"), (360, "6m0s")]
)
def test_time_spans_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    """Clients parse them."""
    assert headers(Level(1, 0, seconds))["x-ratelimit-reset-requests"] == text


def test_names_do_not_share_a_bucket() -> None:
    """One app's loop must not silence another's people."""
    buckets = some(1)
    buckets.charge("one", 0.0)

    assert admitted(buckets, "other", 0.0)
    assert not admitted(buckets, "one", 0.0)


def test_a_batch_is_owed_and_paid_back() -> None:
    """A thousand votes in one call are a thousand votes."""
    buckets = some(60)
    buckets.charge("k", 0.0)

    buckets.owe("k", 0.0, cost=119)

    assert not admitted(buckets, "k", 59.0)
    assert admitted(buckets, "k", 61.1)


def test_a_name_may_have_a_limit_of_its_own() -> None:
    """One key belongs to the nightly import."""
    buckets = some(1)

    levels = [buckets.charge("import", 0.0, per_minute=600) for _ in range(5)]

    assert levels[-1].remaining == 595


def test_what_is_full_again_is_forgotten() -> None:
    """Everybody who ever called would fill the memory."""
    buckets = some(60, remembered=10_000)
    for person in range(1_000):
        buckets.charge(f"p{person}", 0.0)

    for minute in range(1, 5):
        buckets.charge("somebody", minute * 61.0)

    assert len(buckets) < 10


def test_debts_are_not_forgotten_with_time() -> None:
    """A long debt outlives the names that came after it."""
    buckets = some(60)
    buckets.charge("debtor", 0.0)
    buckets.owe("debtor", 0.0, cost=600)

    for minute in range(1, 8):
        buckets.charge("somebody", minute * 61.0)

    assert not admitted(buckets, "debtor", 8 * 61.0)


def test_a_flood_of_names_stays_in_bounds() -> None:
    """And costs the flooder an admitted call for each: more than the one burst that it frees."""
    buckets = some(1, remembered=1_000)
    buckets.charge("flooder", 0.0)

    most = 0
    for name in range(499):
        buckets.charge(f"n{name}", 1.0)
        most = max(most, len(buckets))

    assert not admitted(buckets, "flooder", 1.0)
    for name in range(10_000):
        buckets.charge(f"m{name}", 1.0)
        most = max(most, len(buckets))
    assert most <= 1_000
