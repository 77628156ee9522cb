"""What the loop asks of the store of snapshots."""

from collections.abc import Sequence
from typing import Protocol

from feedbackloop.dataset.snapshot import Manifest, Snapshot


class Snapshots(Protocol):
    """Snapshots by digest, immutable. Held by ``tests/contracts/test_snapshots.py``."""

    def put(self, snapshot: Snapshot) -> str:
        """Store a snapshot under its digest and return it. Twice is once."""
        ...

    def get(self, digest: str) -> Snapshot:
        """Return a snapshot, its bytes verified against ``digest``.

        Raises:
            RunError: If it is missing, or its bytes are not the digest's.
        """
        ...

    def manifest(self, digest: str) -> Manifest:
        """Return a snapshot's manifest alone.

        Raises:
            RunError: If it is missing.
        """
        ...

    def digests(self) -> Sequence[str]:
        """List what is stored, sorted."""
        ...
