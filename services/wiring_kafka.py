"""Kafka's settings to what its clients take; part of ``wiring``, which opens them."""

from pathlib import Path
from typing import TYPE_CHECKING

from feedbackloop.errors import SettingsError
from services.sections.log import KafkaLog
from services.settings import Settings

if TYPE_CHECKING:
    from feedbackloop.log.kafka_client import Cluster
    from feedbackloop.log.kafka_topics import TopicState
    from feedbackloop.log.kafka_writer import Terms
    from feedbackloop.log.topics import TopicPlan


def create_topics(settings: Settings) -> list["TopicState"]:
    """Make the topics that Kafka lacks, and say what became of each.

    Raises:
        SettingsError: If the log is not on Kafka.
        LogUnavailable: If no broker answers, or one refuses.
    """
    from feedbackloop.log.kafka_topics import create_topics as create

    kafka = _on_kafka(settings)
    return create(cluster(kafka, "topics"), _topic_plans(kafka, settings))


def inspect_topics(settings: Settings) -> list["TopicState"]:
    """Compare Kafka's topics with what the settings want of them.

    Raises:
        SettingsError: If the log is not on Kafka.
        LogUnavailable: If no broker answers, or one refuses.
    """
    from feedbackloop.log.kafka_topics import inspect_topics as inspect

    kafka = _on_kafka(settings)
    return inspect(cluster(kafka, "topics"), _topic_plans(kafka, settings))


def _on_kafka(settings: Settings) -> KafkaLog:
    if isinstance(settings.log, KafkaLog):
        return settings.log
    raise SettingsError(f"FEEDBACKLOOP_LOG__KIND is {settings.log.kind}: topics are Kafka's")


def _topic_plans(kafka: KafkaLog, settings: Settings) -> list["TopicPlan"]:
    from feedbackloop.log.topics import events_plan, kept_seconds, releases_plan

    events = events_plan(
        kafka.events_topic,
        partitions=kafka.partitions,
        replication=kafka.replication,
        kept_seconds=kept_seconds(
            window_seconds=settings.dataset.window_seconds,
            asked_seconds=kafka.retention_seconds,
        ),
        max_message_bytes=kafka.max_message_bytes,
    )
    releases = releases_plan(
        kafka.releases_topic,
        replication=kafka.replication,
        max_message_bytes=kafka.max_message_bytes,
    )
    return [events, releases]


def cluster(kafka: KafkaLog, name: str | None) -> "Cluster":
    """Say how a client reaches Kafka; ``name`` tells brokers which of ours it is."""
    from feedbackloop.log.kafka_client import Cluster

    asked = kafka.security_protocol.startswith("SASL")
    return Cluster(
        bootstrap_servers=kafka.bootstrap_servers,
        client_id=f"feedbackloop-{name or 'reader'}",
        security_protocol=kafka.security_protocol,
        sasl_mechanism=kafka.sasl_mechanism if asked else None,
        sasl_username=kafka.sasl_username or None,
        sasl_password=kafka.sasl_password.get_secret_value() or None,
        ssl_cafile=_text(kafka.ssl_cafile),
        ssl_certfile=_text(kafka.ssl_certfile),
        ssl_keyfile=_text(kafka.ssl_keyfile),
        bootstrap_seconds=min(3.0, kafka.ack_timeout_seconds),
    )


def terms(kafka: KafkaLog) -> "Terms":
    """Say how a producer waits, packs and gives up."""
    from feedbackloop.log.kafka_writer import Terms

    return Terms(
        ack_seconds=kafka.ack_timeout_seconds,
        rebuild_seconds=kafka.rebuild_seconds,
        max_message_bytes=kafka.max_message_bytes,
        compression=None if kafka.compression == "none" else kafka.compression,
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
