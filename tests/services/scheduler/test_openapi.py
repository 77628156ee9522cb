"""What the scheduler answers is what its OpenAPI says, whatever is asked."""

import asyncio
from pathlib import Path

import schemathesis

from tests.openapi import CONFIG, probed
from tests.services.asgi import serving
from tests.services.scheduler.test_routes import make
from tests.services.scheduler.world import World


async def test_the_scheduler_answers_as_documented(tmp_path: Path) -> None:
    """The command line, the console and every operator's script read it."""
    jobs, app = make(World(), tmp_path)
    await jobs.tick()
    found = app.openapi()
    schema = schemathesis.openapi.from_dict(found, config=CONFIG)

    async with serving(app) as url:
        asked = await asyncio.to_thread(lambda: list(probed(schema, url, {}, {})))

    assert {line.split()[1] for line in asked} == set(found["paths"])
