"""Whoever keeps the child, where there is no good one."""

import sys
from collections.abc import Iterator

import pytest
from prometheus_client import Counter

from feedbackloop.errors import SettingsError
from feedbackloop.log.share import Share
from services import telemetry
from services.sidecar.keeper import Keeper
from tests.services.sidecar.forwarding import until


@pytest.fixture
def share() -> Iterator[Share]:
    """What a child would inherit of a spool."""
    made = Share()
    made.hold(lock=sys.stderr.fileno(), folder=sys.stderr.fileno())
    made.board.opened = 1
    yield made
    made.close()


REPORTS = """
import json, os, sys, time
for beat in range({times}):
    os.write(json.loads(sys.argv[1])["reports"], json.dumps({{"beats": {beats}}}).encode() + b"\\n")
    time.sleep(0.1)
"""
READY = "import json,os,sys; os.write(json.loads(sys.argv[1])['reports'], b'{}\\n')"


def a_keeper(share: Share, program: str, *, stuck_seconds: float = 60.0) -> Keeper:
    command = [sys.executable, "-c", program]
    return Keeper(share, "one", command=command, silent_seconds=0, stuck_seconds=stuck_seconds)


def restarts() -> float:
    return counted(telemetry.FORWARDER_RESTARTS)


def counted(counter: Counter) -> float:
    (family,) = counter.collect()
    return family.samples[0].value


async def test_a_child_that_cannot_live_keeps_nobody_from_answering(share: Share) -> None:
    """Its reason may pass, and what is recorded waits in the spool."""
    before = restarts()
    keeper = a_keeper(share, "raise SystemExit(1)")

    await keeper.start()
    await until(lambda: restarts() >= before + 2)

    keeper.kill()


@pytest.mark.parametrize("does", ["raise SystemExit(1)", f"{READY}; import time; time.sleep(600)"])
async def test_what_waits_while_no_child_is_heard_grows_old(share: Share, does: str) -> None:
    """It is the one alarm to have, and a child that is dead or stuck cannot give it."""
    keeper = a_keeper(share, does)
    await keeper.start()

    nothing = keeper.oldest_seconds()
    share.board.tail = 100
    something = keeper.oldest_seconds()

    assert (nothing, something > 0) == (0, True)
    keeper.kill()


@pytest.mark.parametrize("says", [READY, REPORTS.format(times=600, beats=7)])
async def test_a_child_that_stands_still_while_records_wait_is_followed_by_another(
    share: Share, says: str
) -> None:
    """It may say nothing any more, or go on saying the same: another thread of it reports."""
    stuck, before = counted(telemetry.FORWARDER_STUCK), restarts()
    keeper = a_keeper(share, f"{says}\nimport time; time.sleep(600)", stuck_seconds=0.5)
    share.board.tail = 100

    await keeper.start()
    await until(lambda: restarts() > before)

    assert counted(telemetry.FORWARDER_STUCK) > stuck
    keeper.kill()


@pytest.mark.parametrize(("beats", "tail", "seconds"), [("beat", 100, 3.0), ("7", 0, 0.5)])
async def test_a_child_that_goes_on_or_has_nothing_to_do_is_left_alone(
    share: Share, beats: str, tail: int, seconds: float
) -> None:
    """To try the log again is to go on, however long it is away."""
    stuck, before = counted(telemetry.FORWARDER_STUCK), restarts()
    lives = round(seconds * 10) + 8
    keeper = a_keeper(share, REPORTS.format(times=lives, beats=beats), stuck_seconds=seconds)
    share.board.tail = tail

    await keeper.start()
    await until(lambda: restarts() > before)

    assert counted(telemetry.FORWARDER_STUCK) == stuck
    keeper.kill()


@pytest.mark.parametrize("said", ["b'x' * 2**21", r"b'{\"counts\":[[\"REDACTED\",[],1]]}\n'"])
async def test_a_child_that_says_what_nobody_understands_is_followed_by_another(
    share: Share, said: str
) -> None:
    """It may be of a version that was installed meanwhile; what it forwards is as good."""
    before = restarts()
    says = "import json,os,sys; os.write(json.loads(sys.argv[1])['reports'], {})"
    keeper = a_keeper(share, says.format(said))

    await keeper.start()
    await until(lambda: restarts() >= before + 2)

    keeper.kill()


async def test_a_child_that_refuses_its_settings_at_the_start_ends_the_start(share: Share) -> None:
    """The operator is still there to mend them."""
    keeper = a_keeper(share, "raise SystemExit(2)")

    with pytest.raises(SettingsError, match="see above"):
        await keeper.start()


async def test_there_is_no_child_before_there_is_something_to_read(share: Share) -> None:
    """A disk that fails at the start keeps nobody from answering; settings are judged later."""
    share.board.opened = 0
    before = restarts()
    keeper = a_keeper(share, "raise SystemExit(2)")

    await keeper.start()
    born_early = keeper.pid
    share.board.opened = 1
    await until(lambda: restarts() > before)

    assert born_early is None
    assert keeper.pid is not None
    keeper.kill()


async def test_what_ends_before_its_disk_works_has_forwarded_nothing(share: Share) -> None:
    """Its exit says so: what it shed is declared after the next start."""
    share.board.opened = 0
    keeper = a_keeper(share, "raise SystemExit(0)")
    await keeper.start()

    drained = await keeper.stop(drain_seconds=10)

    assert not drained
    assert keeper.pid is None


async def test_a_child_that_is_done_at_the_end_is_not_followed_by_another(share: Share) -> None:
    """It says by its exit status whether everything was forwarded."""
    ends = "os.read(json.loads(sys.argv[1])['spool']['bell'], 1); raise SystemExit({})"
    found = []
    for status in (3, 0):
        keeper = a_keeper(share, f"{READY}; {ends.format(status)}")
        await keeper.start()
        found.append(await keeper.stop(drain_seconds=10))

    assert found == [False, True]
