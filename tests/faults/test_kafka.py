"""Whatever can happen to Kafka and the archive, within a minute: a sample of `make faults`."""

import pytest

from benchmarks.faults import kafka
from benchmarks.faults.kafka import Scale
from tests.conftest import S3Server

SAMPLE = Scale(events=20_000, per_second=1_000, broker_kills=1, archiver_kills=2, away_seconds=12)


@pytest.mark.kafka
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("kafka_home")
def test_whatever_dies_sleeps_or_is_away_every_event_is_archived_once(s3_server: S3Server) -> None:
    """Four producers, a broker, two archivers and a bucket, none of which may be relied on."""
    row = kafka.campaign(
        "sample", kafka.everything_at_once, SAMPLE, seed=1, bucket_url=s3_server.given
    )

    assert row.broken == []
    assert (row.figures["archived"], row.figures["lost"], row.figures["doubled"]) == (20_000, 0, 0)
