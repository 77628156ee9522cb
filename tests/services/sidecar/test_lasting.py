"""What goes on beside the answers, whatever happens to it."""

import asyncio
from collections.abc import Iterator

import pytest

from services import telemetry
from services.sidecar.lasting import lasting


def failures(task: str) -> float:
    (family,) = telemetry.TASK_ERRORS.collect()
    return sum(
        one.value
        for one in family.samples
        if one.labels == {"task": task} and one.name.endswith("_total")
    )


async def test_work_that_failed_is_begun_again_and_counted() -> None:
    """A sidecar that looks at nothing any more looks well, until the day that it matters."""
    begun = asyncio.Event()
    mistakes: Iterator[Exception] = iter([AttributeError("keys"), KeyError("alias")])

    async def work() -> None:
        for mistake in mistakes:
            raise mistake
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(lasting("test", work, again_seconds=0))
    await begun.wait()

    assert failures("test") == 2
    task.cancel()


async def test_work_that_is_cancelled_has_ended() -> None:
    """A sidecar that is to end waits for nothing that never does."""
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(lasting("test", work, again_seconds=0))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
