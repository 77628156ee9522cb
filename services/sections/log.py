"""Where events are kept."""

from typing import Annotated, Literal, Self

from pydantic import Field, FilePath, SecretStr, model_validator

from services.sections.section import Count, Section


class SegmentLog(Section):
    """The embedded log: append-only files under the home folder."""

    kind: Literal["segments"] = "segments"

    segment_bytes: Annotated[int, Field(ge=4096)] = 64 * 2**20
    """Size at which a segment is sealed and the next one begun."""


class MemoryLog(Section):
    """A log that lives as long as its process: for tests, and for measuring a proxy alone."""

    kind: Literal["memory"] = "memory"


class KafkaLog(Section):
    """Apache Kafka, shared by all processes of a cluster. Words in capitals are Kafka's own."""

    kind: Literal["kafka"] = "kafka"

    bootstrap_servers: Annotated[str, Field(pattern=r"^[^:,\s]+:\d+(,[^:,\s]+:\d+)*$")]
    """Comma-separated host:port pairs."""

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Whether the connection is encrypted (SSL), and whether it asks who we are (SASL)."""

    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How we say who we are, with SASL."""

    sasl_username: str = ""
    """User of this process, with SASL."""

    sasl_password: SecretStr = SecretStr("")
    """Password of that user."""

    ssl_cafile: FilePath | None = None
    """Certificates to trust, in PEM; without it those of the system."""

    ssl_certfile: FilePath | None = None
    """This process' own certificate, in PEM, if the brokers ask for one."""

    ssl_keyfile: FilePath | None = None
    """The key of that certificate."""

    events_topic: str = "feedbackloop.events"
    """Topic of all events."""

    releases_topic: str = "feedbackloop.releases"
    """Topic of the release documents; compacted."""

    partitions: Annotated[int, Field(ge=1)] = 12
    """Partitions of the topic of events, when it is made: as many readers can share the work."""

    replication: Annotated[int, Field(ge=1)] = 3
    """Copies of each partition; all but one have to be in sync for an event to be confirmed."""

    retention_seconds: Count = 0
    """How long the topic keeps events; 0 is a week longer than ``dataset.window_seconds``."""

    max_message_bytes: Annotated[int, Field(ge=65_536)] = 12 * 2**20
    """Largest event, here and in the topics; a larger one is set aside with its reason."""

    ack_timeout_seconds: Annotated[float, Field(gt=0)] = 5.0
    """How long one attempt waits for the brokers before the log counts as unavailable."""

    rebuild_seconds: Annotated[float, Field(gt=0)] = 180.0
    """How long nothing is confirmed before the client is thrown away and made anew."""

    compression: Literal["none", "gzip", "zstd"] = "zstd"
    """How batches are compressed."""

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        """Refuse SASL without credentials, and credentials without SASL."""
        asked = self.security_protocol.startswith("SASL")
        if asked and not (self.sasl_username and self.sasl_password.get_secret_value()):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_username and sasl_password"
            )
        if self.sasl_username and not asked:
            raise ValueError(
                f"sasl_username would not be used by security_protocol {self.security_protocol}:"
                " expected SASL_SSL or SASL_PLAINTEXT"
            )
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ValueError("ssl_certfile and ssl_keyfile need each other")
        return self
