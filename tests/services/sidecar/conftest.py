"""A running sidecar for the tests in this folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.services.sidecar.stub import World, a_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A sidecar with a spool in memory, before a stub."""
    async with a_world(tmp_path) as one:
        yield one
