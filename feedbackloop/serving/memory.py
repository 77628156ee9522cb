"""A policy server in a dictionary: reference and test double."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from feedbackloop.errors import AdapterRejected, PolicyServerUnavailable
from feedbackloop.events import JsonObject, ReleaseName


class MemoryPolicyServer:
    """Loads names; a test says which adapters it refuses and what it finds likely.

    Attributes:
        away: Whether it answers at all.
        refused: Folders that it cannot load.
        logps: What it finds of a completion, by model; 0 for what is not named.
        calls: Every load and unload, in order.
    """

    def __init__(self, base: str = "base") -> None:
        self.away = False
        self.refused: set[Path] = set()
        self.logps: dict[tuple[str, str], float] = {}
        self.calls: list[tuple[str, str]] = []
        self._base = base
        self._loaded: dict[ReleaseName, Path] = {}
        self._started_at = 1000.0

    def restart(self) -> None:
        """Forget everything, as a process does that was killed."""
        self._loaded.clear()
        self._started_at += 1

    async def load(self, release: ReleaseName, weights: Path) -> None:
        self._answer()
        known = self._loaded.get(release)
        if known is not None and known != weights:
            raise AdapterRejected(release, f"is loaded from {known}, not from {weights}")
        if weights in self.refused:
            raise AdapterRejected(release, "refused by the server")
        self.calls.append(("load", release))
        self._loaded[release] = weights

    async def unload(self, release: ReleaseName) -> None:
        self._answer()
        self.calls.append(("unload", release))
        self._loaded.pop(release, None)

    async def loaded(self) -> Mapping[ReleaseName, Path]:
        self._answer()
        return dict(self._loaded)

    async def bases(self) -> Sequence[str]:
        self._answer()
        return [self._base]

    async def started_at(self) -> float:
        self._answer()
        return self._started_at

    async def score(
        self, model: str, prompt: Sequence[JsonObject], completion: str, *, tokens: int
    ) -> float:
        del prompt, tokens
        self._answer()
        if model != self._base and model not in self._loaded:
            raise PolicyServerUnavailable(f"{model} is not loaded")
        return self.logps.get((model, completion), 0.0)

    def _answer(self) -> None:
        if self.away:
            raise PolicyServerUnavailable("away")
