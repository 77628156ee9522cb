"""Start and stop the archiver: ``python -m services.archiver``."""

import asyncio
import contextlib
import secrets
import signal
import socket
import sys
import time
from collections.abc import Generator
from datetime import UTC, datetime

import msgspec
import structlog
import uvicorn

from feedbackloop.errors import StoreUnavailable
from feedbackloop.log.port import Store
from services import addresses, garbage, logs, wiring
from services.archiver.archivist import Archivist, Terms
from services.archiver.keeper import upkeep
from services.archiver.probe import probe
from services.archiver.routes import Health, make_app
from services.archiver.runner import Pace, Runner
from services.ending import exit_status
from services.settings import Settings, load

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """A server that leaves signals to us: it answers until the last file is published."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def calm_collector() -> None:
    """Look for circles of garbage seldom: entries make none, and it took a quarter of the CPU."""
    # Batches on their way make up to 50,000 objects, which come and go: more is garbage.
    garbage.calm((200_000, 5, 50))


def make_runner(settings: Settings, store: Store) -> Runner:
    """Build everything that the archiver is made of."""
    archiver = settings.archiver
    event_log = wiring.open_log(settings, partition=None)
    archive = wiring.open_archive(settings, store)
    terms = Terms(file_bytes=archiver.file_bytes, rotate_seconds=archiver.rotate_seconds)

    def archivist(partition: str) -> Archivist:
        return Archivist(
            partition,
            event_log=event_log,
            archive=archive,
            terms=terms,
            clock=time.monotonic,
            now=now,
        )

    return Runner(
        sharing=wiring.open_sharing(settings, event_log),
        archive=archive,
        archivist=archivist,
        pace=Pace(
            memory_bytes=archiver.memory_bytes,
            poll_seconds=archiver.poll_seconds,
            upkeep_seconds=archiver.upkeep_seconds,
            upkeep=upkeep(settings),
        ),
        clock=time.monotonic,
        now=now,
    )


async def serve(settings: Settings) -> None:
    """Run until SIGTERM, then publish what was read."""
    listener = addresses.listen("FEEDBACKLOOP_ARCHIVER__BIND", settings.archiver.bind)
    store = wiring.open_store(settings)
    health = Health(make_runner(settings, store))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = _server(health)
    answering = asyncio.create_task(server.serve(sockets=[listener]))
    _say_ready(listener)
    calm_collector()
    try:
        await _wait_for_store(store, health, stop, settings.archiver.poll_seconds)
        await health.runner.run(stop)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(health.runner.drain(), settings.archiver.drain_seconds)
    finally:
        server.should_exit = True
        await answering
    log.info("stopped")


async def _wait_for_store(
    store: Store, health: Health, stop: asyncio.Event, seconds: float
) -> None:
    """Probe the store, for as long as it does not answer.

    Raises:
        SettingsError: If it cannot be used for an archive.
    """
    while not stop.is_set():
        try:
            await asyncio.to_thread(probe, store, secrets.token_hex(8))
        except StoreUnavailable as error:
            health.waiting_for = str(error)
            log.warning("store_unavailable", error=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), seconds)
        else:
            health.waiting_for = None
            log.info("archive", store=store.name)
            return


def _server(health: Health) -> _Server:
    config = uvicorn.Config(
        make_app(health),
        log_level="warning",
        log_config=None,
        lifespan="off",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    return _Server(config)


def _say_ready(listener: socket.socket) -> None:
    ready = {"ready": {"archiver": addresses.shown(listener)}}
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the archiver; 0 after SIGTERM, 2 for wrong settings."""
    logs.set_up()
    return exit_status(_main)


def _main() -> None:
    settings = load()
    asyncio.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
