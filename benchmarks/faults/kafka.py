"""From spools over Apache Kafka into the archive, while each of them is killed, frozen or away.

Four producers with spools and forwarders of their own, one broker, and two archivers that share the
topic's partitions. Each fault has a topic and an archive of its own; at its end every event is
counted, and the topic is replayed into an empty archive, which has to hold the same rows.
"""

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import unquote, urlsplit

from benchmarks import homes
from benchmarks.faults import archived
from benchmarks.faults.bucket import Bucket, Mood, bucket
from benchmarks.faults.crowd import ARCHIVERS, PRODUCERS, Crowd, wait_until
from benchmarks.faults.options import Options
from benchmarks.faults.producer import EACH
from benchmarks.faults.table import Row

_PART = "kafka"
_PATIENCE_SECONDS = 300.0
_LEAST_PER_SECOND = 50  # on a machine that has other things to do
_S3 = "FEEDBACKLOOP_TEST_S3"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is done to whom.

    Attributes:
        events: Completions in all.
        per_second: How many are recorded a second.
        broker_kills: How often the broker is killed in the run of kills.
        archiver_kills: How often an archiver is, in that run.
        away_seconds: How long something is frozen or away.
    """

    events: int
    per_second: float
    broker_kills: int
    archiver_kills: int
    away_seconds: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a fault has to do with."""

    crowd: Crowd
    store: Bucket | None
    random: Random
    scale: Scale


Fault = Callable[[Scene], int]
"""Does it while events flow, and says how often."""


def faults(options: Options) -> Iterator[Row]:
    """Do everything to Kafka and the archive that this module knows."""
    if not os.environ.get("KAFKA_HOME"):
        yield Row(part=_PART, fault="all of it", skipped="KAFKA_HOME names no Kafka to start")
        return
    kills = Scale(
        events=200_000, per_second=1_200, broker_kills=3, archiver_kills=20, away_seconds=60
    )
    others = Scale(events=20_000, per_second=400, broker_kills=1, archiver_kills=4, away_seconds=20)
    minute = Scale(events=40_000, per_second=500, broker_kills=0, archiver_kills=0, away_seconds=60)
    for name, fault, scale, on_bucket in (
        ("SIGKILL of broker and archivers", killed, kills, False),
        ("broker away for a minute", broker_away, minute, False),
        ("SIGSTOP of the broker", broker_frozen, others, False),
        ("SIGSTOP of an archiver, back as a zombie", archiver_frozen, others, False),
        ("object store away for a minute", store_away, minute, True),
        ("object store fails half its puts", store_failing, others, True),
    ):
        if options.is_over():
            yield Row(part=_PART, fault=name, skipped="out of time")
        elif on_bucket and not os.environ.get(_S3):
            yield Row(part=_PART, fault=name, skipped=f"{_S3} names no server")
        else:
            url = os.environ[_S3] if on_bucket else ""
            yield campaign(name, fault, scale, seed=options.seed, bucket_url=url)


def campaign(name: str, fault: Fault, scale: Scale, *, seed: int, bucket_url: str = "") -> Row:
    """Let events flow under a fault until all of them are archived, and count them.

    Args:
        name: Of the fault, for people.
        fault: Done while events flow.
        scale: How much.
        seed: Of every choice by chance.
        bucket_url: ``http://KEY:SECRET@host:port/bucket``; left out, the archive is a folder.
    """
    random = Random(seed)
    begun = time.monotonic()
    row = Row(part=_PART, fault=name)
    with ExitStack() as stack:
        folder = stack.enter_context(homes.temporary("faults-"))
        # Archivers reach the bucket through what fails; whoever counts does not.
        direct = _on_bucket(bucket_url) if bucket_url else {}
        store, archive = None, direct
        if direct:
            store = stack.enter_context(bucket(direct["ARCHIVE__ENDPOINT"], random))
            archive = {**direct, "ARCHIVE__ENDPOINT": store.endpoint}
        crowd = Crowd(folder, Path(os.environ["KAFKA_HOME"]), archive)
        stack.callback(crowd.clean_up)
        crowd.start()
        for number in range(ARCHIVERS):
            crowd.start_archiver(number)
        crowd.begin(events=scale.events, per_second=scale.per_second)
        try:
            row.times = fault(Scene(crowd=crowd, store=store, random=random, scale=scale))
            wait_until("producers end", _patience(scale), lambda: not crowd.are_producing())
            if store is not None:
                store.mood = Mood.WELL
            _judge(crowd, direct, scale, row)
        except (TimeoutError, ChildProcessError) as error:
            row.broken.append(str(error))
            sys.stderr.write(crowd.last_words())
    row.figures["seconds"] = round(time.monotonic() - begun)
    return row


def _judge(crowd: Crowd, direct: Mapping[str, str], scale: Scale, row: Row) -> None:
    """Wait until everything is archived, count it, and archive it once more."""
    settings = crowd.settings(direct)
    wait_until("the archive catches up", _patience(scale), archived.reach(settings))
    if any(crowd.end_archivers()):
        row.broken.append("an archiver did not end well")
    found = archived.read(settings)
    row.broken += archived.broken(_recorded(scale.events), found)
    again = {"ARCHIVE__KIND": "folder", "ARCHIVE__PATH": str(crowd.folder / "again")}
    crowd.start_archiver(ARCHIVERS, again)
    replayed = crowd.settings(again)
    wait_until("the replay catches up", _patience(scale), archived.reach(replayed))
    crowd.end_archivers()
    row.broken += archived.replays(settings, replayed)
    held = sum(len(names) for names in found.completions.values())
    row.figures = {
        "recorded": scale.events,
        "archived": held,
        "lost": max(0, scale.events - held),
        "doubled": archived.doubled(found),
        "out of order": archived.disordered(found),
        "repeats left out": found.entries - found.rows,
    }


def killed(scene: Scene) -> int:
    """SIGKILL an archiver now and then, and meanwhile the broker."""
    scale, crowd = scene.scale, scene.crowd
    pause = scale.events / scale.per_second / (scale.archiver_kills + 1)
    each = max(1, scale.archiver_kills // max(1, scale.broker_kills))
    for times in range(scale.archiver_kills):
        time.sleep(pause * scene.random.uniform(0.5, 1.0))
        number = scene.random.randrange(ARCHIVERS)
        crowd.kill_archiver(number)
        if times % each == each // 2:
            crowd.broker.kill()
            time.sleep(scene.random.uniform(0.5, 3.0))
            crowd.broker.start()
        crowd.start_archiver(number)
    return scale.archiver_kills + scale.broker_kills


def broker_away(scene: Scene) -> int:
    """Kill the broker, and start it only much later."""
    _meanwhile(scene)
    scene.crowd.broker.kill()
    time.sleep(scene.scale.away_seconds)
    scene.crowd.broker.start()
    return 1


def broker_frozen(scene: Scene) -> int:
    """Freeze the broker: its port is open, and nobody answers; then it goes on."""
    _meanwhile(scene)
    scene.crowd.broker.pause()
    time.sleep(scene.scale.away_seconds)
    scene.crowd.broker.resume()
    return 1


def archiver_frozen(scene: Scene) -> int:
    """Freeze an archiver until the other has its partitions; it wakes with half a file in hand."""
    times = 0
    for number in range(ARCHIVERS):
        _meanwhile(scene)
        scene.crowd.signal_archiver(number, signal.SIGSTOP)
        time.sleep(scene.scale.away_seconds)
        scene.crowd.signal_archiver(number, signal.SIGCONT)
        times += 1
    return times


def store_away(scene: Scene) -> int:
    """Let the object store hang up on everybody."""
    assert scene.store is not None  # noqa: S101  # there is one
    _meanwhile(scene)
    scene.store.mood = Mood.AWAY
    time.sleep(scene.scale.away_seconds)
    scene.store.mood = Mood.HALF
    return 1


def store_failing(scene: Scene) -> int:
    """Let half of all puts fail, half of those after they were stored."""
    assert scene.store is not None  # noqa: S101  # there is one
    scene.store.mood = Mood.HALF
    wait_until("producers end", _patience(scene.scale), lambda: not scene.crowd.are_producing())
    return scene.store.failed


def everything_at_once(scene: Scene) -> int:
    """All of the above within a minute: a sample, for CI."""
    scale, crowd = scene.scale, scene.crowd
    if scene.store is not None:
        scene.store.mood = Mood.HALF
    _meanwhile(scene)
    crowd.signal_archiver(0, signal.SIGSTOP)
    crowd.kill_archiver(1)
    crowd.broker.kill()
    time.sleep(1)
    crowd.broker.start()
    crowd.start_archiver(1)
    # Longer than a member of the group may be silent: the other has all partitions by now.
    time.sleep(scale.away_seconds)
    crowd.signal_archiver(0, signal.SIGCONT)
    if scene.store is not None:
        scene.store.mood = Mood.AWAY
    crowd.broker.pause()
    time.sleep(scale.away_seconds / 4)
    crowd.broker.resume()
    if scene.store is not None:
        scene.store.mood = Mood.HALF
    for _ in range(scale.archiver_kills):
        number = scene.random.randrange(ARCHIVERS)
        time.sleep(scene.random.uniform(0.5, 1.5))
        crowd.kill_archiver(number)
        crowd.start_archiver(number)
    return scale.archiver_kills + 6


def _patience(scale: Scale) -> float:
    return _PATIENCE_SECONDS + scale.events / _LEAST_PER_SECOND


def _meanwhile(scene: Scene) -> None:
    """Let some events flow first."""
    time.sleep(scene.random.uniform(3, 6))


def _recorded(events: int) -> set[str]:
    each = events // PRODUCERS
    return {
        f"chatcmpl-{number * EACH + count:024d}"
        for number in range(PRODUCERS)
        for count in range(each)
    }


def _on_bucket(url: str) -> dict[str, str]:
    """Return the settings of an archive in a server's bucket, under a prefix of its own."""
    parts = urlsplit(url)
    return {
        "ARCHIVE__KIND": "object",
        "ARCHIVE__URL": f"s3:/{parts.path.rstrip('/')}/{secrets.token_hex(8)}",
        "ARCHIVE__ENDPOINT": f"{parts.scheme}://{parts.hostname}:{parts.port}",
        "ARCHIVE__REGION": "us-east-1",
        "ARCHIVE__ACCESS_KEY": unquote(parts.username or ""),
        "ARCHIVE__SECRET_KEY": unquote(parts.password or ""),
    }
