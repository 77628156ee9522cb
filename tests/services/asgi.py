"""An ASGI application on a port of its own, for as long as a test needs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn


class _Server(uvicorn.Server):
    """A server that tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: object = None) -> None:
        assert sockets is None
        await super().startup()
        self.up.set()


@asynccontextmanager
async def serving(app: object) -> AsyncIterator[str]:
    """Serve an application; yield its address."""
    server = _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]  # uvicorn's type is narrower than ASGI
            host="127.0.0.1",
            port=0,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
    )
    task = asyncio.create_task(server._serve())  # noqa: SLF001  # serve() takes the signals over
    await server.up.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
