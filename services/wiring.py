"""Settings to edges: the only place that chooses between implementations.

Imports of edges are local to their function, so that a sidecar needs no torch and a laptop no
Kafka client.
"""

import secrets
import time

from feedbackloop.dataset.port import Snapshots
from feedbackloop.log.port import EventLog, ReleaseTopic, Spool
from feedbackloop.training.port import Runs
from services.settings import MemoryLog, SegmentLog, Settings


def open_snapshots(settings: Settings) -> Snapshots:
    """Open the store of snapshots: a folder under the home folder."""
    from feedbackloop.dataset.filesystem import FolderSnapshots

    return FolderSnapshots(settings.home / "snapshots")


def open_log(settings: Settings, *, partition: str | None) -> EventLog:
    """Open the event log, to write ``partition`` too unless that is None.

    Raises:
        SettingsError: If another process writes that partition.
    """
    match settings.log:
        case MemoryLog():
            from feedbackloop.log.memory import MemoryEventLog

            return MemoryEventLog(partition)
        case SegmentLog():
            from feedbackloop.log.segments import EVENTS, SegmentEventLog, Topic

            return SegmentEventLog(
                Topic(
                    settings.home / "log",
                    EVENTS,
                    partition=partition,
                    producer=secrets.token_hex(16),
                    segment_bytes=settings.log.segment_bytes,
                    now_ns=time.time_ns,
                )
            )


def open_release_topic(settings: Settings, *, partition: str | None) -> ReleaseTopic:
    """Open the topic of release documents, to publish on ``partition`` unless that is None."""
    match settings.log:
        case MemoryLog():
            from feedbackloop.log.memory import MemoryReleaseTopic

            return MemoryReleaseTopic()
        case SegmentLog():
            from feedbackloop.log.segments import RELEASES, SegmentReleaseTopic, Topic

            return SegmentReleaseTopic(
                Topic(
                    settings.home / "log",
                    RELEASES,
                    partition=partition,
                    producer=secrets.token_hex(16),
                    segment_bytes=settings.log.segment_bytes,
                    now_ns=time.time_ns,
                )
            )


def open_spool(settings: Settings, name: str) -> Spool:
    """Open the spool of the process called ``name``, with what it left there before.

    Raises:
        SettingsError: If another process has it open.
    """
    from feedbackloop.log import segments
    from feedbackloop.log.spool import SpoolLimits

    return segments.open_spool(
        settings.home / "spool" / name,
        producer=secrets.token_hex(16),
        limits=SpoolLimits(
            memory_bytes=settings.sidecar.spool_memory_bytes,
            disk_bytes=settings.sidecar.spool_disk_bytes,
        ),
        now_ns=time.time_ns,
    )


def open_runs(settings: Settings) -> Runs:
    """Open the table of runs and the leader's lease, in the state database."""
    from feedbackloop.training.sql import SqlRuns
    from services.database import open_engine

    settings.home.mkdir(parents=True, exist_ok=True)
    return SqlRuns(open_engine(settings.database_url()))
