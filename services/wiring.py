"""Settings to edges: the only place that chooses between implementations.

Imports of edges are local to their function, so that a sidecar needs no torch and a laptop no
Kafka client.
"""

from feedbackloop.dataset.port import Snapshots
from services.settings import Settings


def open_snapshots(settings: Settings) -> Snapshots:
    """Open the store of snapshots: a folder under the home folder."""
    from feedbackloop.dataset.filesystem import FolderSnapshots

    return FolderSnapshots(settings.home / "snapshots")
