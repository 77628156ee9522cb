"""What the loop asks of the store of release documents and of the store of adapters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from feedbackloop.events import Alias
from feedbackloop.promotion.release import ReleaseDocument


class Releases(Protocol):
    """Release documents, with compare-and-set. Held by ``tests/contracts/test_releases.py``."""

    async def get(self, alias: Alias) -> ReleaseDocument:
        """Return the document in force; epoch 0 with the base as stable if there is none."""
        ...

    async def list(self) -> Sequence[ReleaseDocument]:
        """Return every document in force, by alias."""
        ...

    async def history(self, alias: Alias, *, limit: int = 100) -> Sequence[ReleaseDocument]:
        """Return the documents of an alias, newest first."""
        ...

    async def put(self, document: ReleaseDocument, *, lease_epoch: int) -> None:
        """Store ``document`` as the successor of the one with its epoch less 1.

        Raises:
            StaleEpoch: If another document has that epoch already, or the lease epoch is older
                than the one that wrote last.
        """
        ...


class Adapters(Protocol):
    """Adapter folders by digest, immutable. Held by ``tests/contracts/test_adapters.py``."""

    def put(self, folder: Path) -> str:
        """Copy an adapter's two files in under their digest; return it. Twice is once.

        Raises:
            AdapterRejected: If the folder breaks a rule of ``training/artefact.py``.
        """
        ...

    def path(self, digest: str) -> Path:
        """Return the read-only folder, its bytes verified against ``digest``.

        Raises:
            AdapterRejected: If it is missing, or its bytes are not the digest's.
        """
        ...

    def digests(self) -> Sequence[str]:
        """List what is stored."""
        ...

    def collect(self, digest: str) -> None:
        """Remove a folder that no replica can read any more."""
        ...
