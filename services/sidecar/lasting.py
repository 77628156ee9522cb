"""Work beside the answers that goes on for as long as the sidecar does."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from services import telemetry

log = structlog.get_logger()


async def lasting(
    task: str, work: Callable[[], Awaitable[None]], *, again_seconds: float = 1.0
) -> None:
    """Do work that never ends by itself; begin it again where a mistake of ours has ended it.

    Args:
        task: Its name, for the metric.
        work: Begins it.
        again_seconds: How long to wait before it is begun again.
    """
    while True:
        try:
            await work()
        except Exception:  # the outermost loop: answers go on, and the next try may do better
            telemetry.TASK_ERRORS.labels(task).inc()
            log.exception("task_failed", task=task)
        await asyncio.sleep(again_seconds)
