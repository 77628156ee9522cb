"""What the sidecar's applications are made of."""

from collections.abc import Callable
from dataclasses import dataclass

from services.sidecar.caller import Identities
from services.sidecar.entrance import Entrance
from services.sidecar.readiness import Readiness
from services.sidecar.recording import Recorder
from services.sidecar.router import Convergence, Router
from services.sidecar.upstream import Upstream

Clock = Callable[[], int]
"""Nanoseconds since 1970, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything that answering a request takes.

    Attributes:
        name: Of this sidecar.
        entrance: Who may come in.
        server: The vLLM behind it.
        max_body_bytes: Largest request body.
        verify: Checks the signature of a release document, and returns the document.
        passed_on: OpenAI's routes that are passed on and not recorded.
        scores_prompts: Whether the upstream may be asked how likely a prompt is. vLLM with
            adapters may not: its engine dies of it as soon as others are answered at the same
            time (vllm-project/vllm#16668).
    """

    name: str
    router: Router
    server: Upstream
    recorder: Recorder
    identities: Identities
    entrance: Entrance
    convergence: Convergence
    readiness: Readiness
    clock: Clock
    max_body_bytes: int
    verify: Callable[[str], bytes]
    passed_on: frozenset[str] = frozenset()
    scores_prompts: bool = False
