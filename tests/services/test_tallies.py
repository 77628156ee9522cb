"""What a scrape reads of how replies ended."""

from prometheus_client import CollectorRegistry, generate_latest

from services.tallies import Tallies


def scraped(tallies: Tallies) -> dict[str, float]:
    """Read the series as Prometheus would."""
    registry = CollectorRegistry()
    registry.register(tallies)
    lines = generate_latest(registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_a_reply_is_counted_in_every_series_of_its_release() -> None:
    """Canary and stable are told apart in all that an operator looks at."""
    tallies = Tallies()

    for seconds in (0.05, 0.2, 10_000.0):
        tallies.of("a", "a.1", "canary").ended(
            code=200, outcome="complete", first_seconds=0.004, seconds=seconds
        )
    tallies.of("a", "a.1", "canary").ended(
        code=499, outcome="client_gone", first_seconds=None, seconds=0.01
    )

    found = scraped(tallies)
    label = 'alias="a",arm="canary",'
    assert found[f'feedbackloop_requests_total{{{label}code="200",release="a.1"}}'] == 3
    assert found[f'feedbackloop_outcomes_total{{{label}outcome="client_gone",release="a.1"}}'] == 1
    assert found[f'feedbackloop_ttft_seconds_count{{{label}release="a.1"}}'] == 3
    # At a bound it is not above it.
    assert found[f'feedbackloop_reply_seconds_bucket{{{label}le="0.01",release="a.1"}}'] == 1
    assert found[f'feedbackloop_reply_seconds_bucket{{{label}le="0.5",release="a.1"}}'] == 3
    assert found[f'feedbackloop_reply_seconds_bucket{{{label}le="+Inf",release="a.1"}}'] == 4


def test_a_release_that_was_collected_leaves_no_series() -> None:
    """Or they would grow for as long as the process lives."""
    tallies = Tallies()
    tallies.of("a", "a.1", "stable").ended(
        code=200, outcome="complete", first_seconds=None, seconds=1.0
    )

    tallies.forget("a.1")

    assert scraped(tallies) == {}
