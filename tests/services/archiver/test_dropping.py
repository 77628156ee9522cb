"""What an archiver gives up, it says."""

import structlog

from tests.services.archiver.world import FullArchive, P, World


async def test_what_failed_and_was_dropped_is_said() -> None:
    """The entries are read again, and the reason would be gone; what was said is nobody's here."""
    world = World()
    await world.served(3)
    archivist = world.archivist(archive=FullArchive(world.store, topic="events", window_entries=9))
    await archivist.step()

    with structlog.testing.capture_logs() as lines:
        await archivist.drop()

    assert lines == [
        {
            "event": "archive_draft_failed",
            "partition": P,
            "error": "MemoryError",
            "log_level": "warning",
        }
    ]
