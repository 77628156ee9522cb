"""Whether this sidecar may be sent traffic, and if not, why."""

import asyncio
from collections.abc import Sequence

import msgspec
import structlog

from feedbackloop.capture.fields import UNREADABLE
from feedbackloop.errors import RequestError
from feedbackloop.events import Alias
from feedbackloop.promotion.release import ReleaseDocument
from services.guard import DENIED
from services.sidecar.router import Convergence, Router
from services.sidecar.upstream import Upstream

log = structlog.get_logger()

_OK = 200
_NOT_FOUND = 404


class _Model(msgspec.Struct):
    id: str
    parent: str | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


_models = msgspec.json.Decoder(_Models)


class Readiness:
    """What was last seen of vLLM, and whether we are on our way out.

    Attributes:
        draining: Set once no more traffic is wanted.
        guarded: Whether the guard in front of vLLM must be proven.
    """

    def __init__(self, convergence: Convergence, *, guarded: bool) -> None:
        self.draining = False
        self.guarded = guarded
        self._convergence = convergence
        self._upstream: str | None = "vLLM was not reached yet"
        self._open: tuple[str, ...] | None = None

    def reasons(self) -> Sequence[str]:
        """Say what keeps us from being ready; empty if nothing does."""
        found = ["draining"] if self.draining else []
        if self._upstream is not None:
            found.append(self._upstream)
        elif self.guarded and self._open is None:
            found.append("the guard in front of vLLM is not proven yet")
        elif self.guarded and self._open:
            found.append(
                f"vLLM answers {', '.join(self._open)}: "
                "start it with --middleware services.guard.Guard"
            )
        return [*found, *self._convergence.unready()]

    def notes(self) -> Sequence[str]:
        """Say what an operator should know and traffic need not."""
        if self.guarded:
            return []
        return ["upstream_guard is off: adapters are never loaded, and vLLM's routes not checked"]

    async def look(self, server: Upstream) -> None:
        """Ask vLLM how it is; prove the guard anew whenever vLLM was away."""
        before = self._upstream
        try:
            answer = await server.get("/health" if self.guarded else "/v1/models")
            healthy = answer.status == _OK
            self._upstream = None if healthy else f"vLLM's health is {answer.status}"
            if self.guarded and (self._open is None or before is not None):
                self._open = await _answered(server)
        except RequestError as error:
            self._upstream, self._open = error.message, None
        if self._upstream != before:
            log.info("upstream_changed", ready=self._upstream is None, reason=self._upstream)


async def _answered(server: Upstream) -> tuple[str, ...]:
    """List what vLLM answers and must not."""
    probes = [(path, await server.probe(path)) for path in DENIED]
    return tuple(path for path, answer in probes if answer.status != _NOT_FOUND)


async def mirror_models(server: Upstream, router: Router) -> None:
    """Make every base that the upstream lists an alias of itself."""
    try:
        answer = await server.get("/v1/models")
        if answer.status == _OK:
            # What has a parent is an adapter: a release, which no client names.
            listed = [one.id for one in _models.decode(answer.body).data if one.parent is None]
            router.set_bases({Alias(name): name for name in listed})
    except (RequestError, *UNREADABLE) as error:
        log.debug("models_not_listed", reason=str(error))


class Unmanaged:
    """Stands in for the converger where vLLM's adapters are not ours to touch."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def report(self) -> dict[str, object]:
        return {
            alias: {
                "epoch": routes.epoch,
                "stable": routes.stable.release,
                "canary": None,
                "canary_share": 0.0,
                "releases": {
                    routes.stable.release: {
                        "state": "serving",
                        "in_flight": self._router.in_flight(routes.stable.release),
                        "reason": None,
                    }
                },
            }
            for alias, routes in self._router.table.items()
        }

    def documents(self) -> Sequence[ReleaseDocument]:
        return []

    async def accept(self, document: ReleaseDocument) -> str | None:
        return f"adapters are never touched here, and so nothing of {document.alias} can change"

    def unready(self) -> Sequence[str]:
        return [] if self._router.table else ["the upstream lists no model yet"]


async def watch(
    readiness: Readiness, server: Upstream, router: Router, *, mirror: bool, seconds: float
) -> None:
    """Look at vLLM again and again, for ever."""
    while True:
        await readiness.look(server)
        if mirror:
            await mirror_models(server, router)
        await asyncio.sleep(max(seconds, 0.1))
