"""Kafka's clients: opened with one set of options, and asked why they fail.

kafka-python tells a caller only that it timed out; the cause is in its log. Each client that is
opened here keeps the last thing that went wrong with a connection, and ``explain`` says what it
was and what to do.
"""

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from feedbackloop.errors import LogUnavailable

_RECONNECT_MAX_MS = 1_000
_REQUEST_MS = 15_000
_METADATA_MAX_AGE_MS = 60_000
_SESSION_MS = 10_000
_NEVER_MS = 2**31 - 1
_FETCH_BYTES = 8 * 2**20
_CLOSED = "socket disconnected"
_TOO_LATE = (
    kafka_errors.KafkaTimeoutError,
    kafka_errors.RequestTimedOutError,
    kafka_errors.Cancelled,
)


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """Where Kafka is, and who we are to it: Kafka's own words.

    Attributes:
        bootstrap_servers: Comma-separated host:port pairs.
        client_id: What the brokers' logs and quotas call this process.
        security_protocol: ``PLAINTEXT``, ``SSL``, ``SASL_PLAINTEXT`` or ``SASL_SSL``.
        sasl_mechanism: ``PLAIN``, ``SCRAM-SHA-256`` or ``SCRAM-SHA-512``.
        ssl_cafile: Certificates to trust, in PEM; empty for the system's.
        ssl_certfile: Our certificate, if the brokers ask for one; with ``ssl_keyfile``.
        bootstrap_seconds: Longest wait for the first broker that answers.
        api_version: Of the brokers; None asks them.
    """

    bootstrap_servers: str
    client_id: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    bootstrap_seconds: float = 5.0
    api_version: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        """Show no password."""
        return f"Cluster({self.bootstrap_servers!r}, {self.security_protocol})"

    def options(self) -> dict[str, Any]:
        """Return what every client is opened with."""
        return {
            "bootstrap_servers": self.bootstrap_servers.split(","),
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": self.sasl_password,
            "ssl_cafile": self.ssl_cafile,
            "ssl_certfile": self.ssl_certfile,
            "ssl_keyfile": self.ssl_keyfile,
            "bootstrap_timeout_ms": round(self.bootstrap_seconds * 1_000),
            "api_version": self.api_version,
            "request_timeout_ms": _REQUEST_MS,
            # The default doubles up to 30 s: a broker that is back would wait that long for us.
            "reconnect_backoff_max_ms": _RECONNECT_MAX_MS,
            "metadata_max_age_ms": _METADATA_MAX_AGE_MS,
        }


class _Manager(KafkaConnectionManager):  # type: ignore[misc]  # the library is not typed
    """Connections, with the last thing that went wrong with one."""

    trouble: BaseException | None = None
    _watched: object = None

    def get_connection(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # as it is there
        connection = super().get_connection(*args, **options)
        if connection is not self._watched and not connection.init_future.is_done:
            self._watched = connection
            connection.init_future.add_callback(self._connected)
            connection.close_future.add_errback(self._failed)
        return connection

    async def _build_transport(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # as it is there
        transport = await super()._build_transport(*args, **options)
        receive = transport._sock_recv  # noqa: SLF001  # there is no public way

        def received() -> tuple[bytes, BaseException | None]:
            data, error = receive()
            # The library drops what comes together with the end of a connection, which is what a
            # broker says when it refuses us. Asked again, it finds the end alone.
            return data, None if data else error

        transport._sock_recv = received  # noqa: SLF001  # there is no public way
        return transport

    def _connected(self, _: object) -> None:
        self.trouble = None

    def _failed(self, error: BaseException) -> None:
        # A broker that refuses us says why, and after that just keeps us waiting or hangs up.
        if self.trouble is None or not (_CLOSED in str(error) or isinstance(error, _TOO_LATE)):
            self.trouble = error


class Link:
    """The network side of one client: given to it as ``kafka_client``."""

    def __init__(self) -> None:
        self._client: Any = None

    def __call__(self, **options: Any) -> KafkaNetClient:  # noqa: ANN401  # the library's own
        """Make the network client. Called by the library."""
        network = NetworkSelector(**options)
        self._client = KafkaNetClient(net=network, manager=_Manager(network, **options))
        return self._client

    def trouble(self) -> BaseException | None:
        """Return what went wrong with the last connection that was tried."""
        return None if self._client is None else self._client._manager.trouble  # noqa: SLF001  # ours

    def cut(self) -> None:
        """Close the connections, so that nobody waits for an answer any more. From any thread."""
        if self._client is not None:
            manager = self._client._manager  # noqa: SLF001  # there is no public way
            with suppress(RuntimeError):  # it has ended meanwhile
                manager.call_soon(manager.close)

    def close(self) -> None:
        """End what a client's constructor left behind when it failed."""
        if self._client is not None:
            self._client.close()


def open_producer(cluster: Cluster, link: Link, **options: Any) -> KafkaProducer:  # noqa: ANN401  # the library's
    """Open an idempotent producer that never gives a record up by itself.

    Raises:
        LogUnavailable: If no broker lets us in.
    """
    return _opened(
        KafkaProducer,
        cluster,
        link,
        acks="all",
        enable_idempotence=True,
        allow_auto_create_topics=False,
        # Given up in the middle, a record would come after those behind it when it is sent again.
        delivery_timeout_ms=_NEVER_MS,
        max_block_ms=round(cluster.bootstrap_seconds * 1_000),
        metrics_enabled=False,
        **options,
    )


def open_consumer(cluster: Cluster, link: Link) -> KafkaConsumer:
    """Open a consumer without a group, which is told where to read.

    Raises:
        LogUnavailable: If no broker lets us in.
    """
    return _opened(
        KafkaConsumer,
        cluster,
        link,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        allow_auto_create_topics=False,
        max_partition_fetch_bytes=_FETCH_BYTES,
        metrics_enabled=False,
    )


def open_member(cluster: Cluster, link: Link, *, group: str) -> KafkaConsumer:
    """Open a consumer that shares partitions with its group, and is told what to commit.

    Raises:
        LogUnavailable: If no broker lets us in.
    """
    return _opened(
        KafkaConsumer,
        cluster,
        link,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        allow_auto_create_topics=False,
        partition_assignment_strategy=[CooperativeStickyAssignor],
        session_timeout_ms=_SESSION_MS,
        heartbeat_interval_ms=_SESSION_MS // 10,
        metrics_enabled=False,
    )


@contextmanager
def admin(cluster: Cluster) -> Generator[KafkaAdminClient]:
    """Open an admin client for as long as the block runs.

    Raises:
        LogUnavailable: If no broker lets us in, or one stopped answering.
    """
    link = Link()
    client = _opened(KafkaAdminClient, cluster, link)
    try:
        yield client
    except kafka_errors.KafkaError as error:
        raise explain(cluster, link.trouble() or error) from error
    finally:
        client.close()


def _opened(
    make: Callable[..., Any],
    cluster: Cluster,
    link: Link,
    **options: Any,  # noqa: ANN401  # the library's own
) -> Any:  # noqa: ANN401  # the library is not typed
    keep_payloads_out_of_logs()
    try:
        return make(kafka_client=link, **cluster.options(), **options)
    except (kafka_errors.KafkaError, OSError, ValueError) as error:
        trouble = link.trouble() or error
        link.close()
        raise explain(cluster, trouble) from error


def keep_payloads_out_of_logs() -> None:
    """Raise every logger of the client to INFO at least.

    At DEBUG it writes keys, values and passwords, whoever asked for that level. Where nobody set
    one, it is kept quiet: it repeats itself ten times a second, and ``explain`` says it once.
    """
    for name in ("kafka", *logging.root.manager.loggerDict):
        if name == "kafka" or name.startswith("kafka."):
            logger = logging.getLogger(name)
            if logger.level == logging.NOTSET and name == "kafka":
                logger.setLevel(logging.CRITICAL)
            elif 0 < logger.level < logging.INFO:
                logger.setLevel(logging.INFO)


_CAUSES: Mapping[str, tuple[type[BaseException], ...]] = {
    "credentials": (
        kafka_errors.SaslAuthenticationFailedError,
        kafka_errors.UnsupportedSaslMechanismError,
        kafka_errors.IllegalSaslStateError,
    ),
    "not_authorized": (kafka_errors.AuthorizationError,),
    "topic_missing": (kafka_errors.UnknownTopicOrPartitionError, kafka_errors.InvalidTopicError),
    "no_leader": (kafka_errors.LeaderNotAvailableError,),
    "not_enough_replicas": (
        kafka_errors.NotEnoughReplicasError,
        kafka_errors.NotEnoughReplicasAfterAppendError,
    ),
    "clock": (kafka_errors.InvalidTimestampError,),
    "too_few_brokers": (kafka_errors.InvalidReplicationFactorError,),
}
_GARBLED = (kafka_errors.InvalidReceiveError, kafka_errors.CorrelationIdError)
_ADVICE = {
    "credentials": "check sasl_username, sasl_password and sasl_mechanism",
    "tls": "check security_protocol and ssl_cafile",
    "unreachable": "check bootstrap_servers and security_protocol, and that the brokers run",
    "not_authorized": "let this user read, write and describe the topic, and write idempotently",
    "topic_missing": "create it: feedbackloop topics create",
    "no_leader": "start the brokers that hold them",
    "not_enough_replicas": "start the brokers that hold the others, or see min.insync.replicas",
    "too_few_brokers": "set replication to at most the number of brokers",
    "clock": "set this machine's clock, or the topic to message.timestamp.type=LogAppendTime",
}


def explain(cluster: Cluster, trouble: BaseException) -> LogUnavailable:
    """Say what went wrong and what to do about it."""
    reason = _reason(trouble)
    said = _said(trouble)
    if reason == "credentials":
        said = f"the user {cluster.sasl_username!r} was not let in: {said}"
    advice = _ADVICE.get(reason)
    more = f" ({advice})" if advice else ""
    return LogUnavailable(f"Kafka at {cluster.bootstrap_servers}: {said}{more}", reason=reason)


def _reason(trouble: BaseException) -> str:
    for reason, kinds in _CAUSES.items():
        if isinstance(trouble, kinds):
            return reason
    text = str(trouble).lower()
    if "certificate" in text or "ssl" in text or isinstance(trouble, _GARBLED):
        return "tls"
    if isinstance(trouble, OSError | kafka_errors.KafkaConnectionError):
        return "unreachable"
    return "unreachable" if "bootstrap" in text else "unconfirmed"


def _said(trouble: BaseException) -> str:
    """Return the error's own words, without the class and number that the library adds."""
    if isinstance(trouble, _GARBLED):
        return "what answers there does not speak Kafka without TLS"
    text = str(trouble.args[0] or "") if trouble.args else ""
    text = text.removeprefix(f"{type(trouble).__name__}: ")
    if isinstance(trouble, kafka_errors.KafkaConnectionError) and text in ("", _CLOSED):
        return "the broker closed the connection without a word"
    return text or getattr(trouble, "description", None) or type(trouble).__name__
