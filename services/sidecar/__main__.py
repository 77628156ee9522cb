"""Start and stop the sidecar: ``python -m services.sidecar``."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Coroutine, Generator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import partial

import msgspec
import structlog
import uvicorn
import uvloop

from feedbackloop.errors import SettingsError
from feedbackloop.events import Alias
from feedbackloop.log.port import Spool
from feedbackloop.log.share import Share
from services import addresses, garbage, logs, signing, telemetry, wiring, wiring_spool
from services.ending import exit_status
from services.keyring import LiveKeyring
from services.oidc import Tokens
from services.sections.log import KafkaLog
from services.settings import Settings, load
from services.sidecar.admission import make_entrance, make_tokens
from services.sidecar.app import make_admin, make_front
from services.sidecar.caller import Identities
from services.sidecar.converger import Converger, Terms
from services.sidecar.keeper import Keeper
from services.sidecar.lasting import lasting
from services.sidecar.parts import Parts
from services.sidecar.readiness import Readiness, Unmanaged, watch
from services.sidecar.recording import Recorder
from services.sidecar.router import Convergence, Router
from services.sidecar.troubles import Refusal, Troubles
from services.sidecar.upstream import Upstream

log = structlog.get_logger()

_BACKLOG = 2_048
_KEEPALIVE_SECONDS = 75
_KEYRING_SECONDS = 5.0
_COUNT_SECONDS = 0.5
_ATTEMPTS = 4  # one that nobody answers ends after not much more than it is given


class _Server(uvicorn.Server):
    """A server that leaves signals to us: there are two in one process."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def check(settings: Settings) -> None:
    """Refuse to answer strangers without keys, and a place where no spool can ever be.

    Raises:
        SettingsError: If no key is needed and an address is not loopback; if there is a file where
            the spool's folder is to be.
    """
    wiring_spool.require_folder(settings, settings.sidecar.name)
    if settings.keys.required:
        return
    for name in ("bind", "admin_bind"):
        addresses.require_loopback(_setting(name), getattr(settings.sidecar, name))
    log.warning("keys_not_required", reason="every caller on this machine is tenant default")


def _setting(name: str) -> str:
    return f"FEEDBACKLOOP_SIDECAR__{name.upper()}"


def make_parts(
    settings: Settings,
    keyring: LiveKeyring,
    spool: Spool,
    server: Upstream,
    *,
    tokens: Tokens | None,
) -> Parts:
    """Build everything that answering takes."""
    identities = Identities(
        keyring,
        lifetime_seconds=settings.keys.receipt_lifetime_seconds,
        skew_seconds=settings.keys.clock_skew_seconds,
    )
    bases = {Alias(alias): one.base for alias, one in settings.aliases.items()}
    router = Router(bases)
    guarded = settings.sidecar.upstream_guard == "required"
    convergence: Convergence = Unmanaged(router)
    if guarded and bases:
        convergence = make_converger(settings, router, bases)
    return Parts(
        name=settings.sidecar.name,
        router=router,
        server=server,
        recorder=Recorder(
            spool,
            wait_seconds=settings.sidecar.capture_wait_seconds,
            vote_wait_seconds=settings.sidecar.vote_wait_seconds,
        ),
        identities=identities,
        entrance=make_entrance(settings, identities, tokens),
        convergence=convergence,
        readiness=Readiness(convergence, guarded=guarded),
        clock=time.time_ns,
        max_body_bytes=settings.sidecar.max_body_bytes,
        verify=partial(signing.verify, settings.home),
        scores_prompts=not guarded,
        passed_on=frozenset(settings.sidecar.passed_on),
    )


def make_converger(settings: Settings, router: Router, bases: Mapping[Alias, str]) -> Converger:
    """Build what keeps vLLM in line with the release documents."""
    sidecar = settings.sidecar
    converger = Converger(
        Terms(
            capacity=settings.vllm.max_loras,
            tolerance=sidecar.proof_tolerance,
            converge_seconds=sidecar.converge_seconds,
            reprove_seconds=sidecar.reprove_seconds,
        ),
        topic=wiring.open_release_topic(settings, partition=None),
        server=wiring.open_policy_server(settings),
        adapters=wiring.open_adapters(settings),
        router=router,
        bases=bases,
        kept=settings.home / "run" / f"{sidecar.name}.releases.jsonl",
    )
    router.on_lost = converger.on_lost
    return converger


def stuck_seconds(settings: Settings) -> float:
    """Return how long the child may stand still: an attempt at the log takes its time."""
    log_settings = settings.log
    attempt = log_settings.ack_timeout_seconds if isinstance(log_settings, KafkaLog) else 0.0
    return max(settings.sidecar.forwarder_stuck_seconds, _ATTEMPTS * attempt)


async def run(settings: Settings) -> None:
    """Serve until SIGTERM, then let what runs come to its end."""
    sidecar, stop = settings.sidecar, _told_to_stop()
    keyring = LiveKeyring(settings.home)
    tokens = make_tokens(settings)
    share = Share()
    spool = wiring_spool.open_spool(settings, sidecar.name, share=share)
    keeper = Keeper(share, spool.producer, stuck_seconds=stuck_seconds(settings))
    server = Upstream(
        settings.upstream(),
        connect_seconds=sidecar.upstream_connect_seconds,
        idle_seconds=sidecar.upstream_idle_seconds,
    )
    async with AsyncExitStack() as stack:
        # Last, since the child holds the spool's lock until it ends.
        stack.callback(share.close)
        stack.callback(keeper.kill)
        stack.callback(spool.close)
        await stack.enter_async_context(server)
        parts = make_parts(settings, keyring, spool, server, tokens=tokens)
        work = [
            lasting("upstream", partial(_watch, settings, parts)),
            lasting("keyring", partial(_refresh, keyring)),
            lasting("spool", partial(_count, Troubles(spool), Refusal(spool))),
            *([] if tokens is None else [lasting("oidc", tokens.run)]),
            *([parts.convergence.run()] if isinstance(parts.convergence, Converger) else []),
        ]
        tasks = [asyncio.create_task(one) for one in work]
        telemetry.SPOOL_BACKLOG_BYTES.set_function(spool.behind_bytes)
        telemetry.OLDEST_UNCONFIRMED_SECONDS.set_function(keeper.oldest_seconds)
        await _unless(stop, keeper.start())
        if not stop.is_set():
            garbage.calm()
            await _serve(settings, parts, stop)
        for task in tasks:
            task.cancel()
        # Nothing is written any more: what the child finds now is all there is.
        await asyncio.to_thread(spool.close)
        drained = await keeper.stop(drain_seconds=sidecar.drain_seconds)
        log.info("stopped", drained=drained, behind_bytes=spool.behind_bytes())


def _told_to_stop() -> asyncio.Event:
    """Return what SIGTERM and SIGINT set from now on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _unless(stop: asyncio.Event, work: Coroutine[object, object, None]) -> None:
    """Wait for work, and give it up once it is time to stop."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.cancel():
        working.result()


async def _watch(settings: Settings, parts: Parts) -> None:
    """Look at vLLM, for ever."""
    await watch(
        parts.readiness,
        parts.server,
        parts.router,
        mirror=not settings.aliases,
        seconds=settings.sidecar.converge_seconds,
    )


async def _count(troubles: Troubles, refusal: Refusal) -> None:
    """Show what goes wrong in the spool, for ever."""
    while True:
        troubles.count()
        refusal.look()
        await asyncio.sleep(_COUNT_SECONDS)


async def _refresh(keyring: LiveKeyring) -> None:
    """Follow the keyring's file, for ever."""
    while True:
        await asyncio.sleep(_KEYRING_SECONDS)
        try:
            keyring.refresh()
        except (SettingsError, OSError) as error:
            log.error("keyring_not_read", error=str(error))  # noqa: TRY400  # its message says it all


async def _serve(settings: Settings, parts: Parts, stop: asyncio.Event) -> None:
    """Answer on both listeners until it is time to stop; the admin one answers longest."""
    drain_seconds = settings.sidecar.drain_seconds
    public, admin = (_listen(settings, name) for name in ("bind", "admin_bind"))
    front = make_front(parts)
    await front.listen(public)
    back = _admin_server(make_admin(parts))
    watching = asyncio.create_task(back.serve(sockets=[admin]))
    ready = {"ready": {"sidecar": addresses.shown(public), "admin": addresses.shown(admin)}}
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()
    await stop.wait()
    log.info("draining", in_flight=sum(parts.router.counts().values()))
    parts.readiness.draining = True
    await front.drain(drain_seconds)
    back.should_exit = True
    await watching


def _admin_server(app: object) -> _Server:
    return _Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]  # uvicorn's type is narrower than ASGI
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEPALIVE_SECONDS,
            timeout_graceful_shutdown=1,
        )
    )


def _listen(settings: Settings, name: str) -> socket.socket:
    address = getattr(settings.sidecar, name)
    return addresses.listen(_setting(name), address, backlog=_BACKLOG)


def main() -> int:
    """Run the sidecar; return its exit status."""
    logs.set_up()
    return exit_status(_main)


def _main() -> None:
    settings = load()
    check(settings)
    uvloop.run(run(settings))


if __name__ == "__main__":
    sys.exit(main())
