"""Health and metrics of the archiver. Nothing here changes anything, and nothing tells an event."""

from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.archiver.runner import Runner


class Health:
    """Whether the store was found fit, which takes as long as it is away."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.waiting_for: str | None = "the store has not answered yet"

    def report(self) -> dict[str, Any]:
        """Say how each partition is doing."""
        return {
            "ready": self.waiting_for is None,
            "waiting_for": self.waiting_for,
            "partitions": {
                partition: {
                    "lag_seconds": round(one.lag_seconds(), 3),
                    "stopped": None if one.obstacle is None else one.obstacle.explanation,
                }
                for partition, one in self.runner.archivists.items()
            },
        }


def make_app(health: Health) -> Starlette:
    """Make the application."""

    async def healthz(request: Request) -> Response:
        del request
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        del request
        return JSONResponse(health.report(), 200 if health.waiting_for is None else 503)

    async def metrics(request: Request) -> Response:
        del request
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )
