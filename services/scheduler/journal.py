"""What the scheduler did, told to the log: once each, and whatever a crash left untold.

The state database is written first, so a scheduler may die with a change written and untold. Each
event's id follows from what it is about; comparing ids with those that the log holds finds what
is missing, and whoever tells it twice tells the same fact.
"""

from collections.abc import Sequence
from datetime import datetime

import structlog

from feedbackloop.capture.identity import event_id
from feedbackloop.errors import EventsRefused, LogUnavailable
from feedbackloop.events import AnyEvent, EventId, ReleaseChanged, RunChanged, TenantId
from feedbackloop.log.port import EventLog
from feedbackloop.promotion.release import ReleaseDocument
from feedbackloop.training.run import Run

log = structlog.get_logger()
_TENANT = TenantId("default")


class Journal:
    """Tells the log what it does not hold yet."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log
        self._told: set[EventId] = set()

    def heard(self, event: AnyEvent) -> None:
        """Remember what the log holds."""
        if isinstance(event, RunChanged | ReleaseChanged):
            self._told.add(event.event_id)

    def holds(self, told: EventId) -> bool:
        """Say whether the log holds an event, as far as it was read."""
        return told in self._told

    async def tell(self, events: Sequence[RunChanged | ReleaseChanged]) -> None:
        """Append what is missing; the next comparison finds it again if the log is away."""
        missing = [event for event in events if event.event_id not in self._told]
        if not missing:
            return
        try:
            await self._log.append(missing)
        except EventsRefused as error:
            # Told again it would be refused again.
            log.error("refused_by_log", error=str(error))  # noqa: TRY400  # its message says it all
        except LogUnavailable as error:
            log.warning("not_logged", events=len(missing), error=str(error))
            return
        self._told.update(event.event_id for event in missing)


def run_events(run: Run, *, by: str) -> list[RunChanged]:
    """Return one event for each state that a run has been in, from its facts."""
    times = run.facts.get("times", {})
    reasons = run.facts.get("reasons", {})
    events = []
    before = "none"
    for state, moment in times.items():
        events.append(
            RunChanged(
                event_id=event_id("run", run.run, state),
                tenant=_TENANT,
                at=datetime.fromisoformat(str(moment)),
                run=run.run,
                before=before,
                after=state,
                epoch=run.epoch,
                by=by,
                why=str(reasons.get(state, run.reason)),
            )
        )
        before = state
    return events


def release_event_id(document: ReleaseDocument) -> EventId:
    """Return the id of the event that tells of a document."""
    return event_id("release", document.alias, str(document.epoch))


def release_event(
    before: ReleaseDocument, after: ReleaseDocument, *, at: datetime
) -> ReleaseChanged:
    """Return the event that tells of a document and the one before it."""
    return ReleaseChanged(
        event_id=release_event_id(after),
        tenant=_TENANT,
        at=at,
        alias=after.alias,
        before=before.stable.name,
        after=after.stable.name,
        epoch=after.epoch,
        by=after.by,
        why=after.why,
    )
