"""Shared fixtures, and the rule that CI skips nothing."""

import gc
import os
import uuid
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import settings

from feedbackloop.log.kafka_client import Cluster
from tests.apache_kafka import Broker
from tests.mock_kafka import API_VERSION, MockCluster

_PREFIX = "FEEDBACKLOOP_"

# How long an example takes depends on who else uses the machine.
settings.register_profile("feedbackloop", deadline=None)
settings.load_profile("feedbackloop")


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


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """Where it is, and who may write; ``given`` is what names it."""

    given: str
    endpoint: str
    bucket: str
    access_key: str
    secret_key: str

    def options(self) -> dict[str, str]:
        """Return what obstore wants to know."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
            "region": "us-east-1",
        }

    def url(self, prefix: str) -> str:
        """Name a part of the bucket."""
        return f"s3://{self.bucket}/{prefix}"


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """SQLAlchemy URL of a PostgreSQL that tests may fill, from FEEDBACKLOOP_TEST_POSTGRES."""
    url = request.config.stash[_SERVERS].get("FEEDBACKLOOP_TEST_POSTGRES")
    if url is None:
        pytest.skip("no PostgreSQL: set FEEDBACKLOOP_TEST_POSTGRES to a SQLAlchemy URL")
    return url


@pytest.fixture(scope="session")
def kafka_home() -> Path:
    """A Kafka distribution, from KAFKA_HOME: for tests that start brokers of their own."""
    home = os.environ.get("KAFKA_HOME")
    if not home:
        pytest.skip("no Kafka to start: set KAFKA_HOME to the folder of a distribution")
    return Path(home)


@pytest.fixture(scope="session")
def kafka_servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Apache Kafka, from FEEDBACKLOOP_TEST_KAFKA or started from KAFKA_HOME; topics are ours."""
    servers = request.config.stash[_SERVERS].get("FEEDBACKLOOP_TEST_KAFKA")
    if servers is not None:
        yield servers
        return
    if not os.environ.get("KAFKA_HOME"):
        pytest.skip("no Kafka: set FEEDBACKLOOP_TEST_KAFKA to host:port, or KAFKA_HOME")
    broker = Broker(Path(os.environ["KAFKA_HOME"]), tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker.bootstrap_servers
    broker.stop()


@pytest.fixture
def kafka_cluster(kafka_servers: str) -> Cluster:
    """How to reach Apache Kafka."""
    return Cluster(bootstrap_servers=kafka_servers, client_id="tests")


@pytest.fixture(scope="session")
def _mock_servers() -> Iterator[MockCluster]:
    cluster = MockCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def mock_cluster(_mock_servers: MockCluster) -> Cluster:
    """How to reach a mock cluster that nobody disturbs."""
    return Cluster(
        bootstrap_servers=_mock_servers.bootstrap_servers,
        client_id="tests",
        api_version=API_VERSION,
    )


@pytest.fixture
def kafka_topic() -> str:
    """The name of a topic that nobody else has."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def lost_sockets() -> Iterator[None]:
    """Collect what kafka-python leaves to the collector when nobody answers: no other test's."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """An S3-compatible server with a bucket that tests may fill, from FEEDBACKLOOP_TEST_S3."""
    url = request.config.stash[_SERVERS].get("FEEDBACKLOOP_TEST_S3")
    if url is None:
        pytest.skip("no S3: set FEEDBACKLOOP_TEST_S3 to http://KEY:SECRET@host:port/bucket")
    parts = urlsplit(url)
    return S3Server(
        given=url,
        endpoint=f"{parts.scheme}://{parts.hostname}:{parts.port}",
        bucket=parts.path.strip("/"),
        access_key=unquote(parts.username or ""),
        secret_key=unquote(parts.password or ""),
    )


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


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a random base that vLLM serves on any machine."""
    # Imported late: torch takes seconds, and every run of the tests reads this file.
    made: Path = import_module("tests.tiny_server").make_base(
        tmp_path_factory.mktemp("tiny") / "base"
    )
    return made


@pytest.fixture(scope="session")
def vllm_upstream(tiny_base: Path) -> Iterator[str]:
    """Start one vLLM for all that need it: it takes most of a minute to start."""
    with import_module("tests.tiny_server").running_vllm(tiny_base) as found:
        yield found
