"""Which release answers a request, and how many requests each release is answering."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from feedbackloop.events import BASE, Alias, Arm, ConversationId, JsonObject, ReleaseName
from feedbackloop.promotion.release import ReleaseDocument
from feedbackloop.serving.routing import Pick, Routes, RouteTable, Served, route

_REMEMBERED = 100_000


class Convergence(Protocol):
    """What the admin routes ask of whatever keeps vLLM in line with the release document."""

    def report(self) -> JsonObject:
        """Return, by alias, the epoch, what answers, and each release's state."""
        ...

    def unready(self) -> Sequence[str]:
        """Say in words what keeps this sidecar from serving as wanted; empty if nothing does."""
        ...

    def documents(self) -> Sequence[ReleaseDocument]:
        """Return the release documents in force, by alias."""
        ...

    async def accept(self, document: ReleaseDocument) -> str | None:
        """Follow a document that did not come by the log; return why not, if it is refused."""
        ...


class Ticket:
    """One request's place in the count of the release that answers it.

    The place is given up exactly once, by ``leave``.

    Attributes:
        pick: What the request was assigned to.
        served: What answers it: as assigned, until ``move``.
    """

    def __init__(self, in_flight: Counter[ReleaseName], pick: Pick) -> None:
        self._in_flight = in_flight
        self.pick = pick
        self.served = pick.served
        self._left = False
        in_flight[pick.served.release] += 1

    def move(self, served: Served) -> None:
        """Let another release answer."""
        self._in_flight[served.release] += 1
        self._give_up()
        self.served = served

    def leave(self) -> None:
        """Give the place up. Safe to call twice."""
        if not self._left:
            self._left = True
            self._give_up()

    def _give_up(self) -> None:
        release = self.served.release
        self._in_flight[release] -= 1
        if not self._in_flight[release]:
            del self._in_flight[release]


class _Remembered(msgspec.Struct, frozen=True, gc=False):
    """What a conversation began with."""

    release: ReleaseName
    arm: Arm
    propensity: float


class Router:
    """The routes in force, and who is under way on them.

    Used by one event loop only, so that a look-up and its count are one step.
    A conversation stays on the release that it began with for as long as it is remembered and
    that release still answers for its alias.
    """

    def __init__(
        self,
        bases: Mapping[Alias, str],
        *,
        remembered: int = _REMEMBERED,
        on_lost: Callable[[ReleaseName], None] = lambda _: None,
    ) -> None:
        """Begin with every alias on its base.

        Args:
            bases: For each alias, the model name that the upstream serves as its base.
            remembered: How many conversations are kept in mind.
            on_lost: Called when the upstream turns out not to have a release.
        """
        self.on_lost = on_lost
        self._limit = remembered
        self._conversations: OrderedDict[tuple[Alias, str], _Remembered] = OrderedDict()
        self._in_flight: Counter[ReleaseName] = Counter()
        self._bases: dict[Alias, Served] = {}
        self._table: RouteTable = {}
        self.set_bases(bases)

    def set_bases(self, bases: Mapping[Alias, str]) -> None:
        """Replace the aliases by these; one that has routes already keeps them."""
        self._bases = {
            alias: Served(release=BASE, seq=0, model=model) for alias, model in bases.items()
        }
        begun = {alias: Routes(alias=alias, epoch=0, stable=base)
                 for alias, base in self._bases.items()}  # fmt: skip
        self._table = begun | {alias: self._table[alias] for alias in begun if alias in self._table}

    def set(self, table: RouteTable) -> None:
        """Replace the routes in one step; requests under way keep theirs."""
        self._table = dict(table)

    @property
    def table(self) -> RouteTable:
        """The routes in force."""
        return self._table

    def aliases(self) -> Sequence[Alias]:
        """Name what clients may ask for, sorted."""
        return sorted(self._table)

    def in_flight(self, release: ReleaseName) -> int:
        """Count the requests that ``release`` is answering."""
        return self._in_flight[release]

    def counts(self) -> Mapping[ReleaseName, int]:
        """Count the requests under way, by release."""
        return dict(self._in_flight)

    def pick(
        self, alias: Alias, unit: str, conversation: ConversationId | None = None
    ) -> Pick | None:
        """Choose the release for a unit; None if there is no such alias.

        Args:
            alias: What the client asked for.
            unit: The user's pseudonym, or else the conversation.
            conversation: Stays where it began, if given.
        """
        routes = self._table.get(alias)
        if routes is None:
            return None
        if conversation is None or routes.canary is None:
            # Without a canary there is one release: nothing to remember but that it began there.
            picked = route(routes, unit)
        else:
            picked = self._stay(routes, conversation) or route(routes, unit)
        if conversation is not None:
            self._remember((alias, conversation), picked)
        return picked

    def admit(
        self, alias: Alias, unit: str, conversation: ConversationId | None = None
    ) -> Ticket | None:
        """Choose as ``pick`` does and count the request, in one step."""
        picked = self.pick(alias, unit, conversation)
        return None if picked is None else Ticket(self._in_flight, picked)

    def lost(self, alias: Alias, served: Served) -> Served | None:
        """Report that the upstream does not have ``served``; return what can answer instead.

        That is the stable release if another one was lost, and else the base.
        """
        self.on_lost(served.release)
        routes = self._table.get(alias)
        if routes is not None and routes.stable.release not in {served.release, BASE}:
            arms = {routes.canary.release} if routes.canary is not None else set()
            if served.release in arms:
                return routes.stable
        base = self._bases.get(alias)
        return base if base is not None and base.model != served.model else None

    def _stay(self, routes: Routes, conversation: ConversationId) -> Pick | None:
        before = self._conversations.get((routes.alias, conversation))
        if before is None:
            return None
        for arm, served in ((Arm.STABLE, routes.stable), (Arm.CANARY, routes.canary)):
            if served is not None and served.release == before.release:
                # It was assigned when it began: what was probable then is what is recorded. A
                # canary that became stable meanwhile is a new assignment of every conversation.
                same = before.arm is arm
                propensity = before.propensity if same else 1 - routes.canary_share
                return Pick(
                    served=served, arm=arm, propensity=propensity or 1.0, epoch=routes.epoch
                )
        return None

    def _remember(self, key: tuple[Alias, str], picked: Pick) -> None:
        self._conversations[key] = _Remembered(picked.served.release, picked.arm, picked.propensity)
        self._conversations.move_to_end(key)
        if len(self._conversations) > self._limit:
            self._conversations.popitem(last=False)
