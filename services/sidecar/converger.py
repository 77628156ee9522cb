"""Keep this pod's vLLM in line with the release documents, and the routes in line with vLLM.

It works from the last documents that it saw, which it also keeps on disk: the log, the database
and the scheduler may all be away.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.errors import AdapterRejected, LogUnavailable, PolicyServerUnavailable
from feedbackloop.events import BASE, Alias, JsonObject, ReleaseName
from feedbackloop.log.port import ReleaseTopic
from feedbackloop.promotion.port import Adapters
from feedbackloop.promotion.release import Release, ReleaseDocument, decode, encode
from feedbackloop.serving import convergence
from feedbackloop.serving.convergence import Load, Observed, Prove, Step, Unload
from feedbackloop.serving.port import PolicyServer
from feedbackloop.serving.proof import Measured, prove
from feedbackloop.serving.routing import RouteTable
from services import telemetry
from services.sidecar.by_hand import ByHand
from services.tallies import REPLIES

log = structlog.get_logger()


class Routing(Protocol):
    """What the converger needs of the router."""

    @property
    def table(self) -> RouteTable:
        """The routes in force."""
        ...

    def set(self, table: RouteTable) -> None:
        """Replace the routes in one step."""
        ...

    def in_flight(self, release: ReleaseName) -> int:
        """Count the requests that a release is answering."""
        ...


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a sidecar converges.

    Attributes:
        capacity: How many adapters may be loaded at once.
        tolerance: Largest difference from the gate's record, in nats per token.
        converge_seconds: How often it looks.
        reprove_seconds: How often what serves is proven again.
    """

    capacity: int
    tolerance: float
    converge_seconds: float
    reprove_seconds: float


class Converger:
    """One sidecar's.

    Args:
        topic: Where documents are published.
        server: The vLLM behind this sidecar.
        adapters: Where release folders lie; every use verifies their bytes.
        router: Gets the routes.
        bases: Model name of each alias' base.
        kept: File of the last documents.
        clock: Seconds that only grow.
    """

    def __init__(  # noqa: PLR0913  # one for each thing outside
        self,
        terms: Terms,
        *,
        topic: ReleaseTopic,
        server: PolicyServer,
        adapters: Adapters,
        router: Routing,
        bases: Mapping[Alias, str],
        kept: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terms = terms
        self._topic = topic
        self._server = server
        self._adapters = adapters
        self._router = router
        self._bases = dict(bases)
        self._kept = kept
        self._clock = clock
        self._by_hand = ByHand(kept.with_name(f"{kept.stem}.by-hand.jsonl"))
        self._documents = self._read_kept()
        self._proven: dict[ReleaseName, float] = {}
        self._failed: dict[ReleaseName, str] = {}
        self._loaded: frozenset[ReleaseName] = frozenset()
        self._unreadable: dict[Alias, bytes] = {}
        self._started_at: float | None = None
        self._trouble: str | None = "vLLM has not answered yet"

    async def run(self) -> None:
        """Converge for ever; nothing that goes wrong ends it."""
        while True:
            try:
                await self.converge()
            except Exception:  # the outermost loop: the next look tries again
                telemetry.CONVERGE_ERRORS.labels("unexpected").inc()
                log.exception("converging_failed")
            await asyncio.sleep(self._terms.converge_seconds)

    async def converge(self) -> None:
        """Look once, and take every step that is safe now."""
        await self._read_documents()
        try:
            await self._notice_restart()
            self._heed_bans()
            self._loaded = frozenset(await self._server.loaded())
            self._route()
            for step in self._steps():
                await self._take(step)
            self._route()
            self._trouble = None
        except PolicyServerUnavailable as error:
            self._trouble = str(error)
            telemetry.CONVERGE_ERRORS.labels("policy_server").inc()
            log.warning("policy_server_unavailable", error=str(error))

    def documents(self) -> Sequence[ReleaseDocument]:
        """Return the documents in force, by alias."""
        return self._documents

    async def accept(self, document: ReleaseDocument) -> str | None:
        """Follow a document that did not come by the log; return why not, if it is refused."""
        if document.alias not in self._bases:
            return f"there is no alias {document.alias} here"
        known = {one.alias: one for one in self._documents}
        before = known.get(document.alias)
        if before is not None and document.epoch <= before.epoch:
            return f"epoch {before.epoch} is in force: expected a newer one"
        known[document.alias] = document
        self._documents = [known[alias] for alias in sorted(known)]
        self._failed.clear()
        await _on_disk(partial(self._by_hand.take, document))
        await _on_disk(self._keep)
        log.warning(
            "release_changed_by_hand",
            alias=document.alias,
            epoch=document.epoch,
            by=document.by,
            why=document.why,
        )
        return None

    def on_lost(self, release: ReleaseName) -> None:
        """Be told that vLLM does not have a release that was routed to: it must have restarted."""
        self._proven.pop(release, None)

    def report(self) -> JsonObject:
        """Return, by alias, the epoch, what answers, and each release's state."""
        table = self._router.table
        observed, routed = self._observed(), convergence.routed(table)
        epochs = {document.alias: document for document in self._documents}
        aliases: JsonObject = {}
        for alias, routes in table.items():
            document = epochs.get(alias)
            names = {routes.stable.release}
            if document is not None:
                names |= {release.name for release in convergence.wanted([document])}
            aliases[alias] = {
                "epoch": routes.epoch,
                "stable": routes.stable.release,
                "canary": routes.canary.release if routes.canary is not None else None,
                "canary_share": routes.canary_share,
                "releases": {
                    name: {
                        "state": convergence.state(name, observed, routed),
                        "in_flight": self._router.in_flight(name),
                        "reason": self._failed.get(name),
                    }
                    for name in sorted(names)
                },
            }
        return aliases

    def unready(self) -> Sequence[str]:
        """Say in words what keeps this sidecar from serving as wanted; empty if nothing does."""
        problems = [] if self._trouble is None else [self._trouble]
        for document in self._documents:
            routes = self._router.table.get(document.alias)
            if routes is not None and routes.stable.release != document.stable.name:
                problems.append(f"{document.stable.name} is wanted and not proven here")
        return problems

    def _steps(self) -> list[Step]:
        routed = convergence.routed(self._router.table)
        return convergence.next_steps(self._documents, self._observed(), routed)

    def _observed(self) -> Observed:
        now = self._clock()
        fresh = {
            name
            for name, proven_at in self._proven.items()
            if now - proven_at <= self._terms.reprove_seconds
        }
        return Observed(
            loaded=self._loaded,
            proven=fresh,
            failed=set(self._failed),
            in_flight={name: self._router.in_flight(name) for name in self._loaded},
            capacity=self._terms.capacity,
        )

    def _route(self) -> None:
        # A proof that has grown old is taken again, but does not stop what serves meanwhile.
        servable = self._loaded & set(self._proven)
        table = convergence.routes(
            self._documents, servable=servable, bases=self._bases, before=self._router.table
        )
        self._router.set(table)
        for alias, routes in table.items():
            telemetry.EPOCH.labels(alias=alias).set(routes.epoch)

    async def _take(self, step: Step) -> None:
        match step:
            case Unload(name):
                await self._server.unload(name)
                self._loaded -= {name}
                self._proven.pop(name, None)
                REPLIES.forget(name)
                telemetry.ADAPTER_STEPS.labels("unloaded").inc()
                log.info("release_unloaded", release=name)
            case Load(release):
                await self._load(release)
            case Prove(release):
                await self._prove(release)

    async def _load(self, release: Release) -> None:
        try:
            folder = await asyncio.to_thread(self._adapters.path, release.digest)
            await self._server.load(release.name, folder)
        except AdapterRejected as error:
            self._fail(release, str(error))
            return
        self._loaded |= {release.name}
        telemetry.ADAPTER_STEPS.labels("loaded").inc()
        log.info("release_loaded", release=release.name)

    async def _prove(self, release: Release) -> None:
        if release.name not in self._loaded:
            return
        base = next(iter(await self._server.bases()), BASE)
        measured = []
        try:
            for probe in release.probes:
                score = self._server.score
                args = (probe.prompt, probe.completion)
                measured.append(
                    Measured(
                        probe=probe,
                        logp=await score(release.name, *args, tokens=probe.tokens),
                        base_logp=await score(base, *args, tokens=probe.tokens),
                    )
                )
        except AdapterRejected as error:
            self._fail(release, str(error))
            return
        proof = prove(measured, tolerance=self._terms.tolerance)
        if not proof.proven:
            self._fail(release, proof.reason)
            return
        telemetry.ADAPTER_STEPS.labels("proven").inc()
        if release.name not in self._proven:
            log.info("release_proven", release=release.name, proof=proof.reason)
        self._proven[release.name] = self._clock()

    def _fail(self, release: Release, reason: str) -> None:
        self._failed[release.name] = reason
        self._proven.pop(release.name, None)
        telemetry.ADAPTER_STEPS.labels("failed").inc()
        log.error("release_failed", release=release.name, reason=reason)

    async def _notice_restart(self) -> None:
        """Forget what was proven on a server that is gone."""
        started_at = await self._server.started_at()
        if self._started_at is not None and started_at != self._started_at:
            log.warning("policy_server_restarted")
        if started_at != self._started_at:
            self._proven.clear()
            self._failed.clear()
        self._started_at = started_at

    async def _read_documents(self) -> None:
        """Take over what is newer; a lower epoch never wins."""
        try:
            published = await self._topic.latest()
        except LogUnavailable as error:
            log.warning("release_topic_unavailable", error=str(error))
            return
        known = {document.alias: document for document in self._documents}
        changed = False
        for alias, raw in published.items():
            document = self._read(alias, raw)
            if document is None:
                continue
            before = known.get(alias)
            await _on_disk(partial(self._by_hand.agree, document))
            if before is None or self._outranks(document, before):
                known[alias] = document
                changed = True
        if changed:
            self._failed.clear()
            self._documents = [known[alias] for alias in sorted(known)]
            await _on_disk(self._keep)

    def _read(self, alias: Alias, raw: bytes) -> ReleaseDocument | None:
        """Read what was published; None if a newer version wrote it: the one before is in force."""
        try:
            document = decode(raw)
        except UNREADABLE as error:
            telemetry.CONVERGE_ERRORS.labels("document").inc()
            if self._unreadable.get(alias) != raw:
                log.error("release_document_not_read", alias=alias, error=str(error))  # noqa: TRY400  # its message says it all
            self._unreadable[alias] = raw
            return None
        self._unreadable.pop(alias, None)
        return document

    def _outranks(self, published: ReleaseDocument, before: ReleaseDocument) -> bool:
        """Say whether a published document follows; at one epoch it does if ours is by hand."""
        if published.epoch != before.epoch:
            return published.epoch > before.epoch
        return published != before and self._by_hand.documents.get(before.alias) == before

    def _heed_bans(self) -> None:
        """Keep out of service what was rolled back by hand, though a document still wants it."""
        for document in self._documents:
            for release in convergence.wanted([document]):
                if release.name not in self._failed and self._by_hand.bans(document.alias, release):
                    self._fail(release, "it was rolled back by hand")

    def _keep(self) -> None:
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._kept.with_suffix(".tmp")
        unfinished.write_bytes(b"\n".join(encode(document) for document in self._documents))
        unfinished.replace(self._kept)

    def _read_kept(self) -> list[ReleaseDocument]:
        try:
            return [decode(line) for line in self._kept.read_bytes().splitlines() if line]
        except FileNotFoundError:
            return []
        except UNREADABLE as error:
            log.warning("kept_documents_unreadable", error=str(error))
            return []


async def _on_disk(write: Callable[[], None]) -> None:
    """Write down what a restart has to know; what is served now does not wait for a disk."""
    try:
        await asyncio.to_thread(write)
    except OSError as error:
        telemetry.CONVERGE_ERRORS.labels("disk").inc()
        log.error("releases_not_kept", error=str(error))  # noqa: TRY400  # its message says it all
