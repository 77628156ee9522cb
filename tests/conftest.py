"""Shared fixtures, and the rule that CI skips nothing."""

import os
from collections.abc import Generator

import pytest

_PREFIX = "FEEDBACKLOOP_"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="fail a test that was skipped: for CI, which provides what tests need",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Take our variables out of the environment: a test sets those that it means."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(_PREFIX)}
    config.stash[_SERVERS] = kept


_SERVERS = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """SQLAlchemy URL of a PostgreSQL that tests may fill, from FEEDBACKLOOP_TEST_POSTGRES."""
    url = request.config.stash[_SERVERS].get("FEEDBACKLOOP_TEST_POSTGRES")
    if url is None:
        pytest.skip("no PostgreSQL: set FEEDBACKLOOP_TEST_POSTGRES to a SQLAlchemy URL")
    return url


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what was skipped, if nothing may be."""
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {report.longrepr}"
    return report
