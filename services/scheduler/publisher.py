"""Release documents: written by compare-and-set, then published; published again if in doubt."""

from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from feedbackloop.errors import LogUnavailable, StaleEpoch
from feedbackloop.events import Alias
from feedbackloop.log.port import ReleaseTopic
from feedbackloop.promotion.changes import Change, Refused, kind_of
from feedbackloop.promotion.port import Releases
from feedbackloop.promotion.release import ReleaseDocument, decode, encode
from services import telemetry
from services.scheduler.journal import Journal, release_event, release_event_id

log = structlog.get_logger()


class Publisher:
    """The one place that changes what ought to be served."""

    def __init__(
        self,
        releases: Releases,
        topic: ReleaseTopic,
        journal: Journal,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._releases = releases
        self._topic = topic
        self._journal = journal
        self._now = now

    async def document(self, alias: Alias) -> ReleaseDocument:
        """Return the document in force."""
        return await self._releases.get(alias)

    async def history(self, alias: Alias) -> list[ReleaseDocument]:
        """Return the documents of an alias, newest first."""
        return list(await self._releases.history(alias))

    async def change(
        self, alias: Alias, move: Callable[[ReleaseDocument], Change], *, lease_epoch: int
    ) -> Change:
        """Apply a move to the document in force, store and publish it; or say why not."""
        before = await self._releases.get(alias)
        after = move(before)
        if isinstance(after, Refused):
            return after
        try:
            await self._releases.put(after, lease_epoch=lease_epoch)
        except StaleEpoch as error:
            return Refused(str(error))
        telemetry.RELEASE_CHANGES.labels(alias=alias, change=kind_of(before, after)).inc()
        log.info("release_changed", alias=alias, epoch=after.epoch, by=after.by, why=after.why)
        await self._publish(after)
        await self._journal.tell([release_event(before, after, at=self._now())])
        return after

    async def publish_all(self) -> None:
        """Publish and tell whatever SQL has and the log lacks.

        A crash may lie between the two, and a topic may be lost and made anew.
        """
        published = await self._in_topic()
        for document in await self._releases.list():
            if published.get(document.alias, 0) < document.epoch:
                await self._publish(document)
            if not self._journal.holds(release_event_id(document)):
                await self._tell_again(document.alias)

    async def _in_topic(self) -> Mapping[Alias, int]:
        """Return the epoch of each alias that the topic holds; none if it does not answer."""
        try:
            held = await self._topic.latest()
        except LogUnavailable as error:
            log.warning("release_topic_unavailable", error=str(error))
            return {}
        return {alias: decode(raw).epoch for alias, raw in held.items()}

    async def _publish(self, document: ReleaseDocument) -> None:
        try:
            await self._topic.publish(document.alias, encode(document), epoch=document.epoch)
        except LogUnavailable as error:
            log.warning("release_not_published", alias=document.alias, error=str(error))

    async def _tell_again(self, alias: Alias) -> None:
        documents = list(await self._releases.history(alias))[::-1]
        first = ReleaseDocument(alias=alias)
        pairs = zip([first, *documents], documents, strict=False)
        await self._journal.tell([release_event(*pair, at=self._now()) for pair in pairs])
