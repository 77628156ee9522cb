"""Follow the log: count labels as they come, and remember what a rollout did."""

from collections.abc import Callable, Sequence
from datetime import datetime

from feedbackloop.errors import RecordError
from feedbackloop.events import Alias, Arm, CompletionId, CompletionServed, Outcome
from feedbackloop.labels.gather import Gathering
from feedbackloop.labels.resolve import resolve
from feedbackloop.labels.tally import Counts, Tally
from feedbackloop.log.completeness import Audit
from feedbackloop.log.port import EventLog, Offset
from feedbackloop.promotion.canary import Answers, Observation
from services import telemetry
from services.scheduler.journal import Journal

_SERVER_ERRORS = 500


class Follower:
    """Everything that the scheduler knows of the log, in memory; a restart reads it anew.

    Args:
        event_log: Read to its end by each ``catch_up``.
        tally: Counts what may be trained on.
        journal: Hears of the scheduler's own events.
        now: The clock.
    """

    def __init__(
        self, event_log: EventLog, tally: Tally, journal: Journal, *, now: Callable[[], datetime]
    ) -> None:
        self._log = event_log
        self._tally = tally
        self._journal = journal
        self._now = now
        self._audit = Audit()
        self._read: dict[str, int] = {}
        self._split: list[CompletionId] = []
        """Completions that were served while two arms were open."""

    @property
    def gathering(self) -> Gathering:
        """Return what was read so far."""
        return self._tally.gathering

    async def catch_up(self) -> int:
        """Read what is new in every partition; return how many entries that were."""
        entries = 0
        for partition in await self._log.partitions():
            after = Offset(partition, self._read.get(partition, -1))
            async for entry in self._log.read(after=after):
                self._read[partition] = entry.offset.position
                entries += 1
                if isinstance(entry.event, RecordError):
                    telemetry.UNREADABLE_EVENTS.labels(reason=type(entry.event).__name__).inc()
                    continue
                self._audit.add(entry.event)
                self._tally.add(entry.event)
                self._journal.heard(entry.event)
                if isinstance(entry.event, CompletionServed) and entry.event.propensity < 1:
                    self._split.append(entry.event.completion_id)
        telemetry.show_completeness(self._audit.report(now=self._now()))
        return entries

    def counts(self, alias: Alias) -> Counts:
        """Return how much there is to learn from now."""
        return self._tally.counts(alias, now=self._now())

    def observations(self, alias: Alias, *, since: datetime) -> Sequence[Observation]:
        """Return what became of each completion of a rollout that began at ``since``."""
        seen = []
        for completion in self._rollout(alias, since):
            signals = self.gathering.of(completion.completion_id).signals
            label = resolve(completion.completion_id, signals)
            seen.append(
                Observation(
                    unit=completion.user or completion.conversation,
                    arm=completion.arm,
                    canary_share=_canary_share(completion),
                    undesirable=float(label is not None and not label.desirable),
                    ended_at=completion.ended_at,
                )
            )
        return seen

    def answers(self, alias: Alias, *, since: datetime) -> dict[Arm, Answers]:
        """Count answers and failures by arm in a rollout that began at ``since``."""
        total = dict.fromkeys(Arm, 0)
        failed = dict.fromkeys(Arm, 0)
        for completion in self._rollout(alias, since):
            total[completion.arm] += 1
            failed[completion.arm] += _has_failed(completion)
        return {arm: Answers(total=total[arm], failed=failed[arm]) for arm in Arm}

    def _rollout(self, alias: Alias, since: datetime) -> Sequence[CompletionServed]:
        completions = (self.gathering.of(completion_id).completion for completion_id in self._split)
        return [
            one
            for one in completions
            if one is not None and one.alias == alias and one.accepted_at >= since
        ]


def _canary_share(completion: CompletionServed) -> float:
    share = completion.propensity if completion.arm is Arm.CANARY else 1 - completion.propensity
    # A receipt's propensity is rounded to 1/65535: two replicas must mean the same step.
    return round(share, 4)


def _has_failed(completion: CompletionServed) -> bool:
    if completion.outcome is Outcome.CLIENT_GONE:
        return False
    broken = completion.outcome is not Outcome.COMPLETE or completion.status >= _SERVER_ERRORS
    silent = not any(reply.text or reply.tool_calls for reply in completion.replies)
    return broken or silent
