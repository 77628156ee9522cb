"""Release documents that an operator gave to this sidecar itself, kept until the log agrees."""

from collections.abc import Mapping
from pathlib import Path

import structlog

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.events import Alias
from feedbackloop.promotion.release import Release, ReleaseDocument, decode, encode

log = structlog.get_logger()


class ByHand:
    """The last such document of each alias, in a file.

    What one of them rolled back stays out of service here, whatever the log says later, until a
    published document has rolled it back too: whoever publishes may not know yet.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._documents = self._read()

    @property
    def documents(self) -> Mapping[Alias, ReleaseDocument]:
        """What is in force by hand."""
        return self._documents

    def take(self, document: ReleaseDocument) -> None:
        """Keep a document."""
        self._documents[document.alias] = document
        self._write()

    def agree(self, published: ReleaseDocument) -> None:
        """Let go of what a published document has caught up with."""
        ours = self._documents.get(published.alias)
        if ours is None or published.epoch < ours.epoch:
            return
        if set(ours.quarantined) <= set(published.quarantined):
            del self._documents[published.alias]
            self._write()

    def bans(self, alias: Alias, release: Release) -> bool:
        """Say whether a release was rolled back by hand."""
        ours = self._documents.get(alias)
        return ours is not None and release.digest in ours.quarantined

    def _write(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._file.with_suffix(".tmp")
        unfinished.write_bytes(b"\n".join(encode(one) for one in self._documents.values()))
        unfinished.replace(self._file)

    def _read(self) -> dict[Alias, ReleaseDocument]:
        try:
            lines = self._file.read_bytes().splitlines()
            found = [decode(line) for line in lines if line]
        except FileNotFoundError:
            return {}
        except UNREADABLE as error:
            log.warning("documents_by_hand_unreadable", error=str(error))
            return {}
        return {document.alias: document for document in found}
