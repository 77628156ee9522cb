"""Parts that need no GPU and no process: real classes, for whole turns of the loop."""

from feedbackloop.events import RunId
from feedbackloop.training.port import StepStatus
from feedbackloop.training.run import RunState


class MemoryLauncher:
    """Steps that run until a test says how they end. Held by ``contracts/test_launcher.py``."""

    def __init__(self) -> None:
        self.started = 0
        self._attempts: dict[tuple[RunId, RunState, int], StepStatus] = {}

    async def start(self, run: RunId, step: RunState, *, attempt: int) -> None:
        if (run, step, attempt) not in self._attempts:
            self.started += 1
            self._attempts[run, step, attempt] = StepStatus(state="running")

    async def status(self, run: RunId, step: RunState, *, attempt: int) -> StepStatus:
        return self._attempts.get((run, step, attempt), StepStatus(state="missing"))

    async def stop(self, run: RunId, step: RunState, *, attempt: int) -> None:
        if (await self.status(run, step, attempt=attempt)).state == "running":
            self.fail(run, step, attempt=attempt, reason="stopped", retryable=True)

    def finish(
        self, run: RunId, step: RunState, *, attempt: int, result: dict[str, object]
    ) -> None:
        """Let an attempt end with a result."""
        done = StepStatus(state="done", result=result, progress=1.0)
        self._attempts[run, step, attempt] = done

    def fail(
        self, run: RunId, step: RunState, *, attempt: int, reason: str, retryable: bool
    ) -> None:
        """Let an attempt end without one."""
        failed = StepStatus(state="failed", reason=reason, retryable=retryable)
        self._attempts[run, step, attempt] = failed

    def advance(self, run: RunId, step: RunState, *, attempt: int, progress: float) -> None:
        """Let an attempt say how far it is."""
        self._attempts[run, step, attempt] = StepStatus(state="running", progress=progress)
