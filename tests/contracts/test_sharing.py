"""What any way of sharing partitions between archivers promises."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from kafka import TopicPartition

from feedbackloop.errors import LogUnavailable
from feedbackloop.log.filesystem import LockSharing
from feedbackloop.log.kafka_client import Cluster, admin
from feedbackloop.log.kafka_sharing import GroupSharing
from feedbackloop.log.memory import MemoryEventLog
from feedbackloop.log.port import Offset
from feedbackloop.log.sharing import Sharing
from tests.contracts.logs import create_events
from tests.mock_kafka import API_VERSION, MockCluster

PARTITIONS = [f"events-{number}" for number in range(4)]
Join = Callable[[], Sharing]
Make = Callable[[pytest.FixtureRequest], Join]


def _locks(request: pytest.FixtureRequest) -> Join:
    folder: Path = request.getfixturevalue("tmp_path")
    log = MemoryEventLog(None, {name: [] for name in PARTITIONS})
    return lambda: LockSharing(folder, log)


def _kafka(request: pytest.FixtureRequest) -> Join:
    cluster, topic = (request.getfixturevalue(name) for name in ("kafka_cluster", "kafka_topic"))
    create_events(cluster, topic, partitions=len(PARTITIONS))
    return lambda: GroupSharing(cluster, topic, group=topic)


LOCKS = pytest.param(_locks, id="locks")
KAFKA = pytest.param(_kafka, id="kafka", marks=pytest.mark.kafka)


# Not the mock cluster: it takes half a minute to share partitions, or refuses to.
@pytest.fixture(params=[LOCKS, KAFKA])
async def join(request: pytest.FixtureRequest) -> AsyncIterator[Join]:
    """Let one more archiver take part; all leave at the end."""
    make: Make = request.param
    joined = make(request)
    async with AsyncExitStack() as stack:

        def one_more() -> Sharing:
            sharing = joined()
            stack.push_async_callback(sharing.close)
            return sharing

        yield one_more


async def settled(*members: Sharing) -> list[Sequence[str]]:
    """Let them take turns until every partition is somebody's; return what each has."""
    while True:
        shares = [await one.mine() for one in members]
        if sorted(name for share in shares for name in share) == PARTITIONS:
            return shares
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("make", [LOCKS, KAFKA])
async def test_whoever_is_alone_takes_care_of_everything(
    request: pytest.FixtureRequest, make: Make
) -> None:
    """One archiver needs no other; and a shutdown that is interrupted begins again."""
    alone = make(request)()

    (share,) = await settled(alone)

    assert share == PARTITIONS
    await alone.close()
    await alone.close()


async def test_of_two_each_partition_is_one_s(join: Join) -> None:
    """Nothing breaks if it is both's, but all the work would be done twice."""
    one, other = join(), join()

    shares = await settled(one, other)

    assert not set(shares[0]) & set(shares[1])


async def test_what_one_leaves_goes_to_the_other(join: Join) -> None:
    """A deployment replaces one archiver after another."""
    one, other = join(), join()
    await settled(one, other)

    await one.close()

    assert await settled(other) == [PARTITIONS]


@pytest.mark.kafka
async def test_a_group_gives_half_to_whoever_comes_later(
    kafka_cluster: Cluster, kafka_topic: str
) -> None:
    """More archivers are more hands: one more pod, and the lag shrinks."""
    create_events(kafka_cluster, kafka_topic, partitions=len(PARTITIONS))
    one, other = (GroupSharing(kafka_cluster, kafka_topic, group=kafka_topic) for _ in range(2))
    await settled(one)

    while not await other.mine():  # noqa: ASYNC110  # the broker's progress
        await asyncio.sleep(0.02)
    shares = await settled(one, other)

    assert [len(share) for share in shares] == [2, 2]
    for member in (one, other):
        await member.close()


@pytest.mark.kafka
async def test_how_far_is_archived_is_what_the_group_has_committed(
    kafka_cluster: Cluster, kafka_topic: str
) -> None:
    """Every tool that shows the lag of consumer groups shows that of the archive."""
    create_events(kafka_cluster, kafka_topic, partitions=len(PARTITIONS))
    sharing = GroupSharing(kafka_cluster, kafka_topic, group=kafka_topic)
    await settled(sharing)

    await sharing.reached(Offset("events-2", 41))
    await sharing.close()

    with admin(kafka_cluster) as client:
        committed = client.list_group_offsets(kafka_topic)[kafka_topic]
    place = TopicPartition(kafka_topic, 2)
    assert {where: one.offset for where, one in committed.items()} == {place: 42}


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.usefixtures("lost_sockets")
async def test_a_group_whose_brokers_go_can_be_left(kafka_topic: str) -> None:
    """Telling how far it has come never fails: only a dashboard would miss it."""
    mock = MockCluster(brokers=1)
    mock.share_at_once()
    mock.create_topic(kafka_topic, len(PARTITIONS))
    cluster = Cluster(
        bootstrap_servers=mock.bootstrap_servers, client_id="tests", api_version=API_VERSION
    )
    sharing = GroupSharing(cluster, kafka_topic, group="g")
    await settled(sharing)
    mock.set_down(1)

    await sharing.reached(Offset("events-0", 7))
    await sharing.close()

    mock.close()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.usefixtures("lost_sockets")
async def test_a_group_that_nobody_answers_for_says_so() -> None:
    """An archiver without Kafka names the setting, and asks again."""
    cluster = Cluster(bootstrap_servers="127.0.0.1:1", client_id="tests", bootstrap_seconds=0.5)
    sharing = GroupSharing(cluster, "topic", group="g")

    with pytest.raises(LogUnavailable) as caught:
        await sharing.mine()

    assert caught.value.reason == "unreachable"
    assert "check bootstrap_servers" in str(caught.value)
    await sharing.close()
