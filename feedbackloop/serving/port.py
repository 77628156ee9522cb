"""What the loop asks of a policy server: load, unload, list, and answer probes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from feedbackloop.events import JsonObject, ReleaseName


class PolicyServer(Protocol):
    """One server that answers for a base and the adapters loaded on it.

    Promises, held by ``tests/contracts/test_policy_server.py``: a name is never loaded for other
    weights; loading what is loaded already is no error; unloading does not disturb requests
    that run.
    """

    async def load(self, release: ReleaseName, weights: Path) -> None:
        """Make ``release`` servable under its own name.

        Raises:
            AdapterRejected: If the server refuses the adapter, or has the name with other
                weights; trying again would not help.
            PolicyServerUnavailable: If the server did not answer, or failed on its own account.
        """
        ...

    async def unload(self, release: ReleaseName) -> None:
        """Make ``release`` unservable for new requests; no error if it was not loaded."""
        ...

    async def loaded(self) -> Mapping[ReleaseName, Path]:
        """Return what is servable beside the base, with the folder it was loaded from."""
        ...

    async def bases(self) -> Sequence[str]:
        """Name the bases that the server answers for, as clients would select them."""
        ...

    async def started_at(self) -> float:
        """Say when the server's process started, in seconds since 1970: a restart forgets."""
        ...

    async def score(
        self, model: str, prompt: Sequence[JsonObject], completion: str, *, tokens: int
    ) -> float:
        """Return the summed log-probability of ``completion`` after ``prompt``, in nats.

        Args:
            model: A release, or a base as named by ``bases``.
            prompt: Messages; the server applies its chat template.
            completion: The assistant's words, without an end token.
            tokens: How many tokens ``completion`` has, as the gate counted them.
        """
        ...
