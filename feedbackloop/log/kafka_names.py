"""What Kafka's partitions are called in the log: ``events-3``."""

from feedbackloop.errors import LogUnavailable

_PREFIX = "events-"


def name(partition: int) -> str:
    """Name a partition."""
    return f"{_PREFIX}{partition}"


def number(partition: str) -> int:
    """Return a partition's number.

    Raises:
        LogUnavailable: If it is no partition of a topic of Kafka.
    """
    found = partition.removeprefix(_PREFIX)
    if found == partition or not found.isdecimal():
        raise LogUnavailable(f"there is no partition {partition}: Kafka's are called {_PREFIX}0")
    return int(found)
