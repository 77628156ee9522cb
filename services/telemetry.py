"""Every metric and how it leaves.

Label values are closed sets, or what the operator names (alias, partition), or a loaded release,
whose series ``tallies.py`` keeps, and forgets once it is unloaded.
"""

from collections.abc import Mapping

import msgspec
from prometheus_client import Counter, Gauge
from prometheus_client.metrics import MetricWrapperBase

from feedbackloop.events import Alias, ReleaseName
from feedbackloop.log.completeness import Completeness
from services.tallies import REPLIES

REFUSED = Counter(
    "feedbackloop_requests_refused_total",
    "Requests answered by the sidecar itself with an error, before any release was chosen.",
    labelnames=["code"],
)
NOT_ADMITTED = Counter(
    "feedbackloop_not_admitted_total",
    "Calls that were refused for who made them, by why; limits are counted apart.",
    labelnames=["reason"],
)
LIMITED = Counter(
    "feedbackloop_limited_total",
    "Calls refused because there were too many, by whose limit it was.",
    labelnames=["by", "route"],
)
OIDC_FETCHES = Counter(
    "feedbackloop_oidc_fetches_total",
    "Times that the identity provider's keys were asked for.",
    labelnames=["result"],
)
FALLBACKS = Counter(
    "feedbackloop_fallback_total",
    "Requests answered by another release than the one assigned.",
    labelnames=["alias", "reason"],
)
RECORDS = Counter(
    "feedbackloop_records_total",
    "Records handed to the spool, by what became of them.",
    labelnames=["kind", "result"],
)
CAPTURE_LATE = Counter(
    "feedbackloop_capture_late_total",
    "Answers released before their record was known to be in the page cache.",
)
CAPTURE_ERRORS = Counter(
    "feedbackloop_capture_errors_total",
    "Exceptions in recording; the answer went on without it.",
)
FEEDBACK = Counter(
    "feedbackloop_feedback_total",
    "Signals that people gave, by kind and by what became of them.",
    labelnames=["signal", "result"],
)
FEEDBACK_REFUSED = Counter(
    "feedbackloop_feedback_refused_total",
    "Feedback calls refused, by status.",
    labelnames=["code"],
)
IMPLIED = Counter(
    "feedbackloop_implied_total",
    "Retries and acceptances that this sidecar inferred, by kind; labelling finds the others.",
    labelnames=["kind"],
)
CONVERGE_ERRORS = Counter(
    "feedbackloop_converge_errors_total",
    "Looks at vLLM and the release documents that failed, by why; the next look tries again.",
    labelnames=["reason"],
)
TASK_ERRORS = Counter(
    "feedbackloop_task_errors_total",
    "Times that work beside the answers failed unexpectedly and was begun again, by what it was.",
    labelnames=["task"],
)
ADAPTER_STEPS = Counter(
    "feedbackloop_adapter_steps_total",
    "Steps taken on this sidecar's vLLM, by what they were; failed is an adapter given up.",
    labelnames=["step"],
)
EPOCH = Gauge(
    "feedbackloop_epoch",
    "Epoch of the release document in force.",
    labelnames=["alias"],
)
CLIENTS_STALLED = Counter(
    "feedbackloop_clients_stalled_total",
    "Clients that were hung up on because they left their answer unread.",
)
UPSTREAM_CONNECTIONS = Counter(
    "feedbackloop_upstream_connections_total",
    "Connections opened to vLLM; far fewer than requests, or they are not used again.",
)
UPSTREAM_ERRORS = Counter(
    "feedbackloop_upstream_errors_total",
    "Requests that vLLM did not answer.",
    labelnames=["reason"],
)

EVENTS_FORWARDED = Counter(
    "feedbackloop_events_forwarded_total",
    "Events that the log confirmed.",
)
LOG_UNAVAILABLE = Counter(
    "feedbackloop_log_unavailable_total",
    "Times that the log did not confirm, by why; the events waited in the spool.",
    labelnames=["reason"],
)
LOG_CLIENT_REBUILDS = Counter(
    "feedbackloop_log_client_rebuilds_total",
    "Clients of the log that were thrown away and made anew, by why.",
    labelnames=["reason"],
)
REDACTED = Counter(
    "feedbackloop_redacted_total",
    "Pieces of personal data that were replaced before the log, by kind.",
    labelnames=["kind"],
)
REDACTION_FAILURES = Counter(
    "feedbackloop_redaction_failures_total",
    "Texts that could not be searched to the end; each was withheld as a whole.",
)
SPOOL_BACKLOG_BYTES = Gauge(
    "feedbackloop_spool_backlog_bytes",
    "Records on disk that are not yet in the log.",
)
SPOOL_TROUBLES = Counter(
    "feedbackloop_spool_troubles_total",
    "Records that the spool shed, by why; segments that a disk failed (suspect) or damaged.",
    labelnames=["what", "reason"],
)
BODIES_LEFT_OUT = Counter(
    "feedbackloop_bodies_left_out_total",
    "Large prompts and replies of which a digest was recorded, since the spool was nearly full.",
    labelnames=["part"],
)
SPOOL_REFUSED = Gauge(
    "feedbackloop_spool_refused",
    "1 while the spool's disk takes no records: answers go out unrecorded, votes get 503.",
)
SPOOLS_ADOPTED = Counter(
    "feedbackloop_spools_adopted_total",
    "Spools of dead sidecars that this one has taken over.",
)
OLDEST_UNCONFIRMED_SECONDS = Gauge(
    "feedbackloop_oldest_unconfirmed_seconds",
    "Age of the oldest record that the log has not confirmed; 0 if there is none.",
)
FORWARD_ERRORS = Counter(
    "feedbackloop_forward_errors_total",
    "Exceptions while forwarding; the records waited in the spool.",
)
FORWARDER_RESTARTS = Counter(
    "feedbackloop_forwarder_restarts_total",
    "Times that the process behind the spool died and was started again; the records waited.",
)
FORWARDER_STUCK = Counter(
    "feedbackloop_forwarder_stuck_total",
    "Times that the process behind the spool stood still for too long and was killed.",
)
DEAD_LETTERS = Counter(
    "feedbackloop_dead_letters_total",
    "Records that cannot be read, or that the log refuses, and that were set aside, by why.",
    labelnames=["reason"],
)

UNREADABLE_EVENTS = Counter(
    "feedbackloop_unreadable_events_total",
    "Entries of the log that the scheduler could not read, by why.",
    labelnames=["reason"],
)
COMPLETENESS_RATIO = Gauge(
    "feedbackloop_capture_completeness_ratio",
    "Share of the records that sidecars numbered that arrived in the log.",
)
NUMBERED_RECORDS = Gauge(
    "feedbackloop_capture_numbered_records",
    "Records that sidecars numbered, by what became of them; missing is lost without a word.",
    labelnames=["state"],
)
LABELS = Gauge(
    "feedbackloop_labels",
    "Labelled completions and pairs that may be trained on.",
    labelnames=["alias", "kind"],
)
RUNS = Counter(
    "feedbackloop_runs_total",
    "Runs that ended, by how.",
    labelnames=["alias", "state"],
)
GATE_VERDICTS = Counter(
    "feedbackloop_gate_verdicts_total",
    "Candidates that the gate judged, by what it said.",
    labelnames=["alias", "verdict"],
)
RELEASE_CHANGES = Counter(
    "feedbackloop_release_changes_total",
    "Changes of release documents, by what they did.",
    labelnames=["alias", "change"],
)
ADAPTERS_COLLECTED = Counter(
    "feedbackloop_adapters_collected_total",
    "Adapter folders removed because no document, run or sidecar needs them.",
)
IS_LEADER = Gauge("feedbackloop_leader", "1 while this scheduler leads.")
TICK_ERRORS = Counter("feedbackloop_tick_errors_total", "Exceptions in the scheduler's tick.")

ARCHIVED_EVENTS = Counter(
    "feedbackloop_archive_events_total",
    "Entries of the log that this archiver has put into files.",
)
ARCHIVE_REPEATS = Counter(
    "feedbackloop_archive_repeats_total",
    "Entries left out because the same event, byte for byte, is among those archived just before.",
)
ARCHIVE_UNREADABLE = Counter(
    "feedbackloop_archive_unreadable_total",
    "Entries archived as they are because they are no event known here.",
)
ARCHIVE_FILES = Counter(
    "feedbackloop_archive_files_total",
    "Files written, by level; removed ones by what they were.",
    labelnames=["what"],
)
ARCHIVE_BYTES = Counter(
    "feedbackloop_archive_bytes_total",
    "Bytes of fresh files written.",
)
ARCHIVE_RACES = Counter(
    "feedbackloop_archive_races_total",
    "Files dropped because another archiver had published the same place.",
)
ARCHIVE_ERRORS = Counter(
    "feedbackloop_archive_errors_total",
    "Failures of the archiver, by kind; what was read is kept or read again.",
    labelnames=["kind"],
)
ARCHIVE_STOPPED = Gauge(
    "feedbackloop_archive_stopped",
    "1 while a partition waits for an operator's decision, by why.",
    labelnames=["partition", "kind"],
)
ARCHIVE_LAG_SECONDS = Gauge(
    "feedbackloop_archive_lag_seconds",
    "Age of the oldest event that was read and is in no file yet.",
    labelnames=["partition"],
)
ARCHIVE_POSITION = Gauge(
    "feedbackloop_archive_position",
    "Last position in a file, and last position in the log when the archiver last looked.",
    labelnames=["partition", "of"],
)

IN_FLIGHT = Gauge(
    "feedbackloop_inflight",
    "Completion requests under way.",
    labelnames=["release"],
)


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A metric: its name as scraped, its kind, its labels and its meaning."""

    name: str
    kind: str
    labels: tuple[str, ...]
    means: str


def described() -> list[Described]:
    """Return every metric of ours that a scrape can show, by name."""
    own = [each for each in globals().values() if isinstance(each, MetricWrapperBase)]
    families = [(family, _labels(each)) for each in own for family in each.describe()]
    families += [(family, _labels(family)) for family in REPLIES.collect()]
    return sorted(
        (
            Described(
                name=f"{family.name}_total" if family.type == "counter" else family.name,
                kind=family.type,
                labels=labels,
                means=family.documentation,
            )
            for family, labels in families
        ),
        key=lambda one: one.name,
    )


def _labels(metric: object) -> tuple[str, ...]:
    return tuple(getattr(metric, "_labelnames", ()))


def show_routes(in_flight: Mapping[ReleaseName, int], epochs: Mapping[Alias, int]) -> None:
    """Set what a scrape reads: requests under way by release, and epochs by alias."""
    IN_FLIGHT.clear()
    for release, count in in_flight.items():
        IN_FLIGHT.labels(release).set(count)
    for alias, epoch in epochs.items():
        EPOCH.labels(alias).set(epoch)


def show_completeness(report: Completeness) -> None:
    """Set how much of what was recorded arrived."""
    COMPLETENESS_RATIO.set(report.ratio)
    NUMBERED_RECORDS.labels("seen").set(report.seen)
    NUMBERED_RECORDS.labels("declared").set(sum(report.declared.values()))
    NUMBERED_RECORDS.labels("pending").set(report.pending)
    NUMBERED_RECORDS.labels("missing").set(sum(report.missing.values()))


def show_archived(partition: str, *, archived: int, end: int) -> None:
    """Set how far a partition is archived, and how far it reaches."""
    ARCHIVE_POSITION.labels(partition, "archive").set(archived)
    ARCHIVE_POSITION.labels(partition, "log").set(end)


def show_stopped(partition: str, kind: str | None) -> None:
    """Set why a partition waits for a decision; None if it does not."""
    ARCHIVE_STOPPED.remove_by_labels({"partition": partition})
    if kind is not None:
        ARCHIVE_STOPPED.labels(partition, kind).set(1)


def forget_partition(partition: str) -> None:
    """Remove the series of a partition that another archiver takes care of."""
    for metric in (ARCHIVE_STOPPED, ARCHIVE_LAG_SECONDS, ARCHIVE_POSITION):
        metric.remove_by_labels({"partition": partition})
