"""Settings to edges: the only place that chooses between implementations.

Imports of edges are local to their function, so that a sidecar needs no torch and a laptop no
Kafka client.
"""

import os
import secrets
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from feedbackloop.capture.redactor import Redactor
from feedbackloop.dataset.port import Snapshots
from feedbackloop.errors import SettingsError
from feedbackloop.evaluation.port import Evaluator
from feedbackloop.evaluation.suite import Problem, Suite
from feedbackloop.events import RunId
from feedbackloop.log.archive import ArchiveFile
from feedbackloop.log.port import Archive, EventLog, ReleaseTopic, Store
from feedbackloop.log.sharing import Sharing
from feedbackloop.promotion.port import Adapters, Releases
from feedbackloop.serving.port import PolicyServer
from feedbackloop.training.port import Attempt, Launcher, Runs, Trainer
from feedbackloop.training.run import RunState
from services import telemetry, wiring_kafka
from services.sections.archive import FolderArchive, ObjectArchive
from services.sections.log import KafkaLog, MemoryLog, SegmentLog
from services.settings import Settings

if TYPE_CHECKING:
    from feedbackloop.log.duckdb import ArchiveViews
    from feedbackloop.training.safetensors import AdapterFacts

log = structlog.get_logger()

EVENTS = "feedbackloop.events"
"""The topic of events, as the archive's files name it."""


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
        case KafkaLog():
            from feedbackloop.log.kafka import KafkaEventLog

            return KafkaEventLog(
                wiring_kafka.cluster(settings.log, partition),
                wiring_kafka.terms(settings.log),
                topic=settings.log.events_topic,
                on_rebuild=_count_rebuild,
            )
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


def open_store(settings: Settings) -> Store:
    """Open the store of the archive's files: a folder, or a bucket.

    Raises:
        SettingsError: If the bucket's address or options are wrong.
    """
    match settings.archive:
        case FolderArchive():
            from feedbackloop.log.filesystem import FolderStore

            return FolderStore(settings.archive.path or settings.home / "archive")
        case ObjectArchive():
            from feedbackloop.log.obstore import ObjectStore

            return ObjectStore(settings.archive.url, settings.archive.options())


def open_archive(settings: Settings, store: Store) -> Archive:
    """Open the archive in a store."""
    from feedbackloop.log.parquet import ParquetArchive

    return ParquetArchive(store, topic=EVENTS, window_entries=settings.archiver.window_entries)


def open_archive_at(settings: Settings, place: str) -> Archive:
    """Open another archive: a folder, or a bucket that answers to the same options."""
    if "://" not in place:
        from feedbackloop.log.filesystem import FolderStore

        return open_archive(settings, FolderStore(Path(place)))
    from feedbackloop.log.obstore import ObjectStore

    options = settings.archive.options() if isinstance(settings.archive, ObjectArchive) else {}
    return open_archive(settings, ObjectStore(place, options))


def open_views(settings: Settings, store: Store, files: Sequence[ArchiveFile]) -> "ArchiveViews":
    """Open files of the archive as tables, the labels among them."""
    from feedbackloop.dataset.duckdb import create_labels
    from feedbackloop.log.duckdb import ArchiveViews

    root = None
    if isinstance(settings.archive, FolderArchive):
        root = (settings.archive.path or settings.home / "archive").resolve()
    views = ArchiveViews(
        store,
        files,
        root=root,
        memory_bytes=settings.sql.memory_bytes,
        scratch=settings.home / "run" / "duckdb",
    )
    create_labels(views.connection)
    return views


def open_sharing(settings: Settings, event_log: EventLog) -> Sharing:
    """Say how archivers share the partitions of the log."""
    match settings.log:
        case MemoryLog():
            from feedbackloop.log.memory import AllPartitions

            return AllPartitions(event_log)
        case KafkaLog():
            from feedbackloop.log.kafka_sharing import GroupSharing

            return GroupSharing(
                wiring_kafka.cluster(settings.log, None),
                settings.log.events_topic,
                group=settings.archiver.group,
            )
        case SegmentLog():
            from feedbackloop.log.filesystem import LockSharing

            return LockSharing(settings.home / "run" / "archiver", event_log)


def open_release_topic(settings: Settings, *, partition: str | None) -> ReleaseTopic:
    """Open the topic of release documents, to publish on ``partition`` unless that is None."""
    match settings.log:
        case MemoryLog():
            from feedbackloop.log.memory import MemoryReleaseTopic

            return MemoryReleaseTopic()
        case KafkaLog():
            from feedbackloop.log.kafka import KafkaReleaseTopic

            return KafkaReleaseTopic(
                wiring_kafka.cluster(settings.log, partition),
                wiring_kafka.terms(settings.log),
                topic=settings.log.releases_topic,
                on_rebuild=_count_rebuild,
            )
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


def _count_rebuild(why: str) -> None:
    telemetry.LOG_CLIENT_REBUILDS.labels(why).inc()


def open_runs(settings: Settings) -> Runs:
    """Open the table of runs and the leader's lease, in the state database."""
    from feedbackloop.training.sql import SqlRuns
    from services.database import open_engine

    settings.home.mkdir(parents=True, exist_ok=True)
    return SqlRuns(open_engine(settings.database_url()))


def open_launcher(settings: Settings) -> Launcher:
    """Open the launcher of steps: child processes with this process' environment."""
    from feedbackloop.training.subprocess import SubprocessLauncher

    environment = {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }
    if settings.training.threads:
        environment["OMP_NUM_THREADS"] = str(settings.training.threads)
    return SubprocessLauncher(
        settings.home,
        (sys.executable, "-m", "services.trainer"),
        environment=environment,
    )


def open_attempt(settings: Settings, run: RunId, step: RunState, *, attempt: int) -> Attempt:
    """Open the folder of an attempt, for the step's own process."""
    from feedbackloop.training.subprocess import FolderAttempt

    return FolderAttempt(settings.home, run, step, attempt=attempt)


def open_trainer(settings: Settings) -> Trainer:
    """Open the trainer: TRL, in this process."""
    from feedbackloop.training.trl import TrlTrainer

    return TrlTrainer(clock=time.perf_counter, threads=settings.training.threads)


def open_evaluator(settings: Settings) -> Evaluator:
    """Load the base for evaluation: on a GPU in bfloat16 if there is one, else in float32."""
    import torch

    from feedbackloop.evaluation.transformers import TransformersEvaluator

    if settings.training.threads:
        torch.set_num_threads(settings.training.threads)
    base = settings.training.base or settings.vllm.model
    if torch.cuda.is_available():
        return TransformersEvaluator(base, device="cuda", dtype="bfloat16")
    return TransformersEvaluator(base)


def load_suites(settings: Settings) -> tuple[Suite, ...]:
    """Read the operator's suites.

    Raises:
        SettingsError: If a file is missing or breaks a rule; the message names file and line.
    """
    from feedbackloop.evaluation.filesystem import load_suite

    return tuple(load_suite(path) for path in settings.gate.suites)


def lint_suite(path: Path) -> tuple[Suite | None, tuple[Problem, ...]]:
    """Read a suite and name everything that is wrong with it; None if anything is."""
    from feedbackloop.evaluation.filesystem import lint

    return lint(path)


def read_adapter(folder: Path) -> "AdapterFacts":
    """Read an adapter's folder as facts; the rules of its content are not applied.

    Raises:
        AdapterRejected: If it is not two plain files in the formats that their names say.
    """
    from feedbackloop.training.safetensors import read_adapter as read

    return read(folder)


def open_redactor(settings: Settings) -> Redactor | None:
    """Build what removes personal data; None if nothing is removed.

    Raises:
        SettingsError: If a pattern, a recogniser or a kind cannot be used; it says which.
    """
    redaction = settings.redaction
    if not redaction.enabled or not redaction.presidio.models:
        return redaction.redactor()
    # Where torch is installed it would take memory on vLLM's GPU.
    os.environ.setdefault("PRESIDIO_DEVICE", "cpu")
    name = "FEEDBACKLOOP_REDACTION__PRESIDIO"
    try:
        from feedbackloop.capture.presidio import PresidioRecogniser
    except ModuleNotFoundError as error:
        raise SettingsError(f"{name}: pip install 'feedbackloop[presidio]': {error}") from error
    chosen = redaction.presidio
    try:
        presidio = PresidioRecogniser(
            chosen.models, entities=chosen.entities, min_score=chosen.min_score
        )
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from error
    return redaction.redactor(beside=[presidio])


def open_releases(settings: Settings) -> Releases:
    """Open the store of release documents, in the state database."""
    from feedbackloop.promotion.sql import SqlReleases

    settings.home.mkdir(parents=True, exist_ok=True)
    return SqlReleases(settings.database_url())


def open_adapters(settings: Settings) -> Adapters:
    """Open the store of adapters: content-addressed folders under the home folder.

    What breaks a rule of ``training/artefact.py`` gets no digest, and so does not come in.
    """
    from feedbackloop.promotion.filesystem import FolderAdapters
    from feedbackloop.training.safetensors import checked_digest

    checked = partial(checked_digest, max_rank=settings.vllm.max_lora_rank)
    return FolderAdapters(settings.home / "adapters", digest=checked)


def open_policy_server(settings: Settings) -> PolicyServer:
    """Reach the vLLM that the sidecar stands before, on its Unix socket or over HTTP."""
    from feedbackloop.serving.vllm import VllmPolicyServer, open_client

    return VllmPolicyServer(open_client(settings.upstream()))
