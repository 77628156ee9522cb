"""A sidecar brings its vLLM in line with the release document, whatever happens meanwhile."""

from collections import Counter
from pathlib import Path

import pytest

from feedbackloop.errors import AdapterRejected
from feedbackloop.events import BASE, Alias, ReleaseName
from feedbackloop.log.memory import MemoryReleaseTopic
from feedbackloop.promotion import changes
from feedbackloop.promotion.changes import Change
from feedbackloop.promotion.release import Probe, ReleaseDocument, encode
from feedbackloop.serving.memory import MemoryPolicyServer
from feedbackloop.serving.routing import RouteTable
from services.sidecar.converger import Converger, Terms
from tests.builders import ALIAS

PROBE = Probe(
    prompt=({"role": "user", "content": "hi"},), completion="ho", logp=-1, base_logp=-9, tokens=2
)


class FakeRouter:
    """Holds the routes, and counts what the test says is in flight."""

    def __init__(self) -> None:
        self.table: RouteTable = {}
        self.flying: Counter[ReleaseName] = Counter()

    def set(self, table: RouteTable) -> None:
        self.table = table

    def in_flight(self, release: ReleaseName) -> int:
        return self.flying[release]

    def stable(self) -> ReleaseName:
        return self.table[ALIAS].stable.release


class FakeAdapters:
    """Every digest has a folder, but for those that were changed."""

    def __init__(self) -> None:
        self.changed: set[str] = set()

    def put(self, folder: Path) -> str:
        raise AdapterRejected(str(folder), "not here")

    def path(self, digest: str) -> Path:
        if digest in self.changed:
            raise AdapterRejected(digest, "was changed")
        return Path("/adapters") / digest

    def digests(self) -> list[str]:
        return []

    def collect(self, digest: str) -> None:
        pass


class Pod:
    """One sidecar with its server, and the leader's pen."""

    def __init__(self, folder: Path) -> None:
        self.server = MemoryPolicyServer()
        self.server.logps[("base", "ho")] = -9
        self.topic = MemoryReleaseTopic()
        self.adapters = FakeAdapters()
        self.router = FakeRouter()
        self.document = ReleaseDocument(alias=ALIAS)
        self.folder = folder
        self.converger = self.restarted()

    def restarted(self) -> Converger:
        """Make the converger anew, as a new process would."""
        return Converger(
            Terms(
                capacity=3,
                tolerance=0.1,
                converge_seconds=1,
                reprove_seconds=300,
            ),
            topic=self.topic,
            server=self.server,
            adapters=self.adapters,
            router=self.router,
            bases={ALIAS: "base"},
            kept=self.folder / "documents.jsonl",
        )

    async def decide(self, change: Change) -> ReleaseDocument:
        """Publish a change."""
        assert isinstance(change, ReleaseDocument), change
        self.document = change
        await self.topic.publish(ALIAS, encode(change), epoch=change.epoch)
        return change

    async def stage(self, digit: str) -> ReleaseName:
        """Stage the adapter with a digest of one digit, which does what the gate saw."""
        release = changes.next_release(self.document, digest=digit * 64, probes=[PROBE])
        self.server.logps[(release.name, "ho")] = -1
        await self.decide(changes.stage(self.document, release, salt="s", by="test"))
        return release.name

    async def promote(self, digit: str) -> ReleaseName:
        """Stage, prove and promote."""
        name = await self.stage(digit)
        await self.converger.converge()
        await self.decide(changes.promote(self.document, by="test"))
        await self.converger.converge()
        return name

    def state(self, name: str) -> str:
        report = self.converger.report()[ALIAS]["releases"]
        return str(report[name]["state"])


async def rolled_back_by_hand(pod: Pod) -> tuple[ReleaseName, ReleaseName]:
    """Promote two releases; roll the second one back on this sidecar alone."""
    first, second = await pod.promote("1"), await pod.promote("2")
    back = changes.rollback(pod.document, by="somebody at night")
    assert isinstance(back, ReleaseDocument)
    assert await pod.converger.accept(back) is None
    await pod.converger.converge()
    return first, second


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


async def test_before_any_document_the_base_answers(pod: Pod) -> None:
    """A sidecar serves from its first minute."""
    await pod.converger.converge()

    assert pod.router.stable() == BASE
    assert pod.converger.unready() == []


async def test_a_staged_release_is_loaded_and_proven_and_gets_no_traffic(pod: Pod) -> None:
    """Nobody meets what a replica has not proven."""
    name = await pod.stage("1")

    await pod.converger.converge()

    assert pod.state(name) == "proven"
    assert pod.router.table[ALIAS].canary is None


async def test_a_share_opens_the_canary_and_promotion_makes_it_stable(pod: Pod) -> None:
    """The way of a good release."""
    name = await pod.stage("1")
    await pod.converger.converge()
    await pod.decide(changes.widen(pod.document, share=0.25, by="test"))
    await pod.converger.converge()
    opened = pod.router.table[ALIAS]

    await pod.decide(changes.promote(pod.document, by="test"))
    await pod.converger.converge()

    assert opened.canary is not None
    assert (opened.canary.release, opened.canary_share) == (name, 0.25)
    assert pod.router.stable() == name


async def test_an_adapter_that_does_nothing_is_never_routed_to(pod: Pod) -> None:
    """vLLM would answer with the base, and the round would be counted as a success."""
    name = await pod.stage("1")
    pod.server.logps[(name, "ho")] = -9

    await pod.converger.converge()

    assert pod.state(name) == "failed"
    assert pod.router.stable() == BASE


async def test_bytes_that_are_not_the_digests_never_reach_the_server(pod: Pod) -> None:
    """What passed the gate is what is served, or nothing is."""
    pod.adapters.changed.add("1" * 64)
    name = await pod.stage("1")

    await pod.converger.converge()

    assert pod.state(name) == "failed"
    assert pod.server.calls == []


async def test_a_restarted_vllm_gets_its_releases_back(pod: Pod) -> None:
    """It forgets everything; nobody has to notice but us."""
    name = await pod.promote("1")

    pod.server.restart()
    await pod.converger.converge()

    assert name in await pod.server.loaded()
    assert pod.router.stable() == name


async def test_while_a_restarted_vllm_has_nothing_proven_the_base_answers(pod: Pod) -> None:
    """An answer by the base is better than none, and the record says whose it is."""
    name = await pod.promote("1")
    pod.server.restart()
    pod.server.logps[(name, "ho")] = -9

    await pod.converger.converge()

    assert pod.router.stable() == BASE
    assert name in pod.converger.unready()[0]


async def test_a_rollback_needs_no_load(pod: Pod) -> None:
    """The previous release is still there: that is what makes it fast."""
    first = await pod.promote("1")
    await pod.promote("2")
    before = list(pod.server.calls)

    await pod.decide(changes.rollback(pod.document, by="test"))
    await pod.converger.converge()

    assert pod.router.stable() == first
    assert [call for call in pod.server.calls[len(before) :] if call[0] == "load"] == []


async def test_nothing_is_unloaded_under_a_running_request(pod: Pod) -> None:
    """A long stream finishes on the release that it began with."""
    old = await pod.promote("1")
    pod.router.flying[old] = 1
    await pod.promote("2")
    await pod.promote("3")

    assert old in await pod.server.loaded()
    pod.router.flying[old] = 0
    await pod.converger.converge()

    assert old not in await pod.server.loaded()


async def test_the_last_documents_survive_everything_else(pod: Pod) -> None:
    """Log, database and scheduler may be away when a pod starts."""
    name = await pod.promote("1")
    pod.topic.store.clear()

    again = pod.restarted()
    await again.converge()

    assert pod.router.stable() == name


async def test_an_older_document_never_wins(pod: Pod) -> None:
    """A topic that was restored from a backup must not take the fleet back."""
    old = pod.document
    name = await pod.promote("1")
    pod.topic.store[Alias(ALIAS)] = (99, encode(old))

    await pod.converger.converge()

    assert pod.router.stable() == name


async def test_a_server_that_is_away_is_reported_and_waited_for(pod: Pod) -> None:
    """Readiness says why."""
    pod.server.away = True
    await pod.converger.converge()
    away = pod.converger.unready()

    pod.server.away = False
    await pod.converger.converge()

    assert away == ["away"]
    assert pod.converger.unready() == []


async def test_a_document_by_hand_is_followed_without_the_log(pod: Pod) -> None:
    """Log, database and scheduler are away, and what answers is harmful."""
    first, second = await rolled_back_by_hand(pod)

    assert pod.router.stable() == first
    assert second not in {routes.stable.release for routes in pod.router.table.values()}


async def test_a_rollback_by_hand_needs_no_disk(pod: Pod) -> None:
    """It is the way back when all else is away, and a full disk is one of the reasons."""
    first = await pod.promote("1")
    await pod.promote("2")
    for name in ("documents.tmp", "documents.by-hand.tmp"):
        (pod.folder / name).mkdir()
    back = changes.rollback(pod.document, by="somebody at night")
    assert isinstance(back, ReleaseDocument)

    refused = await pod.converger.accept(back)
    await pod.converger.converge()

    assert (refused, pod.router.stable()) == (None, first)


@pytest.mark.parametrize("raw", [b"{", b"\xff", b'{"alias":"other","epoch":"new"}'])
async def test_a_document_that_cannot_be_read_holds_up_no_other(pod: Pod, raw: bytes) -> None:
    """A scheduler is upgraded before the sidecars, one alias at a time."""
    name = await pod.stage("1")
    await pod.topic.publish(Alias("other"), raw, epoch=1)

    await pod.converger.converge()

    assert pod.state(name) == "proven"


async def test_a_document_by_hand_must_be_newer(pod: Pod) -> None:
    """A signed document that somebody kept must not turn the clock back."""
    await pod.promote("1")
    old = pod.document
    await pod.promote("2")

    refused = await pod.converger.accept(old)

    assert refused is not None
    assert str(pod.document.epoch) in refused
    assert pod.router.stable() == pod.document.stable.name


async def test_an_alias_that_is_not_here_is_refused(pod: Pod) -> None:
    """A typing error in the dark."""
    refused = await pod.converger.accept(ReleaseDocument(alias=Alias("nobodys"), epoch=9))

    assert refused == "there is no alias nobodys here"


async def test_what_was_rolled_back_by_hand_stays_out_whatever_the_log_says(pod: Pod) -> None:
    """The scheduler comes back, knows nothing of the night, and widens what did harm."""
    first, second = await rolled_back_by_hand(pod)

    for _ in range(3):
        await pod.decide(changes.freeze(pod.document, by="scheduler"))
        await pod.converger.converge()
        await pod.decide(changes.unfreeze(pod.document, by="scheduler"))
        await pod.converger.converge()

    assert pod.document.stable.name == second
    assert pod.router.stable() == first
    assert pod.state(second) == "failed"
    assert "by hand" in pod.converger.report()[ALIAS]["releases"][second]["reason"]


async def test_what_was_rolled_back_by_hand_stays_out_over_a_restart(pod: Pod) -> None:
    """Kubernetes moves the pod in the same night."""
    first, _ = await rolled_back_by_hand(pod)
    await pod.decide(changes.freeze(pod.document, by="scheduler"))

    pod.converger = pod.restarted()
    await pod.converger.converge()

    assert pod.router.stable() == first


async def test_a_published_rollback_takes_over_from_the_one_by_hand(pod: Pod) -> None:
    """In the morning the operator tells the scheduler too: everything is as if it had known."""
    first, _ = await rolled_back_by_hand(pod)

    await pod.decide(changes.rollback(pod.document, by="operator", why="told at last"))
    await pod.converger.converge()
    third = await pod.promote("3")

    assert pod.converger.documents() == [pod.document]
    assert pod.router.stable() == third
    assert first != third
