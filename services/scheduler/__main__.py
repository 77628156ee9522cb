"""Start and stop the scheduler: ``python -m services.scheduler``."""

import asyncio
import os
import signal
import socket
import sys
from datetime import UTC, datetime, timedelta

import msgspec
import structlog
import uvicorn
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from feedbackloop.dataset.split import is_trainable
from feedbackloop.errors import FeedbackLoopError, SettingsError
from feedbackloop.events import Alias, CompletionServed
from feedbackloop.labels.tally import Tally
from feedbackloop.promotion.canary import Rule
from feedbackloop.training.planner import Limits
from services import keyring, telemetry, wiring
from services.scheduler.follower import Follower
from services.scheduler.jobs import Jobs, Plan
from services.scheduler.journal import Journal
from services.scheduler.publisher import Publisher
from services.scheduler.rollout import Policy, Rollouts
from services.scheduler.routes import Parts, make_app
from services.scheduler.sidecars import HttpSidecars
from services.scheduler.traces import Traces
from services.settings import Settings, load

log = structlog.get_logger()
_PARTITION = "scheduler"


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def make_tally(settings: Settings) -> Tally:
    """Make the counter of labels: held-out people's do not count."""
    tenants = keyring.load(settings.home)
    share = settings.dataset.holdout_share

    def counted(completion: CompletionServed) -> bool:
        keys = tenants.get(completion.tenant)
        return keys is not None and is_trainable(completion, secret=keys.holdout, share=share)

    return Tally(watermark=timedelta(seconds=settings.labels.watermark_seconds), counted=counted)


def make_parts(settings: Settings) -> tuple[Parts, HttpSidecars]:
    """Build everything that the scheduler is made of."""
    event_log = wiring.open_log(settings, partition=_PARTITION)
    topic = wiring.open_release_topic(settings, partition=_PARTITION)
    runs = wiring.open_runs(settings)
    launcher = wiring.open_launcher(settings)
    snapshots = wiring.open_snapshots(settings)
    tally = make_tally(settings)
    journal = Journal(event_log)
    follower = Follower(event_log, tally, journal, now=now)
    publisher = Publisher(wiring.open_releases(settings), topic, journal, now=now)
    sidecars = HttpSidecars(
        settings.scheduler.sidecars or (f"http://{settings.sidecar.admin_bind}",)
    )
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
    parts = Parts(
        jobs=jobs,
        runs=runs,
        launcher=launcher,
        publisher=publisher,
        snapshots=snapshots,
        traces=Traces(tally.gathering, snapshots, runs),
        configured={method: dict(recipe) for method, recipe in settings.training.recipes.items()},
    )
    return parts, sidecars


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
    parts, sidecars = make_parts(settings)
    clock = AsyncIOScheduler(timezone=UTC)
    clock.add_job(
        _tick,
        "interval",
        args=[parts.jobs],
        seconds=settings.scheduler.tick_seconds,
        next_run_time=now(),
        coalesce=True,
        max_instances=1,
        misfire_grace_time=None,
    )
    host, _, port = settings.scheduler.bind.rpartition(":")
    listener = _listen(host.strip("[]"), int(port))
    server = uvicorn.Server(
        uvicorn.Config(make_app(parts), log_level="warning", lifespan="off", access_log=False)
    )
    clock.start()
    bound_host, bound_port = listener.getsockname()[:2]
    ready = {"ready": {"scheduler": f"{bound_host}:{bound_port}"}}
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()
    try:
        await server.serve(sockets=[listener])
    finally:
        clock.shutdown(wait=False)
        await sidecars.close()


async def _tick(jobs: Jobs) -> None:
    try:
        await jobs.tick()
    except Exception:  # the outermost loop: the next tick tries again
        telemetry.TICK_ERRORS.inc()
        log.exception("tick_failed")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise SettingsError(f"FEEDBACKLOOP_SCHEDULER__BIND={host}:{port}: {error}") from error
    return listener


def main() -> int:
    """Run the scheduler; 0 after SIGTERM, 2 for wrong settings."""
    telemetry.set_up_logs()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        asyncio.run(serve(load()))
    except SettingsError as error:
        log.error("settings", problem=str(error))  # noqa: TRY400  # a message, not a trace
        return 2
    except FeedbackLoopError as error:
        log.error("stopped", problem=str(error))  # noqa: TRY400  # a message, not a trace
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
