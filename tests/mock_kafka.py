"""librdkafka's mock cluster, out of the confluent-kafka wheel: brokers in this process, on command.

It speaks Kafka's protocol on loopback and does as it is told: brokers go down and come up, answer
late or with errors. It does not drop repeated batches as Kafka does, so that a retry leaves
duplicates: good for testing that order survives them.
"""

import ctypes
from pathlib import Path
from typing import Any

import confluent_kafka

API_VERSION = (2, 3)
"""Its answer to newer ones is malformed."""

PRODUCE = 0
FETCH = 1
METADATA = 3

REQUEST_TIMED_OUT = 7
NOT_LEADER = 6
NOT_ENOUGH_REPLICAS = 19
NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
MESSAGE_TOO_LARGE = 10
INVALID_RECORD = 87
TOPIC_AUTHORIZATION_FAILED = 29
OUT_OF_ORDER_SEQUENCE = 45

_PRODUCER = 0


def _library() -> Any:
    folder = Path(confluent_kafka.__file__).parent.with_suffix(".libs")
    library: Any = ctypes.CDLL(str(next(folder.glob("librdkafka-*.so*"))))
    pointer = ctypes.c_void_p
    library.rd_kafka_new.restype = pointer
    library.rd_kafka_new.argtypes = [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]
    library.rd_kafka_destroy.argtypes = [pointer]
    library.rd_kafka_mock_cluster_new.restype = pointer
    library.rd_kafka_mock_cluster_new.argtypes = [pointer, ctypes.c_int]
    library.rd_kafka_mock_cluster_destroy.argtypes = [pointer]
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    library.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    return library


class MockCluster:
    """Some brokers. Close it."""

    def __init__(self, brokers: int = 3) -> None:
        self._library = _library()
        message = ctypes.create_string_buffer(512)
        self._client = self._library.rd_kafka_new(_PRODUCER, None, message, len(message))
        assert self._client, message.value.decode()
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        self.brokers = range(1, brokers + 1)
        found: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.bootstrap_servers = found.decode()

    def create_topic(self, topic: str, partitions: int, *, replication: int = 1) -> None:
        """Make a topic."""
        self._call("topic_create", topic.encode(), partitions, replication)

    def set_down(self, broker: int) -> None:
        """Close a broker's connections and its port."""
        self._call("broker_set_down", broker)

    def set_up(self, broker: int) -> None:
        """Let a broker answer again."""
        self._call("broker_set_up", broker)

    def set_round_trip(self, broker: int, *, milliseconds: int) -> None:
        """Let a broker answer late."""
        self._call("broker_set_rtt", broker, milliseconds)

    def set_leader(self, topic: str, partition: int, broker: int) -> None:
        """Move a partition's leadership."""
        self._call("partition_set_leader", topic.encode(), partition, broker)

    def push_errors(self, api: int, *errors: int) -> None:
        """Answer the next requests of a kind with these errors, one each."""
        codes = (ctypes.c_int * len(errors))(*errors)
        function = self._library.rd_kafka_mock_push_request_errors_array
        function(ctypes.c_void_p(self._cluster), ctypes.c_int16(api), len(errors), codes)

    def share_at_once(self) -> None:
        """Let the first member of a group not wait for others."""
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(
            ctypes.c_void_p(self._cluster), ctypes.c_int32(0)
        )

    def close(self) -> None:
        """End it."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)

    def _call(self, name: str, *arguments: bytes | int) -> None:
        function = getattr(self._library, f"rd_kafka_mock_{name}")
        error = function(ctypes.c_void_p(self._cluster), *arguments)
        assert error == 0, f"{name}{arguments} failed with {error}"
