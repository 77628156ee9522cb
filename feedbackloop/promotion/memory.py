"""Release documents in a dictionary: the reference, and for tests."""

from collections.abc import Sequence

from feedbackloop.errors import StaleEpoch
from feedbackloop.events import Alias
from feedbackloop.promotion.release import ReleaseDocument


class MemoryReleases:
    """Release documents for as long as this object lives."""

    def __init__(self) -> None:
        self._history: dict[Alias, list[ReleaseDocument]] = {}
        self._leases: dict[Alias, int] = {}

    async def get(self, alias: Alias) -> ReleaseDocument:
        found = self._history.get(alias)
        return found[-1] if found else ReleaseDocument(alias=alias)

    async def list(self) -> Sequence[ReleaseDocument]:
        return [documents[-1] for _, documents in sorted(self._history.items())]

    async def history(self, alias: Alias, *, limit: int = 100) -> Sequence[ReleaseDocument]:
        return self._history.get(alias, [])[::-1][:limit]

    async def put(self, document: ReleaseDocument, *, lease_epoch: int) -> None:
        before = await self.get(document.alias)
        if document.epoch != before.epoch + 1:
            raise StaleEpoch(f"{document.alias} is at epoch {before.epoch}")
        lease = self._leases.get(document.alias, 0)
        if lease_epoch < lease:
            raise StaleEpoch(f"lease {lease_epoch} is over: {lease} wrote {document.alias} last")
        self._history.setdefault(document.alias, []).append(document)
        self._leases[document.alias] = lease_epoch
