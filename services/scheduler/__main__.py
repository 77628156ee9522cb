"""Start and stop the scheduler: ``python -m services.scheduler``."""

import asyncio
import os
import signal
import socket
import sys
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import NoReturn

import msgspec
import structlog
import uvicorn
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from feedbackloop.capture.identity import Keyring
from feedbackloop.dataset.selection import unusable
from feedbackloop.dataset.split import is_trainable
from feedbackloop.errors import UnavailableError
from feedbackloop.events import Alias, CompletionServed
from feedbackloop.labels.tally import Tally
from feedbackloop.promotion.canary import Rule
from feedbackloop.promotion.retention import Retention
from feedbackloop.training.planner import Limits
from services import addresses, logs, telemetry, wiring
from services.apikeys import ApiKeys
from services.ending import exit_status
from services.keyring import LiveKeyring
from services.scheduler.collector import Collector
from services.scheduler.follower import Follower
from services.scheduler.jobs import Jobs, Plan
from services.scheduler.journal import Journal
from services.scheduler.publisher import Publisher
from services.scheduler.rollout import Policy, Rollouts
from services.scheduler.routes import Parts, make_app
from services.scheduler.sidecars import HttpSidecars, Sidecars
from services.scheduler.traces import Traces
from services.settings import Settings, load

log = structlog.get_logger()
_PARTITION = "scheduler"


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def make_tally(settings: Settings, tenants: Keyring) -> Tally:
    """Make the counter of labels: held-out people's do not count."""
    share, untrained = settings.dataset.holdout_share, settings.dataset.untrained_placeholders

    def counted(completion: CompletionServed) -> bool:
        keys = tenants.get(completion.tenant)
        secret = keys.holdout if keys is not None else None
        return is_trainable(completion, secret=secret, share=share)

    return Tally(
        watermark=timedelta(seconds=settings.labels.watermark_seconds),
        counted=counted,
        usable=lambda completion: unusable(completion, untrained=untrained) is None,
    )


def make_parts(settings: Settings, tenants: LiveKeyring, sidecars: Sidecars) -> Parts:
    """Build everything that the scheduler is made of."""
    event_log = wiring.open_log(settings, partition=_PARTITION)
    topic = wiring.open_release_topic(settings, partition=_PARTITION)
    runs = wiring.open_runs(settings)
    launcher = wiring.open_launcher(settings)
    snapshots = wiring.open_snapshots(settings)
    tally = make_tally(settings, tenants)
    journal = Journal(event_log)
    follower = Follower(event_log, tally, journal, now=now)
    publisher = Publisher(wiring.open_releases(settings), topic, journal, now=now)
    jobs = Jobs(
        _plan(settings),
        runs=runs,
        launcher=launcher,
        follower=follower,
        publisher=publisher,
        rollouts=Rollouts(publisher, sidecars, follower, _policy(settings), now=now),
        journal=journal,
        now=now,
    )
    return Parts(
        jobs=jobs,
        runs=runs,
        launcher=launcher,
        snapshots=snapshots,
        traces=Traces(tally.gathering, snapshots, runs),
        keys=ApiKeys(settings.home / "keys" / "api-keys.json", required=settings.keys.required),
        configured={method: dict(recipe) for method, recipe in settings.training.recipes.items()},
    )


def make_collector(settings: Settings, sidecars: Sidecars) -> Collector:
    """Build what removes adapters that nobody needs."""
    return Collector(
        wiring.open_adapters(settings),
        runs=wiring.open_runs(settings),
        releases=wiring.open_releases(settings),
        sidecars=sidecars,
        retention=Retention(
            releases=settings.scheduler.keep_releases,
            grace_seconds=settings.scheduler.keep_seconds,
        ),
        now=now,
    )


def _plan(settings: Settings) -> Plan:
    aliases = sorted(settings.aliases) or ["assistant"]
    return Plan(
        aliases=tuple(Alias(alias) for alias in aliases),
        owner=f"{socket.gethostname()}-{os.getpid()}",
        lease_seconds=settings.scheduler.lease_seconds,
        limits=Limits(
            min_pairs=settings.training.min_pairs,
            min_minority=settings.training.min_minority_labels,
            max_rank=settings.vllm.max_lora_rank,
        ),
        rest_seconds=settings.training.rest_seconds,
        max_attempts=settings.training.max_attempts,
        automatic=settings.scheduler.automatic,
    )


def _policy(settings: Settings) -> Policy:
    canary = settings.canary
    return Policy(
        enabled=canary.enabled,
        rule=Rule(
            shares=canary.shares,
            margin=canary.margin,
            alpha=canary.alpha,
            min_units=canary.min_units,
            dwell_seconds=canary.dwell_seconds,
            deadline_seconds=canary.deadline_seconds,
            max_error_share=canary.max_error_share,
        ),
        maturity_seconds=canary.maturity_seconds,
    )


async def serve(settings: Settings) -> None:
    """Run until SIGTERM: the clock, and the API beside it."""
    listener = addresses.listen("FEEDBACKLOOP_SCHEDULER__BIND", settings.scheduler.bind)
    tenants = LiveKeyring(settings.home)
    urls = settings.scheduler.sidecars or (f"http://{settings.sidecar.admin_bind}",)
    sidecars = HttpSidecars(urls)
    parts = make_parts(settings, tenants, sidecars)
    clock = AsyncIOScheduler(timezone=UTC)
    clock.add_job(
        _tick,
        "interval",
        args=[parts.jobs, make_collector(settings, sidecars), tenants],
        seconds=settings.scheduler.tick_seconds,
        next_run_time=now(),
        coalesce=True,
        max_instances=1,
        misfire_grace_time=None,
    )
    clock.start()
    ready = {"ready": {"scheduler": addresses.shown(listener)}}
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()
    try:
        await _answer(parts, listener)
    finally:
        clock.shutdown(wait=False)
        await _say_goodbye(parts.jobs)
        await sidecars.close()
        log.info("stopped")


async def _answer(parts: Parts, listener: socket.socket) -> None:
    """Serve the API until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        make_app(parts),
        log_level="warning",
        log_config=None,
        lifespan="off",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    await uvicorn.Server(config).serve(sockets=[listener])


async def _tick(jobs: Jobs, collector: Collector, tenants: LiveKeyring) -> None:
    try:
        tenants.refresh()
        await jobs.tick()
        if jobs.lease is not None:
            await collector.look()
    except UnavailableError as error:
        telemetry.TICK_ERRORS.inc()
        log.warning("tick_waits", error=str(error))
    except Exception:  # the outermost loop: the next tick tries again
        telemetry.TICK_ERRORS.inc()
        log.exception("tick_failed")


async def _say_goodbye(jobs: Jobs) -> None:
    try:
        await jobs.resign()
    except UnavailableError as error:
        log.warning("lease_kept", error=str(error))


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End in good order: uvicorn raises the signal again once it has stopped serving."""
    del number, frame
    raise SystemExit(0)


def main() -> int:
    """Run the scheduler; 0 after SIGTERM, 2 for wrong settings."""
    logs.set_up()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    return exit_status(_main)


def _main() -> None:
    settings = load()
    if not settings.keys.required:
        addresses.require_loopback("FEEDBACKLOOP_SCHEDULER__BIND", settings.scheduler.bind)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
